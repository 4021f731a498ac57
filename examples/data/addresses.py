"""Addresses in the United States, each word labelled, and the ones that `address_parsing` reads.

    <AddressString><AddressNumber>60</AddressNumber> <StreetNamePreDirectional>East</StreetNamePreDirectional>
    <StreetName>Walton</StreetName> <StreetNamePostType>Street,</StreetNamePostType> <ZipCode>60611</ZipCode>
    </AddressString>

They are what the parser usaddress is trained on, and lie in its source archive, under the MIT licence. Of 1,513, some
were labelled twice: those of the same words are one, with the tags that it has first; 1,487 are left.
"""

import re
import string
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from examples.data.packages import fetch, read
from jaxseq import data

ARCHIVE = "usaddress-0.5.16.tar.gz"
SHA256 = "f7e614e2489c159cf85be1b6f86edbfaf329dbeedef4d002a025757afd1ec6c6"
LETTERS = 12  # of a word, at most
ALPHABET = data.Vocabulary(("<pad>", "<unk>", *string.ascii_letters, *string.punctuation, "0"))


class Addresses(NamedTuple):
    words: list[list[str]]
    tags: list[list[str]]  # of each word

    def take(self, numbers: np.ndarray) -> "Addresses":
        """Returns the addresses with these numbers."""
        return Addresses(*([column[i] for i in numbers] for column in self))


def parse(xml: bytes) -> Addresses:
    """Parses a file of labelled addresses; words apart by spaces in one element have its tag each."""
    words, tags = [], []
    for address in ElementTree.fromstring(xml):
        labelled = [(word, part.tag) for part in address for word in (part.text or "").split()]
        if labelled:
            words.append([word for word, _ in labelled])
            tags.append([tag for _, tag in labelled])
    return Addresses(words, tags).take(data.unique(" ".join(row).lower() for row in words))


def usaddress() -> Addresses:
    """Returns the addresses in the package usaddress."""
    return parse(read(fetch("usaddress", "0.5.16", ARCHIVE, SHA256), "usaddress-0.5.16/training/labeled.xml"))


def made_up(size: int = 400, seed: int = 0) -> Addresses:
    """Returns made-up addresses of the same form for smoke runs: a street and a place have the same kinds of names."""
    source = np.random.default_rng(seed)
    letters = list(string.ascii_lowercase[:8])

    def names():
        return ["".join(source.choice(letters, 5)).capitalize() for _ in range(source.integers(1, 3))]

    words, tags = [], []
    for _ in range(size):
        street, place = names(), names()
        kind = [str(source.choice(["St", "Ave", "Road"]))] if source.integers(2) else []
        for part in (kind or street, place):
            part[-1] += ","
        parts = {
            "AddressNumber": [str(source.integers(1, 9999))],
            "StreetName": street,
            "StreetNamePostType": kind,
            "PlaceName": place,
            "StateName": [str(source.choice(["NH", "AL"]))],
            "ZipCode": [str(source.integers(10000, 99999))],
        }
        words.append([word for row in parts.values() for word in row])
        tags.append([tag for tag, row in parts.items() for _ in row])
    return Addresses(words, tags)


def plain(word: str) -> str:
    """Returns the word in lower case, each digit a 0, without what stands around it."""
    return re.sub(r"\d", "0", word.lower()).strip(string.punctuation)


def encode(words: list[list[str]], vocabulary: data.Vocabulary) -> dict[str, list[np.ndarray]]:
    """Returns the ids of words `[T_i]` and of their letters `[T_i, LETTERS]`: the first ones and the last."""

    def spell(word):
        letters = re.sub(r"\d", "0", word)
        letters = letters if len(letters) <= LETTERS else letters[: LETTERS // 2] + letters[-LETTERS // 2 :]
        return np.pad(ALPHABET.encode(letters), (0, LETTERS - len(letters)))

    return {
        "words": [vocabulary.encode([plain(word) for word in row]) for row in words],
        "letters": [np.array([spell(word) for word in row]) for row in words],
    }


def folds(count: int) -> Iterator[list[np.ndarray]]:
    """Yields, three times, the numbers of the addresses to train on, to validate and to test; none is tested twice."""
    tenths = data.split(count, [0.1] * 10, seed=0)
    for first in (0, 2, 4):
        validation, test = tenths[first + 2], np.concatenate(tenths[first : first + 2])
        yield [np.setdiff1d(np.arange(count), np.concatenate([validation, test])), validation, test]
