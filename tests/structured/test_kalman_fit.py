"""Expectation maximisation of linear-Gaussian models against moments of the joint Gaussian."""

import jax
import numpy as np
import pytest

from jaxseq.structured import kalman
from jaxseq.structured.kalman import Params
from tests.structured.kalman_by_joint import (
    AHEAD,
    FLAGS,
    KINDS,
    MASK,
    MISS,
    PARAMS,
    ROWS,
    SEEN,
    T,
    X,
    cut,
    joints,
    xs_for,
)

pytestmark = pytest.mark.usefixtures("x64")


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
    observation, bias, cov = params[5:]
    seen = regression(looks, observation, bias, cov, Params._fields[5:])
    learned = initial_mean, spread if "initial_cov" in learn else params.initial_cov, *moved, *seen
    return Params._make(learned)


CONTROLS = np.random.default_rng(6).normal(size=(T + AHEAD - 1, ROWS, 2))
SOME = ("transition", "observation_bias", "initial_cov")
OTHERS = ("initial_mean", "transition_bias", "transition_cov", "observation", "observation_cov")
ALL_BUT = lambda *held: tuple(name for name in Params._fields if name not in held)


@pytest.mark.some(1)
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
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-8, atol=1e-8, err_msg=name)
    assert (int(got.iterations), bool(got.converged)) == (1, False)
    before, after = (log_likelihood(each, xs, missing).sum() for each in (params, got.params))
    np.testing.assert_allclose(got.log_likelihoods, [before, after], rtol=1e-10)
    assert after > before


@jax.jit
def log_likelihood(params, xs, missing):
    return kalman.log_likelihood(params, xs, mask=MASK, missing=missing)


@pytest.mark.learn
def test_fit_leaves_what_no_step_tells_of():
    params = PARAMS["regular"]
    mask = (KINDS == SEEN) & (np.arange(T) == 1)[:, None]  # at most one step a row
    options = {"mask": mask, "missing": np.zeros_like(mask), "max_iterations": 1, "parallel": True}
    fitted = kalman.fit(params, np.ones((*mask.shape, 3)), **options).params
    for name in ("transition", "transition_bias", "transition_cov"):
        np.testing.assert_array_equal(getattr(fitted, name), getattr(params, name))
    assert np.isfinite(fitted.observation_cov).all()


@pytest.mark.learn
def test_fit_ends_where_the_likelihood_is_no_number():
    params = PARAMS["regular"]._replace(observation_cov=-10 * np.eye(3))
    fitted = kalman.fit(params, xs_for(params), mask=MASK, missing=MISS, max_iterations=1, parallel=True)
    assert (int(fitted.iterations), bool(fitted.converged)) == (0, False)


def test_fit_is_traceable():
    fit = lambda xs, mask, missing: kalman.fit(PARAMS["regular"], xs, mask=mask, missing=missing, max_iterations=5)
    shapes = jax.eval_shape(fit, xs_for(PARAMS["regular"]), MASK, MISS)
    assert shapes.log_likelihoods.shape == (6,)


@pytest.mark.learn
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


@pytest.mark.learn
def test_where_expectation_maximisation_ends_in_nothing_the_params_before_stay():
    one = np.ones((1, 1))
    fixed = kalman.Params(np.zeros(1), 0 * one, one, None, 0 * one, one, None, one)  # a state that is always 0
    fitted = kalman.fit(fixed, np.array([[1.0], [2.0], [0.5]]), max_iterations=3)
    assert not fitted.converged
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(fitted.params))
    last = np.flatnonzero(np.isfinite(fitted.log_likelihoods))[-1]
    value = jax.jit(kalman.log_likelihood)(fitted.params, np.array([[1.0], [2.0], [0.5]]))
    np.testing.assert_allclose(value, fitted.log_likelihoods[last], rtol=1e-9)
