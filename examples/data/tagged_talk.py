"""Tagged talk as ids: words, the pieces that they are spelled by, and tags.

A word's pieces are its first and its last character, marked as such, and then all its characters.
"""

import functools
from typing import NamedTuple

import numpy as np

from examples.data.chat_files import PUNCTUATION, Talk
from jaxseq import data

PIECES = 8


class Vocabularies(NamedTuple):
    """From words, pieces and tags to ids."""

    words: data.Vocabulary
    pieces: data.Vocabulary
    tags: data.Vocabulary


def pieces(word: str) -> list[str]:
    """Returns the word's first and last character, marked as such, and then all; PIECES at most."""
    return [f"^{word[0]}", f"{word[-1]}$", *word][:PIECES]


def make_vocabularies(talk: Talk) -> Vocabularies:
    """Returns those of the part to train on; of words and pieces, the ones that come twice."""
    spelled = [pieces(word) for words in talk.words for word in words]
    words, tags = data.Vocabulary.build(talk.words, min_count=2), data.Vocabulary.build(talk.tags)
    return Vocabularies(words, data.Vocabulary.build(spelled, min_count=2), tags)


class Part(NamedTuple):
    """A part of the data, as it is read and scored."""

    talk: Talk
    inputs: dict[str, list[np.ndarray]]  # ids of each utterance: words [T_i], pieces [T_i, PIECES]
    tags: list[np.ndarray]  # ids [T_i]
    labels: np.ndarray  # the tags of all utterances in a row, int [N]
    scored: np.ndarray  # bool [N], False for punctuation

    def accuracy(self, found: list[np.ndarray]) -> float:
        """Returns the share of right tags among those that were found for each utterance."""
        return float((np.concatenate(found) == self.labels)[self.scored].mean())


def encode_words(utterances: list[list[str]], vocabularies: Vocabularies) -> dict[str, list[np.ndarray]]:
    """Returns words `[T_i]` and their pieces `[T_i, PIECES]`, as ids."""

    @functools.cache
    def spell(word):
        ids = vocabularies.pieces.encode(pieces(word))
        return np.pad(ids, (0, PIECES - len(ids)))

    return {
        "words": [vocabularies.words.encode(words) for words in utterances],
        "pieces": [np.array([spell(word) for word in words]) for words in utterances],
    }


def encode(talk: Talk, vocabularies: Vocabularies) -> Part:
    """Returns talk as ids."""
    tags = [vocabularies.tags.encode(tags) for tags in talk.tags]
    scored = np.array([tag != PUNCTUATION for tags in talk.tags for tag in tags])
    return Part(talk, encode_words(talk.words, vocabularies), tags, np.concatenate(tags), scored)
