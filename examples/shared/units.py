"""Subword units of two languages together, as ids."""

from typing import NamedTuple

import numpy as np

from examples.data.bible import Verses
from examples.shared import subwords
from examples.shared.pairs import Pairs
from jaxseq import data

START, END = "<start>", "<end>"


class Units(NamedTuple):
    """From texts to ids, and back."""

    merges: list[tuple[str, str]]
    vocabulary: data.Vocabulary

    @classmethod
    def learn(cls, verses: Verses, count: int) -> "Units":
        """Returns the units of both languages together, so that a name can be copied unit by unit."""
        texts = [*verses.sources, *verses.targets]
        merges = subwords.learn(texts, count)
        return cls(merges, data.Vocabulary.build(subwords.split(texts, merges), specials=(START, END)))

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """Returns the ids of each text."""
        return [self.vocabulary.encode(units) for units in subwords.split(texts, self.merges)]

    def pairs(self, verses: Verses, longest: int) -> Pairs:
        """Returns the ids of both sides, but for a few long lists of names, so that one program fits all batches."""
        both = zip(self.encode(verses.sources), self.encode(verses.targets), strict=True)
        return Pairs(*zip(*(pair for pair in both if max(map(len, pair)) <= longest), strict=True))

    def decode(self, ids: np.ndarray) -> str:
        """Returns the text of some ids."""
        return subwords.join(self.vocabulary.decode(ids))
