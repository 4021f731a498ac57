"""A cell that looks across the rows of a batch has no native loop: it would be wrong without a word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import kernels
from jaxseq.kernels.native import native_reason
from tests import zoo

T, B, D, H = 4, 3, 2, 5
GRU = jaxseq.gru(H)

ACROSS = {
    "a mean": lambda h: h - h.mean(0),
    "a sum of products": lambda h: h @ (h.T @ h),
    "products of rows with rows": lambda h: jnp.tanh(h @ h.T) @ h,
    "a roll": lambda h: jnp.roll(h, 1, 0),
    "a reversal": lambda h: h[::-1],
    "one row for all": lambda h: h + h[0],
    "rows by number": lambda h: h[jnp.array([0, 0, 1])] if len(h) == 3 else h[jnp.zeros(len(h), int)],
    "sums up to a row": lambda h: jnp.cumsum(h, 0),
    "an order": lambda h: jnp.sort(h, 0),
    "the numbers of rows": lambda h: h * jnp.arange(len(h))[:, None],
    "rows seen as features": lambda h: h.reshape(-1)[::-1].reshape(h.shape),
    "inside a call": jax.jit(lambda h: h - h.max(0)),
}
WITHIN = {
    "a mean": lambda h: h - h.mean(-1, keepdims=True),
    "products with itself": lambda h: h * jnp.einsum("...i,...i->...", h, h)[..., None],
    "a roll": lambda h: jnp.roll(h, 1, -1),
    "a reversal": lambda h: h[..., ::-1],
    "zeros": lambda h: h + jnp.zeros_like(h),
    "groups": lambda h: (
        (h[..., :4].reshape(*h.shape[:-1], 2, 2).sum(-1, keepdims=True) + h[..., :1, None]).sum((-1, -2))[..., None] * h
    ),
    "features by number": lambda h: h[..., jnp.array([3, 1, 2, 0, 4])],
}


def with_carry(change):
    def step(params, carry, u):
        carry, y = GRU.step(params, carry, u)
        return change(carry), y

    return GRU._replace(step=step, backward=None)


def problem(cell, features=D):
    params = zoo.params_of(cell, features)
    return params, np.random.default_rng(1).normal(size=(T, B, features)).astype(np.float32)


@pytest.mark.some(6)
@pytest.mark.parametrize("name", ACROSS)
def test_across_rows_is_told_and_run_by_xla(name):
    cell = with_carry(ACROSS[name])
    params, xs = problem(cell)
    assert native_reason(cell, params, xs) is not None
    got, want = (jaxseq.unroll(cell, params, xs, kernel=kernel) for kernel in (None, kernels.scan))
    zoo.assert_close(got, want, 1e-6)
    with pytest.raises(ValueError, match=r"`kernels.native` does not run"):
        jaxseq.unroll(cell, params, xs, kernel=kernels.native)


@pytest.mark.some(4)
@pytest.mark.parametrize("name", WITHIN)
def test_within_rows_is_native(name):
    cell = with_carry(WITHIN[name])
    params, xs = problem(cell)
    assert native_reason(cell, params, xs) is None
    got, want = (jaxseq.unroll(cell, params, xs, kernel=kernel) for kernel in (kernels.native, kernels.scan))
    zoo.assert_close(got, want, 1e-5)


def test_every_cell_of_the_zoo_treats_rows_alike():
    for name in zoo.CELLS:
        cell = zoo.find(name).cell
        if zoo.runs("native", name) and isinstance(cell, jaxseq.Cell):
            assert native_reason(cell, *problem(cell, cell.size)) is None, name


def test_a_backward_without_a_native_form_is_run_by_xla():
    """Sorting has none; here it changes nothing."""
    backward = GRU.backward
    assert backward is not None

    def bwd(params, saved, d_carry, d_y):
        d_before, d_u = backward.bwd(params, saved, d_carry, d_y)
        return jnp.where(jnp.sort(d_before, -1) > jnp.inf, 0, d_before), d_u

    cell = GRU._replace(backward=backward._replace(bwd=bwd))
    params, xs = problem(cell)
    told = kernels.explain(cell, params, xs)
    assert "kernels.native, by its hand-written backward, whose loop is XLA's: `sort` has no native form" in told

    def gradient(kernel):
        return jax.grad(lambda params: jaxseq.unroll(cell, params, xs, kernel=kernel)[1].sum())(params)

    zoo.assert_close(gradient(None), gradient(kernels.scan), 1e-5)
