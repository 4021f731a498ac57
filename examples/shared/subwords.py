"""Subword units by byte-pair encoding (Sennrich et al. 2016): a frequent word is one unit, a rare one is spelled.

A word begins as its characters, the first one with a mark before it for the space. The most frequent pair of neighbours
in the words of a text becomes one unit, again and again; these merges, in their order, spell any other word.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

SPACE = "▁"
Merges = Sequence[tuple[str, str]]


def learn(texts: Iterable[str], count: int) -> list[tuple[str, str]]:
    """Returns the first `count` merges of texts, whose words have spaces between them.

    >>> learn(["low low lower", "new newer"], 4)
    [('▁l', 'o'), ('▁lo', 'w'), ('e', 'r'), ('▁n', 'e')]
    """
    counts = Counter(word for text in texts for word in text.split())
    spelled, counts = [_characters(word) for word in counts], list(counts.values())
    pairs, where, merges = Counter(), defaultdict(set), []

    def tally(number, sign):
        for pair in pairwise(spelled[number]):
            pairs[pair] += sign * counts[number]
            where[pair].add(number)
            if not pairs[pair]:
                del pairs[pair]

    for number in range(len(spelled)):
        tally(number, 1)
    while len(merges) < count:
        best = max(pairs, key=lambda pair: pairs[pair], default=None)  # of equals the one that came first
        if best is None or pairs[best] < 2:
            break
        merges.append(best)
        for number in where.pop(best):
            if best in pairwise(spelled[number]):
                tally(number, -1)
                spelled[number] = _merge(spelled[number], best)
                tally(number, 1)
    return merges


def split(texts: Iterable[str], merges: Merges) -> list[list[str]]:
    """Returns the units of each text.

    >>> split(["slow new"], [("e", "w"), ("o", "w"), ("▁n", "ew")])
    [['▁s', 'l', 'ow', '▁new']]
    """
    rank, known = {pair: i for i, pair in enumerate(merges)}, {}

    def units(word):
        if word not in known:
            known[word] = _characters(word)
            while pairs := [pair for pair in pairwise(known[word]) if pair in rank]:
                known[word] = _merge(known[word], min(pairs, key=lambda pair: rank[pair]))
        return known[word]

    return [[unit for word in text.split() for unit in units(word)] for text in texts]


def join(units: Iterable[str]) -> str:
    """Returns the text of some units."""
    return "".join(units).replace(SPACE, " ").strip()


def _characters(word):
    return [SPACE + word[0], *word[1:]]


def _merge(units, pair):
    merged = []
    for unit in units:
        if merged and (merged[-1], unit) == pair:
            merged[-1] += unit
        else:
            merged.append(unit)
    return merged
