"""Linear-Gaussian models by definition: the joint Gaussian of all states and observations, conditioned."""

import functools
import itertools
from typing import Any

import numpy as np
from scipy.linalg import block_diag

from jaxseq.structured.kalman import Params

T, AHEAD = 4, 2
GONE, MISSING, SEEN = range(3)
KINDS = np.array(list(itertools.product([GONE, MISSING, SEEN], repeat=T))).T  # all patterns [T, 3^T]
MASK, MISS, OBSERVED = KINDS != GONE, KINDS == MISSING, KINDS == SEEN
ROWS, X = KINDS.shape[1], 3
# Of the steps that are seen, some miss one feature, or two; of those missing all are.
MISS_SOME = MISS[..., None] | (np.random.default_rng(5).random((T, ROWS, X)) < 0.4)


def spd(rng, n):
    root = rng.normal(size=(n, n + 1))
    return root @ root.T


def regular(Z=2, X=3, seed=0):
    rng = np.random.default_rng(seed)
    normal = rng.normal
    transition = 0.7 * normal(size=(Z, Z))
    return Params(
        normal(size=Z),
        spd(rng, Z),
        transition,
        normal(size=Z),
        spd(rng, Z),
        normal(size=(X, Z)),
        normal(size=X),
        spd(rng, X),
    )


def by_step(seed=4):
    """Each param of its own at each step, the steps ahead too; some of its own in each row."""
    rng = np.random.default_rng(seed)
    normal, n = rng.normal, T + AHEAD
    spread = lambda count, N: np.stack([spd(rng, N) for _ in range(count)])
    return regular()._replace(
        transition=0.7 * normal(size=(n - 1, ROWS, 2, 2)),
        transition_bias=normal(size=(n - 1, ROWS, 2)),
        transition_cov=spread(n - 1, 2),
        observation=normal(size=(n, X, 2)),
        observation_bias=normal(size=(n, X)),
        observation_cov=spread(n * ROWS, X).reshape(n, ROWS, X, X),
    )


PARAMS = {
    "regular": regular(),
    # An autoregression of order 2 from a known start: no covariance of a state has an inverse.
    "singular": regular()._replace(
        initial_cov=np.zeros((2, 2)),
        transition=np.array([[0.6, 0.3], [1.0, 0.0]]),
        transition_bias=np.zeros(2),
        transition_cov=np.diag([0.4, 0.0]),
    ),
    "by step": by_step(),
}
FLAGS = {"steps": MISS, "features": MISS_SOME}


def xs_for(params, missing=MISS, seed=1):
    xs = np.random.default_rng(seed).normal(0, 2, (T, ROWS, params.observation.shape[-2]))
    missing = missing if missing.ndim == 3 else missing[..., None]
    return np.where(MASK[..., None] & ~missing, xs, np.nan)


def of_row(params, b) -> Params:
    """The params of a row, or of several, `[T, ...]` where they are given for each step."""
    ndims = {name: np.ndim(leaf) for name, leaf in regular()._asdict().items()}
    pick: Any = lambda name, leaf: leaf[:, b] if leaf is not None and leaf.ndim == ndims[name] + 2 else leaf
    return Params(**{name: pick(name, leaf) for name, leaf in params._asdict().items()})


def cut(params, n):
    """Those of the first n steps."""
    ndims = {name: np.ndim(leaf) for name, leaf in regular()._asdict().items()}
    size = {"initial": None, "transition": max(n - 1, 0), "observation": n}
    pick = lambda name, leaf: leaf if np.ndim(leaf) <= ndims[name] else leaf[: size[name.split("_")[0]]]
    return Params(**{name: pick(name, leaf) for name, leaf in params._asdict().items()})


class Exact:
    """One row: the joint Gaussian of its real steps' states and observations, and of those ahead, in one piece."""

    def __init__(self, params, xs, real, missing: bool | np.ndarray = False):
        self.steps = np.r_[np.flatnonzero(real), T : T + AHEAD]
        n, (X, Z) = len(self.steps), params.observation.shape[-2:]
        self.n, self.last, self.Z, self.X = n, n - AHEAD, Z, X
        missing = np.broadcast_to(np.reshape(missing, (-1, 1)) if np.ndim(missing) == 1 else missing, xs.shape)
        self.seen = [(k, i) for k in range(self.last) for i in range(X) if not missing[self.steps[k], i]]
        self.xs = {(k, i): xs[self.steps[k], i] for k, i in self.seen}

        def at(name, t, like) -> Any:
            """The param at the step it belongs to, what moves a state at the step it moves into."""
            leaf = getattr(params, name)
            leaf = np.zeros(like) if leaf is None else leaf
            return leaf if leaf.ndim == len(like) else leaf[t - name.startswith("transition")]

        self.moves: list[tuple[np.ndarray, np.ndarray]] = [
            (at("transition", t, (Z, Z)), at("transition_bias", t, (Z,))) for t in self.steps[1:]
        ]
        noises = [params.initial_cov, *(at("transition_cov", t, (Z, Z)) for t in self.steps[1:])]
        self.looks = [(at("observation", t, (X, Z)), at("observation_bias", t, (X,))) for t in self.steps]
        spread, pushed = np.zeros((n * Z, n * Z)), np.zeros(n * Z)
        for k in range(n):
            now, before = slice(k * Z, (k + 1) * Z), slice((k - 1) * Z, k * Z)
            spread[now, now] = np.eye(Z)
            pushed[now] = params.initial_mean
            if k:
                matrix, bias = self.moves[k - 1]
                spread[now, : k * Z] = matrix @ spread[before, : k * Z]
                pushed[now] = matrix @ pushed[before] + bias
        noise: Any = block_diag(*noises)
        z_cov = spread @ noise @ spread.T
        look: Any = block_diag(*(matrix for matrix, _ in self.looks))
        self.mean = np.concatenate([pushed, look @ pushed + np.concatenate([bias for _, bias in self.looks])])
        x_cov = look @ z_cov @ look.T + block_diag(*(at("observation_cov", t, (X, X)) for t in self.steps))
        self.cov = np.block([[z_cov, z_cov @ look.T], [look @ z_cov, x_cov]])

    def given(self, upto):
        """Mean and covariance of everything given the observations of real steps before `upto`; their log density."""
        seen = [(k, i) for k, i in self.seen if k < upto]
        places = np.array([self.n * self.Z + k * self.X + i for k, i in seen], int)
        wrong = np.array([self.xs[at] for at in seen]) - self.mean[places]
        s = self.cov[np.ix_(places, places)]
        gain = np.linalg.solve(s, self.cov[places]).T
        log_density = -0.5 * (wrong @ np.linalg.solve(s, wrong) + np.linalg.slogdet(2 * np.pi * s)[1])
        return self.mean + gain @ wrong, self.cov - gain @ self.cov[places], log_density

    def state(self, k, upto):
        mean, cov, _ = self.given(upto)
        place = slice(k * self.Z, (k + 1) * self.Z)
        return mean[place], cov[place, place]

    def results(self):
        Z, X, last = self.Z, self.X, self.last
        filtered = [np.zeros((T, Z)), np.zeros((T, Z, Z))]
        smoothed, cross = [np.zeros((T, Z)), np.zeros((T, Z, Z))], np.zeros((T - 1, Z, Z))
        mean, cov, log_likelihood = self.given(last)
        for k, t in enumerate(self.steps[:last]):
            filtered[0][t], filtered[1][t] = self.state(k, k + 1)
            smoothed[0][t], smoothed[1][t] = self.state(k, last)
            if k:
                cross[t - 1] = cov[(k - 1) * Z : k * Z, k * Z : (k + 1) * Z]
        states = [self.state(k, last) for k in range(last, last + AHEAD)]
        at = [slice(self.n * Z + k * X, self.n * Z + (k + 1) * X) for k in range(last, last + AHEAD)]
        ahead = np.array([m for m, _ in states]), np.array([c for _, c in states])
        x_ahead = np.array([mean[p] for p in at]), np.array([cov[p, p] for p in at])
        return log_likelihood, *filtered, *smoothed, cross, *ahead, *x_ahead


def joints(params, missing):
    xs = xs_for(params, missing)
    return [Exact(of_row(params, b), xs[:, b], MASK[:, b], missing[:, b]) for b in range(ROWS)]


@functools.cache
def exact(name, flags="steps"):
    rows = [joint.results() for joint in joints(PARAMS[name], FLAGS[flags])]
    return [np.stack(each, 0 if place == 0 else 1) for place, each in enumerate(zip(*rows, strict=True))]
