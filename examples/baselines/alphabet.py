"""Pronunciations by the word that begins alike."""

import bisect
import functools
import itertools
from collections.abc import Sequence

from examples.data.pronunciations import Lexicon, Phonemes


def pronounce(lexicon: Lexicon, known: Sequence[str], words: Sequence[str]) -> list[Phonemes]:
    """Returns how the known word is pronounced that begins with most of the same letters, for each word."""

    def in_common(word, other):
        return sum(itertools.takewhile(bool, map(str.__eq__, word, other)))

    known, said = sorted(known), []
    for word in words:
        place = bisect.bisect(known, word)
        neighbours = known[max(place - 1, 0) : place + 1]
        said.append(lexicon[max(neighbours, key=functools.partial(in_common, word))][0])
    return said
