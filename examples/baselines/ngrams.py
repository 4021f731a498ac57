"""The n-gram language model, interpolated by modified Kneser-Ney (Chen & Goodman 1999): a baseline in NumPy.

    p_k(w | h) = (c(hw) - D(c(hw))) / c(h) + Σ_w' D(c(hw')) / c(h) · p_{k-1}(w | h without its oldest id)
    p_0(w)     = 1 / V                  and where h was never seen, p_k = p_{k-1}

At the highest order c counts how often an n-gram occurs, below it how many different ids it was seen after. The
discounts D(1), D(2), D(3 and more) follow from how many n-grams occur once, twice, three and four times.

An n-gram is one number, its ids as digits of base V, so a table of counts is a sorted array, and the n-grams of one
history h lie side by side in it.
"""

from typing import NamedTuple

import numpy as np


class Table(NamedTuple):
    grams: np.ndarray  # int64 [N], sorted
    counts: np.ndarray  # [N]
    histories: np.ndarray  # int64 [M], sorted
    totals: np.ndarray  # [M], c(h)
    backoff: np.ndarray  # [M], the share that is left to p_{k-1}
    discounts: np.ndarray  # [4], by count 0, 1, 2, 3 and more


def bits_by_order(training: list[np.ndarray], held_out: list[np.ndarray], vocabulary: int, orders: int) -> np.ndarray:
    """Returns the bits of each id of `held_out`, in a row, by the models of order 1, 2, … `orders`: `[orders, N]`.

    Args:
      training, held_out: documents, ids `[N]`; the first id of each is given, not predicted.
      vocabulary: V; V ** orders must be below 2 ** 63.
      orders: the highest order.
    """
    if vocabulary**orders >= 2**63:
        raise ValueError(f"n-grams of order {orders} over {vocabulary} ids are no int64")
    bits, lower = [], 1 / vocabulary
    seen = [np.unique(_grams(training, order, vocabulary), return_counts=True) for order in range(1, orders + 1)]
    for order in range(1, orders + 1):
        asked = _grams(held_out, order, vocabulary)
        bits.append(-np.log2(_probabilities(_table(*seen[order - 1], vocabulary), asked, vocabulary, lower)))
        if order < orders:
            after = np.unique(seen[order][0] % vocabulary**order, return_counts=True)
            lower = _probabilities(_table(*after, vocabulary), asked, vocabulary, lower)
    return np.array(bits)


def bits_by_part(
    training: list[np.ndarray], parts: list[list[np.ndarray]], vocabulary: int, orders: int
) -> list[np.ndarray]:
    """Returns `bits_by_order` of each part, `[orders, N]`."""
    sizes = [sum(len(document) - 1 for document in part) for part in parts]
    bits = bits_by_order(training, [document for part in parts for document in part], vocabulary, orders)
    return np.split(bits, np.cumsum(sizes)[:-1], axis=1)


def _grams(documents, order, vocabulary):
    """The n-gram that ends at each id but the first of each document, whose history is filled up with zeros."""
    padded = [np.concatenate([np.zeros(max(order - 2, 0), np.int64), document]) for document in documents]
    first = max(2 - order, 0)  # order 1 has no history, yet predicts no first id either
    grams = []
    for document in padded:
        windows = np.lib.stride_tricks.sliding_window_view(document[first:], order)
        grams.append(windows @ vocabulary ** np.arange(order - 1, -1, -1))
    return np.concatenate(grams)


def _table(grams, counts, vocabulary):
    histories, starts = np.unique(grams // vocabulary, return_index=True)
    once, twice, thrice, more = np.maximum([(counts == k).sum() for k in (1, 2, 3, 4)], 1)
    y = once / (once + 2 * twice)
    discounts = np.array([0, 1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * more / thrice])
    discounts = np.clip(discounts, [0, 0.1, 0.1, 0.1], [0, 0.9, 1.9, 2.9])  # little data gives what is no discount
    totals = np.add.reduceat(counts, starts)
    backoff = np.add.reduceat(discounts[np.minimum(counts, 3)], starts) / totals
    return Table(grams, counts, histories, totals, backoff, discounts)


def _probabilities(table, grams, vocabulary, lower):
    counts = _look_up(table.grams, table.counts, grams, 0)
    histories = grams // vocabulary
    totals = _look_up(table.histories, table.totals, histories, 1)
    backoff = _look_up(table.histories, table.backoff, histories, 1.0)
    return (counts - table.discounts[np.minimum(counts, 3)]) / totals + backoff * lower


def _look_up(keys, values, wanted, missing):
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], missing)
