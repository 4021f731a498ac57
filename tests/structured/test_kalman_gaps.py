"""States in continuous time: transitions over gaps against exponentials of block matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from jaxseq.structured import kalman
from tests.structured.kalman_by_joint import regular, spd

pytestmark = pytest.mark.usefixtures("x64")


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
        by_gap = regular()._replace(**kalman.discretise(drift, diffusion, fine * np.diff(times))._asdict())
        each = kalman.discretise(drift, diffusion, np.full(6, fine))
        between = np.ones(7, bool)
        between[times] = False
        long = jnp.zeros((7, 3)).at[times].set(xs)
        return kalman.smooth(by_gap, xs), kalman.smooth(regular()._replace(**each._asdict()), long, missing=between)

    few, many = run(rng.normal(size=(4, 3)))
    for one, other in zip(few, many, strict=True):
        np.testing.assert_allclose(one, other[times], rtol=1e-10, atol=1e-10)
