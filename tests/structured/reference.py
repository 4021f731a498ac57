"""A chain's paths, one by one, in float64: the oracle of everything in `jaxseq.structured`."""

import itertools
from collections.abc import Iterator

import numpy as np


def all_masks(T: int) -> np.ndarray:
    """Returns every mask of T steps, bool `[T, 2^T]`."""
    return np.array(list(itertools.product([False, True], repeat=T))).reshape(2**T, T).T


def paths(initial, transition, scores, final, mask) -> Iterator[tuple[dict[int, int], float]]:
    """Yields each path of one row, its state by the step it stands at, and its score.

    `initial`, `final` `[K]`, `transition` `[K, K]` or `[T-1, K, K]`, `scores` `[T, K]`, `mask` `[T]`.
    """
    steps = np.flatnonzero(mask)
    for states in itertools.product(range(scores.shape[-1]), repeat=len(steps)):
        path = dict(zip(steps.tolist(), states, strict=True))
        score = 0.0
        if states:
            score = initial[states[0]] + final[states[-1]] + sum(scores[t, s] for t, s in path.items())
        for (_, before), (t, after) in itertools.pairwise(path.items()):
            score += (transition if transition.ndim == 2 else transition[t - 1])[before, after]
        yield path, float(score)


class Exact:
    """What one row's paths add up to; arguments as for `paths`."""

    def __init__(self, initial, transition, scores, final, mask):
        self.T, self.K = scores.shape
        self.mask = np.asarray(mask)
        self.paths = list(paths(initial, transition, scores, final, mask))
        self.log_partition = np.logaddexp.reduce([score for _, score in self.paths])

    def probability(self, holds) -> float:
        """Returns the probability of the paths for which `holds(path)`; 0 where no path is possible."""
        if np.isneginf(self.log_partition):
            return 0.0
        return sum(np.exp(score - self.log_partition) for path, score in self.paths if holds(path))

    def marginals(self) -> np.ndarray:
        """Returns p(s_t) `[T, K]`, 0 on False steps."""
        return np.array(
            [[self.probability(lambda path: path.get(t) == s) for s in range(self.K)] for t in range(self.T)]  # noqa: B023
        ).reshape(self.T, self.K)

    def pairs(self) -> np.ndarray:
        """Returns p(s_{t-1}, s_t) `[T-1, K, K]`, the state before being that of the real step before."""
        table = np.zeros((max(self.T - 1, 0), self.K, self.K))
        for before, t in itertools.pairwise(np.flatnonzero(self.mask).tolist()):
            for i, j in itertools.product(range(self.K), repeat=2):
                table[t - 1, i, j] = self.probability(lambda path: path[before] == i and path[t] == j)  # noqa: B023
        return table

    def best(self) -> tuple[list[int], float]:
        """Returns the best path's states, -1 on False steps, and its score."""
        path, score = max(self.paths, key=lambda pair: pair[1])
        return [path.get(t, -1) for t in range(self.T)], score
