"""Transcripts of talk in CHAT files, `.cha`, the format of TalkBank, and the one that `pos_tagging` reads.

A line is a tier, and one that starts with a tab goes on with the tier before. `@` says something of the recording, `*`
is what someone said, and `%mor` below it the tag and the sound of each word; punctuation marks stand for themselves:

    @Tape Number:    001
    *XXA:    你 老公 有冇 平 機票 啊 ?
    %mor:    r|nei5 n|lou5gung1 v1|jau5mou5 a|peng4 n|gei1piu3 y|aa3 ?

The Hong Kong Cantonese Corpus (Luke & Wong 2015, Journal of Chinese Linguistics Monograph 25) are conversations and
radio talk of 1997 and 1998, every word tagged. It lies in the package pycantonese, under the licence CC BY 4.0.
"""

import zipfile
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import numpy as np

from examples.data.packages import fetch
from jaxseq import data

WHEEL = "pycantonese-5.0.0-cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
SHA256 = "4a010973683fb8d14313ef44cdf7a4ded1adbe1a1bc64c93d0f75e65f141dd1a"

PUNCTUATION, LONGEST = ".", 48


class Talk(NamedTuple):
    words: list[list[str]]  # of each utterance
    tags: list[list[str]]  # of each word; those of punctuation marks are `PUNCTUATION`
    recordings: list[str]  # the one each utterance is of

    def take(self, numbers: np.ndarray) -> "Talk":
        """Returns the utterances with these numbers."""
        return Talk(*([column[i] for i in numbers] for column in self))

    def split(self, fractions: tuple[float, ...] = (0.8, 0.1, 0.1)) -> list["Talk"]:
        """Returns the parts to train on, to validate and to test, always the same; no recording is in two."""
        return [self.take(part) for part in data.split(len(self.words), fractions, seed=0, groups=self.recordings)]


def parse(text: str) -> Talk:
    """Parses a file; what is said without a tier of tags is left out, and what is longer than `LONGEST` words is cut.

    Raises:
      ValueError: there are not as many tags as words, or the file does not say which recording it is.
    """
    talk, recording, words = Talk([], [], []), None, []
    for tier in text.replace("\n\t", " ").splitlines():
        name, _, content = tier.partition(":\t")
        if name == "@Tape Number":
            recording = content.strip()
        elif name.startswith("*"):
            words = content.split()
        elif name == "%mor":
            items = content.split()
            if len(items) != len(words) or recording is None:
                raise ValueError(f"there must be a `@Tape Number`, and a tag for each word of {words}; got {items}")
            tags = [item.split("|")[0] if "|" in item else PUNCTUATION for item in items]
            for start in range(0, len(words), LONGEST):
                talk.words.append(words[start : start + LONGEST])
                talk.tags.append(tags[start : start + LONGEST])
                talk.recordings.append(recording)
    return talk


def join(talks: Iterable[Talk]) -> Talk:
    """Returns the utterances of several files together."""
    return Talk(*(list(chain.from_iterable(columns)) for columns in zip(*talks, strict=True)))


def hkcancor() -> Talk:
    """Returns the Hong Kong Cantonese Corpus."""
    with zipfile.ZipFile(fetch("pycantonese", "5.0.0", WHEEL, SHA256)) as wheel:
        files = sorted(name for name in wheel.namelist() if "/hkcancor/" in name and name.endswith(".cha"))
        return join(parse(wheel.read(name).decode()) for name in files)


def made_up(size: int = 400, seed: int = 0) -> Talk:
    """Returns made-up talk of the same form for smoke runs: whether a word is a noun or a verb, its neighbour tells."""
    source = np.random.default_rng(seed)
    characters = [chr(0x4E00 + number) for number in range(20)]
    stems = [first + second for first in characters for second in characters]
    closed = {"r": ["我", "你", "佢"], "q": ["個", "隻", "條"], "y": ["啊", "喇"], PUNCTUATION: [".", "?"]}
    forms = ("r v q n y .", "q n v r .", "r v q n .")
    talk = Talk([], [], [])
    for number in range(size):
        tags = [str(tag) for tag in forms[source.integers(len(forms))].split()]
        talk.words.append([str(source.choice(closed.get(tag, stems))) for tag in tags])
        talk.tags.append(tags)
        talk.recordings.append(str(number // 10))
    return talk
