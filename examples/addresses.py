"""Addresses in the United States, each word labelled, and the ones that `address_parsing` reads.

    <AddressString><AddressNumber>60</AddressNumber> <StreetNamePreDirectional>East</StreetNamePreDirectional>
    <StreetName>Walton</StreetName> <StreetNamePostType>Street,</StreetNamePostType> <ZipCode>60611</ZipCode>
    </AddressString>

They are what the parser usaddress is trained on, and lie in its source archive, under the MIT licence. Of 1,513, some
were labelled twice: those of the same words are one, with the tags that it has first; 1,487 are left.
"""

import string
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from examples.packages import fetch, read
from jaxseq import data

ARCHIVE = "usaddress-0.5.16.tar.gz"
SHA256 = "f7e614e2489c159cf85be1b6f86edbfaf329dbeedef4d002a025757afd1ec6c6"


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
