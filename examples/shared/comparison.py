"""Sounds and texts, each compared with each by a model of both."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq.structured import ctc


class Compared(NamedTuple):
    """What comes of N sounds and N texts."""

    attention: jax.Array  # [N, N], scores of each sound with each text
    ctc: jax.Array  # [N, N], log-probabilities a letter
    xs: jax.Array  # [N, T, TOGETHER × BANDS], the frames
    mask: jax.Array  # bool [N, T]
    weights: jax.Array  # [N, S, T / 2], where the letters of each sound's own text look


@nnx.jit
def compare(model: Any, xs: jax.Array, mask: jax.Array, batch: Mapping[str, Any]) -> Compared:
    """Compares each sound with each text.

    Args:
      model: has the methods of `Matcher` in `examples/speech_and_text.py`.
      xs, mask: the frames of the sounds.
      batch: has the texts, `"ids"` and `"letter_mask"`, `[N, S]`.
    """
    ids, letter_mask = batch["ids"], batch["letter_mask"]
    (frames, log_probs), letters = model.hear(xs, mask), model.understand(ids, letter_mask)

    def one(sound):  # after the other: all of them at once would take much memory
        number, frames, log_probs, mask = sound
        scores, weights = model.score(frames[None], mask[None], letters, letter_mask)
        log_probs, time_mask = (jnp.repeat(leaf[:, None], len(letters), axis=1) for leaf in (log_probs, mask))
        nll = ctc.loss(log_probs, ids.T, mask=time_mask, label_mask=letter_mask.T)
        nll = jnp.minimum(nll / letter_mask.sum(axis=1), 100)  # not inf, where the text is too long
        return scores[0], -nll, weights[0, number]

    attention, log_likelihood, weights = jax.lax.map(one, (jnp.arange(len(xs)), frames, log_probs, mask))
    return Compared(attention, log_likelihood, xs, mask, weights)
