"""How the linear cells start: the distributions of their params, their carries, and the errors of their factories."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from tests import zoo
from tests.cells import published
from tests.untyped import untyped

MANY = 20_000


def drawn(cell, in_size, dtype=None):
    params = jax.jit(functools.partial(cell.init, in_size=in_size, dtype=dtype))(jax.random.key(0))
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def is_uniform(values, low, high):
    """Holds the deciles of many draws, and their ends, to those of the uniform distribution."""
    rounding = 1e-5 * abs(high)
    assert low - rounding <= values.min() <= values.max() <= high + rounding
    places = (np.quantile(values, np.linspace(0.1, 0.9, 9)) - low) / (high - low)
    np.testing.assert_allclose(places, np.linspace(0.1, 0.9, 9), atol=0.02)


def test_the_lru_starts_in_a_ring():
    p = drawn(jaxseq.lru(2, state=MANY, r_min=0.4, r_max=0.8, max_phase=2.0), 8)
    squared = np.exp(-2 * np.exp(p.nu))
    is_uniform(squared, 0.4**2, 0.8**2)
    is_uniform(np.exp(p.theta), 0, 2.0)
    np.testing.assert_allclose(np.exp(p.gamma), np.sqrt(1 - squared), rtol=1e-5)
    for weight, variance in ((p.b_re, 1 / 16), (p.b_im, 1 / 16), (p.c_re, 1 / MANY), (p.c_im, 1 / MANY)):
        np.testing.assert_allclose(weight.var(), variance, rtol=0.03)
        np.testing.assert_allclose(weight.mean(), 0, atol=0.02 * np.sqrt(variance))
    assert abs(np.corrcoef(p.b_re.ravel(), p.b_im.ravel())[0, 1]) < 0.02
    assert np.abs(p.w_d).max() <= np.sqrt(6 / 10)
    is_uniform(np.exp(-2 * np.exp(drawn(jaxseq.lru(1, state=MANY), 1).nu)), 0.9**2, 0.999**2)


def test_the_whole_disc_and_a_circle_are_rings_too():
    p = drawn(jaxseq.lru(2, state=MANY, r_min=0, r_max=0.9), 1)
    is_uniform(np.exp(-2 * np.exp(p.nu)), 0, 0.81)
    np.testing.assert_allclose(np.exp(-np.exp(drawn(jaxseq.lru(2, r_min=0.5, r_max=0.5), 1).nu)), 0.5, rtol=1e-6)


def test_inputs_that_are_white_leave_a_state_of_their_size(x64):
    """Why e^γ is √(1 - |λ|²): E|h|² = |x B|², here 1/2 + 1/2 in the mean, whatever λ is."""
    cell = jaxseq.lru(1, state=400, r_min=0.5, r_max=0.97)
    xs = np.random.default_rng(0).normal(size=(400, 8, 50))
    carry, _ = jax.jit(lambda xs: jaxseq.unroll(cell, cell.init(jax.random.key(0), 50), xs))(xs)
    np.testing.assert_allclose(np.mean(np.abs(carry) ** 2), 1, rtol=0.1)


def test_s5_starts_as_s4d_lin():
    p = drawn(jaxseq.s5(2, state=MANY), 3)
    np.testing.assert_allclose(-np.exp(p.log_re), -0.5, rtol=1e-6)
    np.testing.assert_allclose(p.im, np.pi * np.arange(MANY), rtol=1e-6)
    is_uniform(p.log_dt, np.log(1e-3), np.log(1e-1))


def test_rg_lru_decays_start_uniform():
    p = drawn(jaxseq.rg_lru(MANY, heads=MANY // 2), MANY)
    is_uniform(np.exp(-8 * np.logaddexp(0, p.lam)), 0.9, 0.999)
    np.testing.assert_allclose(p.w_r.var(), 1 / 2, rtol=0.05)  # of two inputs a head
    assert not p.b_r.any()
    assert not p.b_i.any()


def test_steps_of_state_spaces_start_log_uniform():
    cells = jaxseq.mamba(MANY, state=3), jaxseq.mamba2(MANY, heads=MANY, state=1)
    mamba, mamba2 = (jax.eval_shape(lambda cell=cell: cell.init(jax.random.key(0), MANY)) for cell in cells)
    assert mamba.w_1.shape == (MANY, MANY // 16)
    assert jax.eval_shape(lambda: jaxseq.mamba(4, rank=3).init(jax.random.key(0), 4)).w_2.shape == (3, 4)
    assert mamba2.d.shape == (MANY,)
    mamba = drawn(jaxseq.mamba(2000, state=3), 2000)
    is_uniform(np.log(np.logaddexp(0, mamba.b_dt)), np.log(1e-3), np.log(1e-1))
    np.testing.assert_allclose(np.exp(mamba.a_log), np.broadcast_to([1, 2, 3], (2000, 3)), rtol=1e-6)
    assert np.all(mamba.d == 1)
    p = drawn(jaxseq.mamba2(MANY, heads=MANY, state=1), 1)
    is_uniform(np.log(np.logaddexp(0, p.b_dt)), np.log(1e-3), np.log(1e-1))
    is_uniform(np.exp(p.a_log), 1, 16)
    p = drawn(jaxseq.gated_delta_net(MANY, heads=MANY, key_size=1), 1)
    is_uniform(np.log(np.logaddexp(0, p.b_a)), np.log(1e-3), np.log(1e-1))
    is_uniform(np.exp(p.a_log), 0, 16)


def test_the_mlstm_starts_by_remembering():
    p = drawn(jaxseq.mlstm(MANY, heads=MANY), 2)
    np.testing.assert_allclose(p.b_f, np.linspace(3, 6, MANY), rtol=1e-6)
    np.testing.assert_allclose(p.b_i.std(), 0.1, rtol=0.03)
    assert not p.w_i.any()
    assert not p.w_f.any()


ROWS = {  # of a carry, where that is not one h
    **dict.fromkeys(("lru", "s5"), ((3,),)),
    "mamba": ((3, 2),),
    **dict.fromkeys(("mamba2", "gla", "delta_net", "gated_delta_net", "gated_delta_net_negative"), ((2, 3, 2),)),
    "mlstm": ((2, 3, 2), (2, 3), (2,)),
}


@pytest.mark.parametrize("name", published.CASES)
def test_carries_start_at_zero_and_as_wide_as_sums(name):
    """Of bfloat16 params in float32; complex numbers of two of them."""
    cell, in_size, *_ = published.CASES[name]
    for dtype, want in ((jnp.bfloat16, jnp.float32), (None, jnp.float32), (jnp.float64, jnp.float64)):
        with jax.enable_x64(dtype == jnp.float64):
            params = jax.eval_shape(lambda dtype=dtype: cell.init(jax.random.key(0), in_size, dtype))
            assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype or jnp.float32)}
            carry = cell.carry(params, (7,))
            want = jnp.result_type(want, jnp.complex64) if name in ("lru", "s5") else jnp.dtype(want)
            assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {want}
    assert [leaf.shape for leaf in jax.tree.leaves(carry)] == [(7, *row) for row in ROWS.get(name, ((cell.size,),))]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(carry))
    assert isinstance(carry, jaxseq.MlstmCarry) == (name == "mlstm")


def test_same_options_same_object():
    assert jaxseq.lru(4) is jaxseq.lru(size=untyped(np.int64(4)), state=4, r_min=0.9)
    assert jaxseq.s5(4) is jaxseq.s5(4, state=64)
    assert jaxseq.mlstm(4, heads=2) is jaxseq.mlstm(4, heads=2, key_size=2)
    assert jaxseq.gated_delta_net(4, heads=2, key_size=3) is jaxseq.gated_delta_net(4, key_size=3, heads=2, gated=True)
    assert jaxseq.rg_lru(4) is not jaxseq.rg_lru(4, heads=2)
    assert repr(jaxseq.mlstm(4, heads=2, key_size=3)) == "mlstm(4, heads=2, key_size=3)"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: jaxseq.lru(0), ValueError, "`size` must be a positive int"),
        (lambda: jaxseq.lru(4, state=untyped(2.5)), TypeError, "`state` must be a positive int"),
        (lambda: jaxseq.lru(4, r_max=1.0), ValueError, "`r_max` must be a rate in"),
        (lambda: jaxseq.lru(4, r_min=0.9, r_max=0.5), ValueError, "`r_max` must be at least `r_min`"),
        (lambda: jaxseq.lru(4, max_phase=0), ValueError, "`max_phase` must be a positive, finite number"),
        (lambda: jaxseq.s5(4, state=0), ValueError, "`state` must be a positive int"),
        (
            lambda: jaxseq.min_gru(4, candidate=untyped("tanh")),
            TypeError,
            "`candidate` must be an elementwise function",
        ),
        (lambda: jaxseq.min_lstm(-1), ValueError, "`size` must be a positive int"),
        (lambda: jaxseq.rg_lru(4, heads=3), ValueError, "`heads` must divide `size`; got 3 heads of 4 features"),
        (lambda: jaxseq.mamba2(4, heads=3, state=2), ValueError, "`heads` must divide `size`"),
        (lambda: jaxseq.gla(4, heads=0, key_size=2), ValueError, "`heads` must be a positive int"),
        (lambda: jaxseq.gla(4, heads=2, key_size=untyped(None)), TypeError, "`key_size` must be a positive int"),
        (
            lambda: jaxseq.gated_delta_net(4, heads=2, key_size=2, gated=untyped(1)),
            TypeError,
            "`gated` must be True or False",
        ),
        (lambda: jaxseq.gated_delta_net(5, heads=2, key_size=2), ValueError, "`heads` must divide `size`"),
        (lambda: jaxseq.mlstm(6, heads=4), ValueError, "`heads` must divide `size`"),
        (lambda: jaxseq.causal_conv(4, width=0), ValueError, "`width` must be a positive int"),
        (
            lambda: jaxseq.rg_lru(4).init(jax.random.key(0), 3),
            ValueError,
            r"`rg_lru\(4\)` needs inputs with 4",
        ),
        (lambda: jaxseq.mamba(4).init(jax.random.key(0), 3), ValueError, r"`mamba\(4\)` needs inputs with 4"),
        (lambda: jaxseq.causal_conv(4).init(jax.random.key(0), 3), ValueError, r"`causal_conv\(4\)` needs inputs"),
    ],
)
def test_options_are_checked(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_recurrent_dropout_refuses_what_hears_nothing():
    for cell in (jaxseq.min_gru(4), jaxseq.zoneout(jaxseq.min_gru(4), h=0.1), jaxseq.mlstm(4, heads=1)):
        with pytest.raises(ValueError, match="a linear cell"):
            zoo.params_of(jaxseq.dropout(cell, recurrent=0.1), 3)


def test_zoneout_refuses_outputs_that_are_not_the_state():
    for cell in (jaxseq.lru(4), jaxseq.mamba(4)):
        with pytest.raises(ValueError, match="`zoneout` of `h` needs outputs that are h"):
            zoo.params_of(jaxseq.zoneout(cell, h=0.1), 4)
