"""Taggers made by counting, beside those of `pos_tagging`: each word's most frequent tag, and a hidden Markov model.

    p(s, w) = p(s_1) Π_t p(s_t | s_{t-1}) Π_t p(w_t | s_t)          p(w | s) = p(s | w) p(w) / p(s)

where p(w), the same for all tags, may be left out. p(s | w) is counted, and leans on what is counted of more:

    p(s | w) = (n(w, s) + λ p(s | last character of w)) / (n(w) + λ)

the last characters are counted in words seen five times or less, and lean on all words seen once, the ones that words
not seen are most like (after Brants 2000).
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from examples.shared.taggers import predict
from jaxseq import data
from jaxseq.structured import hmm

RARE = 5


def count(words: list[list[str]], tags: list[np.ndarray], K: int) -> dict[str, np.ndarray]:
    """Returns how often each word had each of the K tags, `[K]` by word."""
    counts = defaultdict(lambda: np.zeros(K))
    for row, ids in zip(words, tags, strict=True):
        for word, tag in zip(row, ids, strict=True):
            counts[word][tag] += 1
    return dict(counts)


def most_frequent(counts: dict[str, np.ndarray]) -> Callable[[list[str]], np.ndarray]:
    """Returns the function from words to the tag that each most often had; if not seen, the most frequent one."""
    total: np.ndarray = np.sum(list(counts.values()), axis=0)
    return lambda words: np.array([counts.get(word, total).argmax() for word in words], int)


def emissions(counts: dict[str, np.ndarray], weight: float) -> Callable[[list[str]], np.ndarray]:
    """Returns the function from T words to log p(w | s), but for what is the same for all s: float32 `[T, K]`.

    Args:
      counts: of `count`.
      weight: λ above.
    """
    K = len(next(iter(counts.values())))
    endings = defaultdict(lambda: np.zeros(K))
    once, total = np.full(K, 1 / K), np.ones(K) + sum(counts.values())
    for word, row in counts.items():
        if row.sum() <= RARE:
            endings[word[-1]] += row
        if row.sum() == 1:
            once += row

    @functools.cache
    def emission(word):
        p = once / once.sum()
        for row in (endings.get(word[-1]), counts.get(word)):
            if row is not None:
                p = (row + weight * p) / (row.sum() + weight)
        return np.log(p) - np.log(total / total.sum())

    return lambda words: np.array([emission(word) for word in words], np.float32)


def chain(tags: list[np.ndarray], K: int) -> tuple[jax.Array, jax.Array]:
    """Returns log p(s_1) `[K]` and log p(s_t | s_{t-1}) `[K, K]` as counted, a tenth added to each count."""
    states, mask = data.pad(tags)
    return hmm.count(jnp.asarray(states.T), K, mask=jnp.asarray(mask.T), pseudocount=0.1)


@jax.jit
def decode(params: tuple[jax.Array, jax.Array], batch: Mapping[str, Any]) -> jax.Array:
    """Returns the most probable tags `[B, T]`, given `chain` and, as `log_obs` `[B, T, K]`, `emissions`."""
    return hmm.viterbi(*params, jnp.moveaxis(batch["log_obs"], 1, 0), mask=batch["mask"].T).states.T


def choose_emissions(
    counts: dict[str, np.ndarray],
    chain: tuple[jax.Array, jax.Array],
    words: list[list[str]],
    accuracy: Callable[[list[np.ndarray]], float],
) -> Callable[[list[str]], np.ndarray]:
    """Returns the emissions whose λ gives the most right tags of some words, as `accuracy` says of what was found."""
    candidates = [emissions(counts, weight) for weight in (0.1, 0.3, 1.0, 3.0)]
    rows = ({"log_obs": list(map(candidate, words))} for candidate in candidates)
    return candidates[int(np.argmax([accuracy(predict(decode, chain, row)) for row in rows]))]
