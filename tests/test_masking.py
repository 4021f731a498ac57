import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxseq
from tests import zoo

lengths_to_mask = jax.jit(jaxseq.lengths_to_mask, static_argnums=1)
last_valid = jax.jit(jaxseq.last_valid)


def params_of(cell, in_size=3):
    return zoo.params_of(cell, in_size)


@given(
    st.lists(st.integers(-2, 9), min_size=1, max_size=1) | st.lists(st.integers(-2, 9), min_size=5, max_size=5),
    st.integers(0, 7),
)
def test_lengths_to_mask(lengths, T):
    mask = lengths_to_mask(np.array(lengths), T)
    assert mask.dtype == bool
    assert mask.shape == (T, len(lengths))
    for row, length in zip(np.asarray(mask).T, lengths, strict=True):
        np.testing.assert_array_equal(row, [t < length for t in range(T)])


def test_lengths_of_any_number_of_axes():
    mask = jaxseq.lengths_to_mask(jnp.asarray(np.array([[0, 1, 2], [3, 4, 5]])), 5)
    assert mask.shape == (5, 2, 3)
    np.testing.assert_array_equal(np.asarray(mask).sum(0), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(jaxseq.lengths_to_mask(3, 5), [True, True, True, False, False])


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=0, max_size=6))
def test_last_valid_is_the_output_at_the_last_true_step(rows):
    mask = np.array(rows, bool).reshape(len(rows), 4)
    ys = np.random.default_rng(0).normal(size=(*mask.shape, 3)).astype(np.float32)
    last = np.asarray(last_valid(np.where(mask[..., None], ys, np.float32(np.nan)), mask))
    for b in range(4):
        steps = np.flatnonzero(mask[:, b])
        want = ys[steps[-1], b] if len(steps) else np.zeros(3)
        np.testing.assert_array_equal(last[b], want)


def test_last_valid_has_a_clean_gradient():
    mask = np.array([[True, False], [True, False], [False, False]])
    ys = np.broadcast_to(np.where(mask[..., None], np.float32(1), np.float32(np.nan)), (3, 2, 4))
    gradient = jax.jit(jax.grad(lambda ys: jaxseq.last_valid(ys, mask).sum()))(ys)
    want = np.zeros((3, 2, 4))
    want[1, 0] = 1
    np.testing.assert_array_equal(gradient, want)


RESET_AT_3 = np.array([[False], [False], [False], [True], [False], [False]])


@functools.cache
def loss_after_reset(cell):
    def after(params, xs):
        return jaxseq.unroll(cell, params, xs, reset=RESET_AT_3)[1][3:].sum()

    return jax.jit(jax.value_and_grad(after, 1))


@pytest.mark.parametrize("cell", [jaxseq.lstm(4), jaxseq.lstm(4)._replace(backward=None)], ids=["by_hand", "autodiff"])
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_a_reset_cuts_off_a_spoilt_past(cell, junk):
    """What comes after a reset is clean in value and gradient, even where the sequence before it went to NaN."""
    xs = np.ones((6, 1, 3), np.float32)
    xs[1] = junk
    value, gradient = loss_after_reset(cell)(params_of(cell), xs)
    assert np.isfinite(value)
    assert np.all(np.isfinite(np.asarray(gradient)[3:]))


@pytest.mark.some(3)
@pytest.mark.parametrize("kernel", [jaxseq.kernels.bptt, jaxseq.kernels.scan])
@pytest.mark.parametrize("factory", [jaxseq.rnn, jaxseq.lstm, jaxseq.gru])
def test_a_spoilt_carry_of_an_empty_row_reaches_no_weight(factory, kernel):
    cell = factory(4)
    params, mask = params_of(cell), np.array([[True, False]] * 3)
    spoilt = np.array([[0.0] * 4, [np.nan] * 4], np.float32)
    carry = jax.tree.map(lambda leaf: spoilt, jax.eval_shape(lambda: cell.carry(params, (2,))))

    def loss(params):
        last, ys = jaxseq.unroll(cell, params, jnp.ones((3, 2, 3)), carry, mask=mask, kernel=kernel)
        return ys.sum() + sum(leaf[0].sum() for leaf in jax.tree.leaves(last))

    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params)))


def test_masked_is_one_object_for_a_cell():
    assert jaxseq.masking.masked(jaxseq.gru(5)) is jaxseq.masking.masked(jaxseq.gru(5))


def test_a_mask_of_none_costs_nothing():
    """The program without a mask and a reset holds no select."""
    cell = jaxseq.lstm(4)
    params, xs = params_of(cell), np.ones((5, 2, 3), np.float32)
    unroll = functools.partial(jaxseq.unroll, kernel=jaxseq.kernels.bptt)

    def program(mask):
        return jax.jit(lambda params, xs: unroll(cell, params, xs, mask=mask)).lower(params, xs).as_text()

    assert "stablehlo.select" not in program(None)
    assert "stablehlo.select" in program(np.ones((5, 2), bool))
