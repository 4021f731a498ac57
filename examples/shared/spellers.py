"""From the log-probabilities of letters and the blank (CTC) to texts: greedily, by beam search, and with words."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from examples.data.digit_strings import VOCABULARY
from examples.data.spoken_digits import lexicon
from jaxseq.structured import ctc

BEAM = 16


def make_decoders() -> dict[str, Callable]:
    """Returns functions `(log_probs, mask, weight, bonus) -> texts`; the latter two are the language model's."""
    words = lexicon(VOCABULARY)

    def with_words(log_probs, mask, weight, bonus):
        given = {"language_model": words, "carry": jnp.zeros(mask.shape[1], int), "weight": weight, "bonus": bonus}
        return ctc.beam_search(log_probs, BEAM, mask=mask, **given)

    def of(search):
        def decode(log_probs, mask, weight, bonus):
            labels, lengths, _ = (np.asarray(leaf) for leaf in run(log_probs, mask, weight, bonus))
            if lengths.ndim == 2:  # the best of the beam
                labels, lengths = labels[..., 0], lengths[:, 0]
            return ["".join(VOCABULARY.decode(row[:n])) for row, n in zip(labels.T, lengths, strict=True)]

        run = jax.jit(search)
        return decode

    return {
        "greedy": of(lambda log_probs, mask, *_: ctc.greedy(log_probs, mask=mask)),
        "beam search": of(lambda log_probs, mask, *_: ctc.beam_search(log_probs, BEAM, mask=mask)),
        "beam and words": of(with_words),
    }
