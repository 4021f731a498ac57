"""The verses of `translation`: the Bible in English and in Spanish, both in the public domain.

English is the World English Bible, Spanish the Reina-Valera of 1909, of the Debian packages sword-text-web and
sword-text-sparv, which pysword reads verse by verse, as OSIS, a markup in XML. A verse is known by its number. In some
chapters one book counts a verse more than the other, and pairs are not of the same verse: those of very different
length are dropped, the rest of them stay.
"""

import functools
import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

from examples.data.packages import fetch, unpacked
from jaxseq import data

ENGLISH = ("sword-text-web", "426.0-1", "sword-text-web_426.0-1_all.deb")
ENGLISH_SHA256 = "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1"
SPANISH = ("sword-text-sparv", "2.60-1", "sword-text-sparv_2.60-1_all.deb")
SPANISH_SHA256 = "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf"


class Verses(NamedTuple):
    """Texts of both sides, in lower case, without punctuation: words with a space between them."""

    sources: list[str]
    targets: list[str]

    def take(self, numbers) -> "Verses":
        """Returns those with these numbers."""
        return Verses([self.sources[i] for i in numbers], [self.targets[i] for i in numbers])

    def split(self, fractions: tuple[float, ...] = (0.85, 0.05, 0.10)) -> list["Verses"]:
        """Returns the parts to train on, to validate and to test, always the same."""
        return [self.take(part) for part in data.split(len(self.sources), fractions, seed=0)]


def verses() -> Verses:
    """Returns the verses that have 20 words at most in both languages, each text once."""
    english, spanish = (read(fetch(*ENGLISH, ENGLISH_SHA256)), read(fetch(*SPANISH, SPANISH_SHA256)))
    return select(pair for at in spanish for pair in zip(english.get(at, ()), spanish[at], strict=False))


def read(package: Path) -> dict[tuple[str, int], list[str]]:
    """Returns the verses of a package, in OSIS, by book and chapter."""
    from pysword.modules import SwordModules  # here, as a smoke run does without

    with unpacked(package) as folder:
        modules = SwordModules(f"{folder}/usr/share/sword")
        (name,) = modules.parse_modules()
        bible: Any = modules.get_bible_from_module(name)
        # A book is one compressed block, which pysword would unpack for each of its verses.
        bible._decompressed_text = functools.cache(bible._decompressed_text)
        return {
            (book.name, chapter): list(bible.get_iter(books=book.name, chapters=chapter, clean=False))
            for books in bible.get_structure().get_books().values()
            for book in books
            for chapter in range(1, book.num_chapters + 1)
        }


def plain(osis: str) -> str:
    """Returns the words of a verse in OSIS, without its notes.

    >>> plain('<w lemma="strong:H0430">God</w><note>Hebrew: <rdg>Elohim</rdg></note><w>created</w> “<w>Light</w>!”')
    'god created light'
    """
    text = re.sub(r"<(note|speaker)\b.*?</\1>", " ", osis, flags=re.DOTALL)
    text = re.sub(r"</?[wq]\b[^>]*>", "", text)  # words and quotations, with their spaces outside
    return " ".join(word for word in data.words(re.sub(r"<[^>]*>", " ", text)) if word not in "!?")


def select(pairs, longest: int = 20) -> Verses:
    """Returns the pairs of verses in OSIS that are short, and half to twice as long as each other; each text once."""
    texts = [(plain(source), plain(target)) for source, target in pairs]
    sizes = [(len(source.split()), len(target.split())) for source, target in texts]
    kept = [pair for pair, (s, t) in zip(texts, sizes, strict=True) if 0 < max(s, t) <= longest and s <= 2 * t <= 4 * s]
    for side in (0, 1):  # what comes again, in a parallel book or as a formula, would be in two parts
        kept = [kept[i] for i in data.unique(pair[side] for pair in kept)]
    return Verses([source for source, _ in kept], [target for _, target in kept])


def made_up() -> Verses:
    """Returns sentences of a few words; in their translation adjectives stand behind the nouns."""
    nouns, verbs = (("dog", "perro"), ("fox", "zorro"), ("bird", "pájaro")), (("sees", "ve"), ("hears", "oye"))
    adjectives = (("red", "rojo"), ("old", "viejo"), ("small", "pequeño"), ("", ""))
    return select(
        (f"the {a} {b} {c} the {d} {e}", f"el {y} {x} {z} el {v} {w}")
        for (a, x), (b, y), (c, z), (d, w), (e, v) in itertools.product(adjectives, nouns, verbs, adjectives, nouns)
    )
