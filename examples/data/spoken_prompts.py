"""Telephone prompts, each as sound and as text: Asterisk's, one speaker's, and made-up ones for smoke runs.

    asterisk-core-sounds-en-wav    the recordings, 8 kHz (Allison Smith; CC-BY-SA 3.0)
    asterisk-core-sounds-en        what is said in each, a line a recording: "digits/20: twenty"

A sound is float32 `[N]` without the silence around it; a text is its words, in lower case, with figures spelled and
without punctuation. Left out are recordings of no speech, whose line is in brackets, names of single letters and texts
of fewer than `LEAST` characters, and what is longer than `SECONDS`.
"""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from examples.data import spoken_digits
from examples.data.packages import fetch, read
from examples.data.spoken_digits import RATE, WORDS, draw, spell, trim
from jaxseq import data

LEAST, SECONDS = 3, 5
TEXTS = "asterisk-core-sounds-en_1.6.1-1_all.deb"
TEXTS_SHA256 = "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50"
SAID = dict(zip("0123456789*#@", (*WORDS, "star", "pound", "at"), strict=True))


class Prompts(NamedTuple):
    sounds: list[np.ndarray]  # of 8 kHz
    texts: list[str]  # may be of several sounds

    def take(self, rows: np.ndarray) -> "Prompts":
        """Returns the prompts numbered `rows`."""
        return Prompts([self.sounds[row] for row in rows], [self.texts[row] for row in rows])

    def split(self) -> tuple["Prompts", "Prompts", "Prompts"]:
        """Returns the parts for training, validation and test; no text is in two of them.

        In the latter two a text has one recording, its first, and their texts are even in number.
        """
        training, *held_out = data.split(len(self.texts), (0.6, 0.2, 0.2), seed=0, groups=self.texts)
        validation, test = (rows[data.unique(self.texts[row] for row in rows)] for rows in held_out)
        return self.take(training), self.take(validation[len(validation) % 2 :]), self.take(test[len(test) % 2 :])


def asterisk() -> Prompts:
    """Returns Asterisk's prompts, in the order of their list."""
    folder = "usr/share/doc/asterisk-core-sounds-en"
    texts = fetch("asterisk-core-sounds-en", "1.6.1-1", TEXTS, TEXTS_SHA256)
    lines = gzip.decompress(read(texts, f"{folder}/core-sounds-en.txt.gz")).decode()
    with spoken_digits.asterisk() as recordings:
        return read_prompts(recordings, lines)


def read_prompts(folder: Path, lines: str) -> Prompts:
    """Returns the prompts of a list whose recordings lie in a folder, without those that are too long."""
    named = [(folder / f"{name}.wav", text) for name, text in parse(lines)]
    found = [(data.read_wav(path), text) for path, text in named if path.exists()]  # the list has some more
    if any(rate != RATE for (_, rate), _ in found):
        raise ValueError(f"the recordings must be of {RATE} Hz; got {[rate for (_, rate), _ in found]}")
    pairs = [(trim(signal), text) for (signal, _), text in found]
    pairs = [(sound, text) for sound, text in pairs if len(sound) <= SECONDS * RATE]
    return Prompts([sound for sound, _ in pairs], [text for _, text in pairs])


def parse(lines: str) -> Iterator[tuple[str, str]]:
    """Yields names of recordings and their texts, but for those that are too short or no speech."""
    for line in lines.splitlines():
        name, colon, said = line.partition(": ")
        text = normalize(said)
        if colon and not line.startswith(";") and len(text) >= LEAST:
            yield name, text


def normalize(said: str) -> str:
    """Returns the words that are said; what stands in brackets is a remark.

    >>> normalize("... press 1, or #, at [@] O'Hare")
    'press one or pound at ohare'
    """
    said = re.sub(r"\[.*?\]|\(.*?\)|<.*?>", " ", said.lower()).replace("'", "")
    said = re.sub(r"[0-9*#@]", lambda found: f" {SAID[found[0]]} ", said)
    return " ".join(re.findall(r"[a-z]+", said))


def made_up(n: int) -> Prompts:
    """Returns n strings of two of the ten words in made-up sound."""
    clips, strings = spoken_digits.made_up(), draw((2,), n, 0, set())
    return Prompts([np.concatenate([clips[d] for d in digits]) for digits in strings], list(map(spell, strings)))
