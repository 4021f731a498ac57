"""Kalman filtering, smoothing and learning against the joint Gaussian of all states and observations, conditioned."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import block_diag, expm

from jaxseq.structured import kalman
from jaxseq.structured.kalman import Params

pytestmark = pytest.mark.usefixtures("x64")

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


def of_row(params, b):
    """The params of a row, or of several, `[T, ...]` where they are given for each step."""
    ndims = dict(zip(Params._fields, map(np.ndim, regular()), strict=True))
    pick = lambda name, leaf: leaf[:, b] if leaf is not None and leaf.ndim == ndims[name] + 2 else leaf
    return Params(*(pick(name, leaf) for name, leaf in params._asdict().items()))


def cut(params, n):
    """Those of the first n steps."""
    ndims = dict(zip(Params._fields, map(np.ndim, regular()), strict=True))
    size = {"initial": None, "transition": max(n - 1, 0), "observation": n}
    pick = lambda name, leaf: leaf if np.ndim(leaf) <= ndims[name] else leaf[: size[name.split("_")[0]]]
    return Params(*(pick(name, leaf) for name, leaf in params._asdict().items()))


class Exact:
    """One row: the joint Gaussian of its real steps' states and observations, and of those ahead, in one piece."""

    def __init__(self, params, xs, real, missing=False):
        self.steps = np.r_[np.flatnonzero(real), T : T + AHEAD]
        n, (X, Z) = len(self.steps), params.observation.shape[-2:]
        self.n, self.last, self.Z, self.X = n, n - AHEAD, Z, X
        missing = np.broadcast_to(np.reshape(missing, (-1, 1)) if np.ndim(missing) == 1 else missing, xs.shape)
        self.seen = [(k, i) for k in range(self.last) for i in range(X) if not missing[self.steps[k], i]]
        self.xs = {(k, i): xs[self.steps[k], i] for k, i in self.seen}

        def at(name, t, like):
            """The param at the step it belongs to, what moves a state at the step it moves into."""
            leaf = getattr(params, name)
            leaf = np.zeros(like) if leaf is None else leaf
            return leaf if leaf.ndim == len(like) else leaf[t - name.startswith("transition")]

        self.moves = [(at("transition", t, (Z, Z)), at("transition_bias", t, (Z,))) for t in self.steps[1:]]
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
        z_cov = spread @ block_diag(*noises) @ spread.T
        look = block_diag(*(matrix for matrix, _ in self.looks))
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


NAMES = ["log_likelihood", "filter", "filter", "smooth", "smooth", "pairs", "predict", "predict", "predict", "predict"]


@functools.partial(jax.jit, static_argnames="parallel")
def everything(params, xs, mask=None, missing=None, parallel=False):
    options = {"mask": mask, "missing": missing, "parallel": parallel}
    ahead, params = kalman.predict(params, xs, AHEAD, **options), cut(params, T)
    return (
        kalman.log_likelihood(params, xs, **options),
        *kalman.filter(params, xs, **options),
        *kalman.smooth(params, xs, **options),
        kalman.pairs(params, xs, **options),
        *ahead.states,
        *ahead.observations,
    )


def assert_all_close(got, want, tolerance=1e-9):
    for name, one, other in zip(NAMES, got, want, strict=True):
        assert one.shape == other.shape, name
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(("name", "flags"), [("regular", "steps"), ("singular", "features"), ("by step", "features")])
def test_all_patterns_of_flags_against_the_joint_gaussian(name, flags, parallel):
    got = everything(PARAMS[name], xs_for(PARAMS[name], FLAGS[flags]), MASK, FLAGS[flags], parallel=parallel)
    assert_all_close(got, exact(name, flags))


@pytest.mark.parametrize(("some_missing", "parallel"), [(True, False), (False, True)])
def test_flags_left_out_and_any_batch_axes(some_missing, parallel):
    rng = np.random.default_rng(2)
    params, xs, missing = PARAMS["regular"], rng.normal(size=(T, 9, 9, 3)), rng.random((T, 9, 9)) < some_missing / 2
    options = {"missing": missing if some_missing else None, "parallel": parallel}
    xs = np.where(missing[..., None], np.nan, xs)
    smoothed = jax.jit(lambda xs: kalman.smooth(params, xs, **options))(xs)
    flat = everything(params, xs.reshape(T, 81, 3), np.ones((T, 81), bool), missing.reshape(T, 81), parallel=parallel)
    for one, other in zip(smoothed, flat[3:5], strict=True):
        np.testing.assert_allclose(one.reshape(other.shape), other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("parallel", [False, True])
def test_no_step_and_one_without_batch_axes(parallel):
    params = PARAMS["regular"]

    @jax.jit
    def run(xs):
        return kalman.log_likelihood(params, xs, parallel=parallel), kalman.smooth(params, xs, parallel=parallel)

    log_likelihood, smoothed = run(np.ones((0, 3)))
    assert log_likelihood == 0
    assert (smoothed.mean.shape, smoothed.cov.shape) == ((0, 2), (0, 2, 2))
    want = Exact(params, np.ones((1, 3)), np.array([True]))
    log_likelihood, smoothed = run(np.ones((1, 3)))
    np.testing.assert_allclose(log_likelihood, want.given(1)[2], rtol=1e-12)
    np.testing.assert_allclose(smoothed.mean[0], want.state(0, 1)[0], rtol=1e-12)
    shapes = jax.eval_shape(lambda xs: kalman.pairs(params, xs, parallel=parallel), np.ones((0, 7, 3)))
    assert shapes.shape == (0, 7, 2, 2)


@functools.partial(jax.jit, static_argnames="parallel")
def value_and_gradients(params, xs, parallel):
    weights = np.random.default_rng(3).normal(size=(T, ROWS, 2))
    options = {"mask": MASK, "missing": MISS_SOME, "parallel": parallel}

    def value(params, xs):
        smoothed = kalman.smooth(params, xs, **options)
        return jnp.mean(kalman.log_likelihood(params, xs, **options)) + jnp.mean(
            weights * (smoothed.mean + smoothed.cov[..., 0])
        )

    return jax.value_and_grad(value, (0, 1))(params, xs)


@pytest.mark.parametrize(("name", "parallel"), [("by step", False), ("singular", True)])
def test_gradients_against_finite_differences_beside_hidden_nans(name, parallel):
    at = (cut(PARAMS[name], T), xs_for(PARAMS[name], MISS_SOME))  # NaN where nothing is seen
    gradients = value_and_gradients(*at, parallel=parallel)[1]
    assert not gradients[1][~MASK[..., None] | MISS_SOME].any()
    for seed in range(3):
        normal = np.random.default_rng(seed).normal
        direction = jax.tree.map(lambda leaf, normal=normal: normal(size=leaf.shape), at)
        there, back = (jax.tree.map(lambda x, d, e=e: x + e * d, at, direction) for e in (1e-5, -1e-5))
        slope = (
            value_and_gradients(*there, parallel=parallel)[0] - value_and_gradients(*back, parallel=parallel)[0]
        ) / 2e-5
        along = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradients, direction)
        np.testing.assert_allclose(sum(jax.tree.leaves(along)), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["transition_bias", "observation_bias"])
def test_no_bias_is_a_bias_of_zeros(name):
    params, xs = PARAMS["regular"], np.ones((T, 3))
    without = jax.jit(kalman.log_likelihood)(params._replace(**{name: None}), xs)
    zeros = params._replace(**{name: np.zeros_like(getattr(params, name))})
    assert without == jax.jit(kalman.log_likelihood)(zeros, xs)


def numpy_filter(params, xs):
    """Kalman's recursion, one row, in float64; the log-likelihood."""
    params = Params(*(np.asarray(leaf, np.float64) for leaf in params))
    mean, cov, total = params.initial_mean, params.initial_cov, 0.0
    for t, x in enumerate(np.asarray(xs, np.float64)):
        if t:
            mean = params.transition @ mean + params.transition_bias
            cov = params.transition @ cov @ params.transition.T + params.transition_cov
        s = params.observation @ cov @ params.observation.T + params.observation_cov
        wrong = x - params.observation @ mean - params.observation_bias
        total -= 0.5 * (wrong @ np.linalg.solve(s, wrong) + np.linalg.slogdet(2 * np.pi * s)[1])
        gain = np.linalg.solve(s, params.observation @ cov).T
        mean, cov = mean + gain @ wrong, cov - gain @ params.observation @ cov
    return total, mean


def test_ten_thousand_steps_in_float32():
    params = jax.tree.map(np.float32, PARAMS["regular"])

    @jax.jit
    def run(key, params):
        _, xs = kalman.sample(key, params, 10_000)
        value, gradient = jax.value_and_grad(kalman.log_likelihood)(params, xs)
        return xs, value, kalman.smooth(params, xs), gradient, kalman.log_likelihood(params, xs, parallel=True)

    xs, value, smoothed, gradient, side_by_side = jax.tree.map(np.asarray, run(jax.random.key(0), params))
    want, last = numpy_filter(params, xs)
    assert value.dtype == smoothed.cov.dtype == np.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose([value, side_by_side], want, rtol=1e-5)
    np.testing.assert_allclose(smoothed.mean[-1], last, rtol=1e-4, atol=1e-4)
    assert np.linalg.eigvalsh(smoothed.cov).min() > 0


def assert_moments(draws, mean, cov):
    """Draws `[N, n]` have the mean and covariance, within what N of them let one see."""
    N = len(draws)
    off = draws - mean
    scale = np.diag(cov)
    noise = np.sqrt(scale / N) + 1e-9
    assert np.all(np.abs(off.mean(0)) < 5 * noise)
    noise = np.sqrt((np.outer(scale, scale) + cov**2) / N) + 1e-9
    assert np.all(np.abs(off.T @ off / N - cov) < 5 * noise)


@functools.partial(jax.jit, static_argnums=2)
def draws_of(key, params, N):
    states, xs = kalman.sample(key, cut(params, T), T, batch_shape=(2, N // 2))
    return states, xs, kalman.sample(key, cut(params, 0), 0)[1]


@pytest.mark.parametrize("name", PARAMS)
def test_draws_have_the_joint_gaussian(name):
    params, N = of_row(PARAMS[name], 0), 20_000
    states, xs, nothing = map(np.asarray, draws_of(jax.random.key(0), params, N))
    Z, X = states.shape[-1], xs.shape[-1]
    assert states.shape == (T, 2, N // 2, Z)
    joint = Exact(params, np.zeros((T, X)), np.full(T, True), np.full(T, True))
    n = joint.n
    places = np.r_[: T * Z, n * Z : n * Z + T * X]
    draws = np.concatenate([np.moveaxis(part.reshape(T, N, -1), 0, 1).reshape(N, -1) for part in (states, xs)], 1)
    assert_moments(draws, joint.mean[places], joint.cov[np.ix_(places, places)])
    assert nothing.shape == (0, X)


@functools.partial(jax.jit, static_argnames="parallel")
def sample_posterior(keys, params, xs, mask, missing, parallel):
    options = {"mask": mask, "missing": missing, "parallel": parallel}
    return jax.vmap(lambda key: kalman.sample_posterior(key, params, xs, **options))(keys)


@pytest.mark.parametrize(("name", "flags"), [("singular", "steps"), ("by step", "features")])
def test_draws_from_the_posterior(name, flags):
    N = 20_000
    kinds = np.array([SEEN, GONE, MISSING, SEEN])
    rows = [np.flatnonzero((kinds[:, None] == KINDS).all(0))[0], 0]  # beside it a row without steps
    params, missing = of_row(PARAMS[name], rows), FLAGS[flags][:, rows]
    xs, mask = xs_for(params, FLAGS[flags])[:, rows], MASK[:, rows]
    keys, model = jax.random.split(jax.random.key(0), N), cut(params, T)
    draws = np.asarray(sample_posterior(keys, model, xs, mask, missing, parallel=False))
    assert not draws[:, :, 1].any()
    assert not draws[:, 1].any()
    joint = Exact(of_row(params, 0), xs[:, 0], mask[:, 0], missing[:, 0])
    mean, cov, _ = joint.given(T)
    assert_moments(draws[:, [0, 2, 3], 0].reshape(N, -1), mean[: 3 * 2], cov[: 3 * 2, : 3 * 2])
    also = sample_posterior(keys[:2], model, xs, mask, missing, parallel=True)
    np.testing.assert_allclose(also, draws[:2], rtol=1e-9, atol=1e-9)


def maximised(params, learn, missing):
    """One iteration by the textbook, from the joint Gaussian, over all patterns of flags; a bias by step is held."""
    Z = params.initial_mean.shape[0]
    moves, looks, firsts = ([] for _ in range(3))

    def moments(mean, cov, y, u, bias):
        """⟨(y - bias) (y - bias)ᵀ⟩, ⟨(y - bias) uᵀ⟩, ⟨u uᵀ⟩, ⟨y - bias⟩, ⟨u⟩."""
        both = cov + np.outer(mean, mean)
        off = np.outer(mean[y], bias)
        left = both[y, y] - off - off.T + np.outer(bias, bias)
        return left, both[y, u] - np.outer(bias, mean[u]), both[u, u], mean[y] - bias, mean[u]

    for joint in joints(params, missing):
        mean, cov, _ = joint.given(T)
        at = [slice(k * Z, (k + 1) * Z) for k in range(joint.n)]
        x_at = [slice(joint.n * Z + k * X, joint.n * Z + (k + 1) * X) for k in range(joint.n)]
        for k in range(joint.last):
            if k == 0:
                firsts.append((cov[at[k], at[k]] + np.outer(mean[at[k]], mean[at[k]]), mean[at[0]]))
            else:
                by_step = params.transition_bias.ndim > 1
                moves.append(moments(mean, cov, at[k], at[k - 1], joint.moves[k - 1][1] * by_step))
            if any(k == step for step, _ in joint.seen):
                looks.append(moments(mean, cov, x_at[k], at[k], np.zeros(X)))

    def regression(sums, matrix, bias, cov, names):
        yy, yu, uu, y, u = (np.mean(each, 0) for each in zip(*sums, strict=True))
        if names[0] in learn and names[1] in learn:
            both = np.linalg.solve(np.block([[uu, u[:, None]], [u[None], np.ones((1, 1))]]), np.c_[yu, y].T).T
            matrix, bias = both[:, :-1], both[:, -1]
        elif names[0] in learn:
            matrix = np.linalg.solve(uu, (yu - np.outer(bias, u)).T).T
        elif names[1] in learn:
            bias = y - matrix @ u
        if names[2] in learn:
            shared = yu @ matrix.T + np.outer(y - matrix @ u, bias)
            cov = yy - shared - shared.T + matrix @ uu @ matrix.T + np.outer(bias, bias)
        return matrix, bias, cov

    second, mean = (np.mean(each, 0) for each in zip(*firsts, strict=True))
    initial_mean = mean if "initial_mean" in learn else params.initial_mean
    spread = second - np.outer(mean, initial_mean) - np.outer(initial_mean, mean) + np.outer(initial_mean, initial_mean)
    moved = [*params[2:5]]
    if moved[0].ndim == 2:
        bias_by_step = moved[1].ndim > 1
        moved = regression(moves, moved[0], np.zeros(Z) if bias_by_step else moved[1], moved[2], Params._fields[2:5])
        moved = [moved[0], params.transition_bias if bias_by_step else moved[1], moved[2]]
    seen = regression(looks, *params[5:], Params._fields[5:])
    return Params(initial_mean, spread if "initial_cov" in learn else params.initial_cov, *moved, *seen)


CONTROLS = np.random.default_rng(6).normal(size=(T + AHEAD - 1, ROWS, 2))
SOME = ("transition", "observation_bias", "initial_cov")
OTHERS = ("initial_mean", "transition_bias", "transition_cov", "observation", "observation_cov")
ALL_BUT = lambda *held: tuple(name for name in Params._fields if name not in held)


@pytest.mark.parametrize(
    ("by_steps", "flags", "learn", "learned", "parallel"),
    [
        ({}, "features", None, Params._fields, True),
        ({}, "steps", SOME, SOME, False),
        ({}, "features", OTHERS, OTHERS, False),
        ({"transition_bias": CONTROLS}, "steps", None, ALL_BUT("transition_bias"), False),
        (
            {name: getattr(PARAMS["by step"], name) for name in ("transition", "transition_cov")},
            "features",
            None,
            ALL_BUT("transition", "transition_bias", "transition_cov"),
            False,
        ),
    ],
)
def test_one_iteration_of_expectation_maximisation(by_steps, flags, learn, learned, parallel):
    longer = PARAMS["regular"]._replace(**by_steps)
    params, missing = cut(longer, T), FLAGS[flags]
    xs = xs_for(params, missing)
    options = {"mask": MASK, "missing": missing, "learn": learn, "parallel": parallel}
    got = kalman.fit(params, xs, max_iterations=1, tolerance=0, **options)
    want = cut(maximised(longer, learned, missing), T)
    for name, one, other in zip(Params._fields, got.params, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8, err_msg=name)
    assert (int(got.iterations), bool(got.converged)) == (1, False)
    before, after = (log_likelihood(each, xs, missing).sum() for each in (params, got.params))
    np.testing.assert_allclose(got.log_likelihoods, [before, after], rtol=1e-10)
    assert after > before


@jax.jit
def log_likelihood(params, xs, missing):
    return kalman.log_likelihood(params, xs, mask=MASK, missing=missing)


def test_fit_leaves_what_no_step_tells_of():
    params = PARAMS["regular"]
    mask = (KINDS == SEEN) & (np.arange(T) == 1)[:, None]  # at most one step a row
    options = {"mask": mask, "missing": np.zeros_like(mask), "max_iterations": 1, "parallel": True}
    fitted = kalman.fit(params, np.ones((*mask.shape, 3)), **options).params
    for name in ("transition", "transition_bias", "transition_cov"):
        np.testing.assert_array_equal(getattr(fitted, name), getattr(params, name))
    assert np.isfinite(fitted.observation_cov).all()


def test_fit_ends_where_the_likelihood_is_no_number():
    params = PARAMS["regular"]._replace(observation_cov=-10 * np.eye(3))
    fitted = kalman.fit(params, xs_for(params), mask=MASK, missing=MISS, max_iterations=1, parallel=True)
    assert (int(fitted.iterations), bool(fitted.converged)) == (0, False)


def test_fit_is_traceable():
    fit = lambda xs, mask, missing: kalman.fit(PARAMS["regular"], xs, mask=mask, missing=missing, max_iterations=5)
    shapes = jax.eval_shape(fit, xs_for(PARAMS["regular"]), MASK, MISS)
    assert shapes.log_likelihoods.shape == (6,)


def test_fit_climbs_and_converges():
    truth = PARAMS["regular"]._replace(transition=np.array([[0.6, 0.3], [1.0, 0.0]]), transition_bias=None)
    xs = np.asarray(jax.jit(lambda key: kalman.sample(key, truth, 60, batch_shape=(5,))[1])(jax.random.key(1)))
    start = truth._replace(transition=np.eye(2) / 2, observation_cov=np.eye(3))
    with jax.debug_nans(True):  # NaN after the last iteration is no fault
        fitted = kalman.fit(start, xs, learn=("transition", "observation_cov"), max_iterations=500)
    fitted = jax.tree.map(np.asarray, fitted)
    values = np.asarray(fitted.log_likelihoods[: int(fitted.iterations) + 1])
    assert bool(fitted.converged)
    assert values.shape[0] < 501
    assert np.isnan(fitted.log_likelihoods[values.shape[0] :]).all()
    assert np.all(np.diff(values) > 0)
    assert values[-1] > jax.jit(kalman.log_likelihood)(truth, xs).sum() - 1
    assert fitted.params.transition_bias is None
    np.testing.assert_array_equal(fitted.params.transition_cov, truth.transition_cov)


GOOD, XS = PARAMS["regular"], np.ones((4, 2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kalman.filter(tuple(GOOD), XS), TypeError, "must be kalman.Params; got tuple"),
        (lambda: kalman.filter(GOOD._replace(transition=None), XS), TypeError, "`params.transition` must be an array"),
        (
            lambda: kalman.filter(GOOD._replace(observation=np.ones(3)), XS),
            ValueError,
            r"must be \[X, Z\], with features",
        ),
        (
            lambda: kalman.filter(GOOD._replace(initial_mean=np.ones(3)), XS),
            ValueError,
            r"`params.initial_mean` must be \[Z\]",
        ),
        (
            lambda: kalman.filter(GOOD._replace(initial_mean=np.ones(2, int)), XS),
            TypeError,
            "all float32 or all float64",
        ),
        (lambda: kalman.filter(GOOD, jnp.ones((4, 2, 3), jnp.float32)), TypeError, "`xs` must be float64"),
        (lambda: kalman.filter(GOOD, XS[..., :2]), ValueError, "`xs` must have X = 3 features"),
        (lambda: kalman.filter(GOOD, XS, mask=np.ones((4, 3), bool)), ValueError, "`mask` must be bool"),
        (lambda: kalman.filter(GOOD, XS, missing=np.ones((4, 2))), TypeError, "`missing` must be bool"),
        (
            lambda: kalman.filter(GOOD, XS, missing=np.ones((4, 2, 2), bool)),
            ValueError,
            r"`missing` must be bool \[T, B, X\] = \(4, 2, 3\)",
        ),
        (
            lambda: kalman.filter(GOOD._replace(transition=np.ones((4, 2, 2))), XS),
            ValueError,
            r"`params.transition` must be .* or for each step \[T-1, Z, Z\] = \(3, 2, 2\) or \[T-1, B, Z, Z\]; got",
        ),
        (
            lambda: kalman.smooth(GOOD._replace(observation_bias=np.ones((3, 3))), XS),
            ValueError,
            r"`params.observation_bias` must be .* or for each step \[T, X\] = \(4, 3\)",
        ),
        (
            lambda: kalman.predict(GOOD._replace(transition_bias=np.ones((3, 2))), XS, 2),
            ValueError,
            r"for each step \[T-1, Z\] = \(5, 2\)",
        ),
        (
            lambda: kalman.sample(jax.random.key(0), GOOD._replace(transition_bias=np.ones((3, 2))), 3),
            ValueError,
            r"for each step \[T-1, Z\] = \(2, 2\)",
        ),
        (
            lambda: kalman.fit(GOOD._replace(transition=np.ones((3, 2, 2))), XS, learn=["transition"]),
            ValueError,
            "same at all steps; `params.transition` is given for each step",
        ),
        (
            lambda: kalman.fit(GOOD._replace(transition_cov=np.ones((3, 2, 2))), XS, learn=["transition_bias"]),
            ValueError,
            "the noise of 'transition_bias', `params.transition_cov`, is given for each step",
        ),
        (lambda: kalman.discretise(np.ones((2, 3)), np.eye(2), np.ones(3)), ValueError, r"`drift` must be \[Z, Z\]"),
        (lambda: kalman.discretise(np.eye(2), np.eye(3), np.ones(3)), ValueError, r"`diffusion` must be \[Z, Z\]"),
        (
            lambda: kalman.discretise(np.eye(2), np.eye(2), -np.ones(3)),
            ValueError,
            "`gaps` must be finite and 0 or more",
        ),
        (
            lambda: kalman.discretise(np.eye(2), np.eye(2), np.ones(3), bias=np.ones((2, 2))),
            ValueError,
            r"`bias` must be \[Z\] = \(2,\) or \[T-1, B, Z\] = \(3, 2\)",
        ),
        (lambda: kalman.discretise(np.eye(2, dtype=int), np.eye(2), np.ones(3)), TypeError, "`drift` must be float32"),
        (lambda: kalman.predict(GOOD, XS, 0), ValueError, "`steps` must be a positive int"),
        (lambda: kalman.sample(0, GOOD, 3), TypeError, "`key` must be"),
        (lambda: kalman.sample(jax.random.key(0), GOOD, -1), ValueError, "`T` must be an int, 0 or more"),
        (
            lambda: kalman.sample(jax.random.key(0), GOOD, 3, batch_shape=4),
            TypeError,
            "`batch_shape` must be a sequence",
        ),
        (lambda: kalman.sample_posterior(0, GOOD, XS), TypeError, "`key` must be"),
        (lambda: kalman.fit(GOOD, XS, learn="transition"), TypeError, "`learn` must be a sequence of names"),
        (lambda: kalman.fit(GOOD, XS, learn=["A"]), ValueError, "`learn` must hold names of params that are not None"),
        (lambda: kalman.fit(GOOD, XS, max_iterations=0), ValueError, "`max_iterations` must be a positive int"),
        (lambda: kalman.fit(GOOD, XS, tolerance=-1), ValueError, "`tolerance` must be a number of at least 0"),
        (lambda: kalman.fit(GOOD, XS, missing=np.ones((4, 2), bool)), ValueError, "nothing to fit to"),
        (lambda: kalman.fit(GOOD, XS[:0]), ValueError, "nothing to fit to"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        kalman.log_likelihood,
        kalman.filter,
        kalman.smooth,
        kalman.pairs,
        lambda *given, **options: kalman.predict(*given, 1, **options),
        lambda *given, **options: kalman.sample_posterior(jax.random.key(0), *given, **options),
        kalman.fit,
    ],
)
def test_what_is_not_a_number_has_to_be_said_to_be_missing(call):
    xs = np.ones((4, 2, 3))
    xs[1, 0, 2] = np.nan
    missing = np.isnan(xs) & (np.arange(3) < 2)
    with pytest.raises(ValueError, match=r"`xs` hold NaN on steps that are real and observed; .*missing="):
        call(GOOD, xs, missing=missing)


def test_under_jit_such_a_row_is_not_a_number_and_no_other():
    xs, row = xs_for(GOOD), np.flatnonzero(OBSERVED.all(0))[0]
    xs[0, row, 1] = np.nan
    got, want = everything(GOOD, xs, MASK, MISS), exact("regular")
    for place, name in enumerate(NAMES):
        of_rows = lambda x, place=place: np.moveaxis(np.asarray(x), 0 if place == 0 else 1, 0)
        one, other = of_rows(got[place]), of_rows(want[place])
        np.testing.assert_allclose(np.delete(one, row, 0), np.delete(other, row, 0), rtol=1e-9, atol=1e-9, err_msg=name)
        if one.ndim < 4 and name != "pairs":  # the means
            assert np.isnan(one[row]).all(), name


def assert_gap(got, drift, diffusion, bias, h):
    """The transition over a gap, by exponentials of block matrices (Van Loan 1978)."""
    Z = len(drift)
    both = expm(h * np.block([[-drift, diffusion], [np.zeros((Z, Z)), drift.T]]))
    pushed = expm(h * np.block([[drift, bias[:, None]], [np.zeros((1, Z + 1))]]))
    transition = both[Z:, Z:].T
    for one, other in zip(got, (transition, pushed[:Z, Z], transition @ both[:Z, Z:]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def test_gaps_of_time_against_exponentials_of_block_matrices():
    rng = np.random.default_rng(0)
    root, bias = rng.normal(size=(3, 2)), rng.normal(size=3)
    gaps = np.array([[0.0, 0.1], [1.0, 2.5], [1e-6, 0.02]])
    discretise = jax.jit(kalman.discretise)
    for drift in (0.5 * rng.normal(size=(3, 3)), np.diag([1.0, 1.0], 1)):  # the latter has no inverse
        moves = jax.tree.map(np.asarray, discretise(drift, root @ root.T, gaps, bias=bias))
        for at in np.ndindex(*gaps.shape):
            assert_gap([leaf[at] for leaf in moves], drift, root @ root.T, bias, gaps[at])


def test_gaps_of_any_size_in_float32():
    one = np.ones((1, 1), np.float32)
    gaps = np.array([0.0, 1e-3, 1e6], np.float32)

    @jax.jit
    def run(drift):
        moves = lambda drift: kalman.discretise(drift, 2 * one, gaps, bias=one[0])
        return moves(drift), jax.jacobian(moves)(drift)

    moves, slopes = jax.tree.map(lambda x: np.asarray(x).ravel(), run(-50 * one))
    e = np.exp(-50 * gaps.astype(float))
    np.testing.assert_allclose(moves.transition, e, rtol=1e-6)
    np.testing.assert_allclose(moves.transition_bias, (1 - e) / 50, rtol=1e-5)
    np.testing.assert_allclose(moves.transition_cov, (1 - e**2) / 50, rtol=1e-5)
    np.testing.assert_allclose(slopes.transition, gaps * e, rtol=1e-5)
    np.testing.assert_allclose(slopes.transition_bias[-1], 1 / 2500, rtol=1e-4)


def test_gaps_are_as_steps_in_between_that_are_missing():
    rng = np.random.default_rng(7)
    drift, diffusion, fine = rng.normal(size=(2, 2)), spd(rng, 2), 0.3
    times = np.array([0, 1, 4, 6])

    @jax.jit
    def run(xs):
        by_gap = GOOD._replace(**kalman.discretise(drift, diffusion, fine * np.diff(times))._asdict())
        each = kalman.discretise(drift, diffusion, np.full(6, fine))
        between = np.ones(7, bool)
        between[times] = False
        long = jnp.zeros((7, 3)).at[times].set(xs)
        return kalman.smooth(by_gap, xs), kalman.smooth(GOOD._replace(**each._asdict()), long, missing=between)

    few, many = run(rng.normal(size=(4, 3)))
    for one, other in zip(few, many, strict=True):
        np.testing.assert_allclose(one, other[times], rtol=1e-10, atol=1e-10)


def test_where_expectation_maximisation_ends_in_nothing_the_params_before_stay(x64):
    one = np.ones((1, 1))
    fixed = kalman.Params(np.zeros(1), 0 * one, one, None, 0 * one, one, None, one)  # a state that is always 0
    fitted = kalman.fit(fixed, np.array([[1.0], [2.0], [0.5]]), max_iterations=3)
    assert not fitted.converged
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(fitted.params))
    last = np.flatnonzero(np.isfinite(fitted.log_likelihoods))[-1]
    value = jax.jit(kalman.log_likelihood)(fitted.params, np.array([[1.0], [2.0], [0.5]]))
    np.testing.assert_allclose(value, fitted.log_likelihoods[last], rtol=1e-9)


def test_a_step_that_is_not_seen_has_no_gradient(x64):
    known = kalman.Params(
        np.zeros(2), np.zeros((2, 2)), np.array([[0.6, 0.8], [-0.8, 0.6]]), None, np.eye(2),
        np.array([[1.0, 0.0]]), None, np.zeros((1, 1)),
    )  # fmt: skip
    xs, missing = np.array([[1.0], [0.5]]), np.array([True, False])
    gradient = jax.jit(jax.grad(lambda params: kalman.log_likelihood(params, xs, missing=missing)))(known)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
