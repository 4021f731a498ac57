"""Spoken strings of digits as batches of sounds and letters."""

from collections.abc import Sequence

import numpy as np

from examples.data.spoken_digits import RATE, WORDS, speak, spell
from jaxseq import data

BATCH, EVERY = 32, 100
VOCABULARY = data.Vocabulary.build([" ".join(WORDS)], padding="<blank>", unknown=None)
HEARD = (5, 40)  # signal to noise in training, dB


def make_batch(clips, strings: Sequence[Sequence[int]], random: np.random.Generator, decibels) -> data.Batch:
    """Returns the sound of some strings, padded to whole seconds, and the letters."""
    signal, real = data.pad([speak(clips, digits, random, decibels=decibels) for digits in strings], multiple=RATE)
    texts = [VOCABULARY.encode(spell(digits)) for digits in strings]
    labels, label_mask = data.pad(texts, length=6 * max(map(len, strings)))
    return {"signal": signal, "real": real, "labels": labels, "label_mask": label_mask}


def training(clips, lengths: Sequence[int], held_out: set[tuple[int, ...]], seed: int) -> data.Loader:
    """Returns new batches without end, EVERY an epoch; the strings of a batch are of one length: little is padding."""

    def plan(epoch):
        def batch(i):
            random, strings = np.random.default_rng([seed, epoch, i]), []
            while len(strings) < BATCH:
                string = tuple(random.integers(10, size=lengths[i % len(lengths)]).tolist())
                if string not in held_out:
                    strings.append(string)
            return make_batch(clips, strings, random, HEARD)

        return batch

    return data.Loader(EVERY, plan)
