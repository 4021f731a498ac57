"""Spoken prompts as batches of sounds and letters, of few shapes."""

import math
from collections.abc import Sequence

import numpy as np

from examples.data.spoken_digits import RATE, speak
from examples.data.spoken_prompts import SECONDS, Prompts
from jaxseq import data

SPOKEN, LETTERS = round(1.875 * RATE), 28  # shapes are once, twice, four times these: samples, and letters
VOCABULARY = data.Vocabulary.build(["abcdefghijklmnopqrstuvwxyz "], padding="<blank>", unknown=None)
EVERY = 50


def make_batch(sounds: Sequence[np.ndarray], texts: Sequence[str]) -> data.Batch:
    """Returns sounds and texts, both padded to as many of their units, a power of two: few shapes are compiled."""
    units = max(max(map(len, sounds)) / SPOKEN, max(map(len, texts)) / LETTERS)
    units = 2 ** max(0, math.ceil(math.log2(units)))
    signal, real = data.pad(sounds, length=units * SPOKEN)
    ids, letter_mask = data.pad([VOCABULARY.encode(text) for text in texts], length=units * LETTERS)
    return {"signal": signal, "real": real, "ids": ids, "letter_mask": letter_mask}


def as_batch(part: Prompts) -> data.Batch:
    """Returns a part as it is, but for the loudness and noise 30 dB below the voice."""
    spoken = [
        speak(part.sounds, [row], np.random.default_rng(row), decibels=(30, 30), spread=0)
        for row in range(len(part.texts))
    ]
    return make_batch(spoken, part.texts)


def training(part: Prompts, size: int, most: int, seed: int) -> data.Loader:
    """Returns new batches without end: one to `most` recordings, one after the other, of about as many letters."""

    def plan(epoch):
        def batch(i):
            random, drawn = np.random.default_rng([seed, epoch, i]), {}
            while len(drawn) < 4 * size:
                rows = random.integers(len(part.texts), size=1 + i % most)
                if sum(len(part.sounds[row]) for row in rows) <= SECONDS * RATE:
                    drawn[" ".join(part.texts[row] for row in rows)] = rows  # no text twice
            start = random.integers(3 * size)
            texts = sorted(drawn, key=len)[start : start + size]
            given = {"decibels": (5, 40), "spread": 0.15}
            return make_batch([speak(part.sounds, drawn[text], random, **given) for text in texts], texts)

        return batch

    return data.Loader(EVERY, plan)
