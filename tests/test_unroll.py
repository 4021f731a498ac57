"""The front door with composites, a user's own kernel, and the road of noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import Composite, kernels
from tests import zoo

KEY = jax.random.key(0)


def two_layers(lower, upper):
    """A causal composite as the wrappers make them: each layer goes through the front door, noise only with a key."""

    def init(key, in_size, dtype=None):
        keys = jax.random.split(key)
        return lower.init(keys[0], in_size, dtype), upper.init(keys[1], lower.size, dtype)

    def carry(params, batch_shape=()):
        return tuple(cell.carry(p, batch_shape) for cell, p in zip((lower, upper), params, strict=True))

    def unroll(run, params, xs, carry, *, mask, reset, reverse, key):
        flags = {"mask": mask, "reset": reset, "reverse": reverse, "key": key}
        first, ys = run(lower, params[0], xs, carry[0], **flags)
        if key is not None:
            ys = ys * jax.random.bernoulli(key, 0.5, ys.shape[1:]) * 2
        second, ys = run(upper, params[1], ys, carry[1], **flags)
        return (first, second), ys

    def step(params, carry, x):
        first, y = jaxseq.step(lower, params[0], carry[0], x)
        second, y = jaxseq.step(upper, params[1], carry[1], y)
        return (first, second), y

    return Composite(upper.size, init, carry, unroll, step)


NET = two_layers(jaxseq.lstm(4), two_layers(jaxseq.gru(3), jaxseq.rnn(5)))
PARAMS = zoo.params_of(NET, 2)
XS = jnp.asarray(np.random.default_rng(1).normal(size=(6, 3, 2)), jnp.float32)
run = jax.jit(functools.partial(jaxseq.unroll, NET, PARAMS))


def test_a_nested_composite_is_its_layers_in_turn():
    carry, ys = jaxseq.unroll(NET, PARAMS, XS)
    lstm, (gru, rnn) = PARAMS
    first, h = jaxseq.unroll(jaxseq.lstm(4), lstm, XS)
    second, h = jaxseq.unroll(jaxseq.gru(3), gru, h)
    third, h = jaxseq.unroll(jaxseq.rnn(5), rnn, h)
    np.testing.assert_array_equal(ys, h)
    jax.tree.map(np.testing.assert_array_equal, carry, (first, (second, third)))


def test_a_composite_steps():
    want_carry, want = run(XS)
    step = jax.jit(functools.partial(jaxseq.step, NET, PARAMS))
    carry, ys = None, []
    for x in np.asarray(XS):
        carry, y = step(carry, x)
        ys.append(y)
    np.testing.assert_allclose(np.stack(ys), want, atol=1e-6)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, atol=1e-6), carry, want_carry)


def test_the_kernel_reaches_every_layer():
    seen = []

    def spy(cell, params, carry, xs, *, reverse=False):
        seen.append((cell.size, reverse))
        return kernels.scan(cell, params, carry, xs, reverse=reverse)

    jaxseq.unroll(NET, PARAMS, XS, kernel=spy, reverse=True)
    assert seen == [(4, True), (3, True), (5, True)]


def test_masks_and_resets_reach_every_layer():
    lengths = np.array([6, 2, 0])
    mask = jaxseq.lengths_to_mask(lengths, 6)
    xs = np.asarray(XS)
    carry, ys = jax.tree.map(np.asarray, run(np.where(np.asarray(mask)[..., None], xs, np.nan), mask=mask))
    for b, length in enumerate(lengths):
        want_carry, want = run(xs[:length, b])
        np.testing.assert_allclose(ys[:length, b], want, atol=1e-6)
        for got, leaf in zip(jax.tree.leaves(carry), jax.tree.leaves(want_carry), strict=True):
            np.testing.assert_allclose(got[b], leaf, atol=1e-6)
    reset = np.zeros((6, 3), bool)
    reset[4] = True
    _, packed = run(xs, reset=reset)
    np.testing.assert_allclose(np.asarray(packed)[4:], run(xs[4:])[1], atol=1e-6)


def test_no_key_no_noise():
    quiet = jaxseq.unroll(NET, PARAMS, XS)[1]
    np.testing.assert_array_equal(quiet, jaxseq.unroll(NET, PARAMS, XS, key=None)[1])
    noisy = jaxseq.unroll(NET, PARAMS, XS, key=KEY)[1]
    np.testing.assert_array_equal(noisy, jaxseq.unroll(NET, PARAMS, XS, key=KEY)[1])
    assert np.abs(np.asarray(noisy) - np.asarray(quiet)).max() > 0.01
    cell = jaxseq.gru(3)
    params = zoo.params_of(cell, 2)
    without, given = (jaxseq.unroll(cell, params, XS, key=key)[1] for key in (None, KEY))
    np.testing.assert_array_equal(without, given)


def test_a_composite_that_is_not_causal_does_not_step():
    with pytest.raises(ValueError, match="not causal"):
        jaxseq.step(NET._replace(step=None), PARAMS, None, XS[0])


def test_a_composite_is_static_under_jit_and_checked():
    want = jaxseq.unroll(NET, PARAMS, XS)[1]
    np.testing.assert_allclose(jax.jit(jaxseq.unroll)(NET, PARAMS, XS)[1], want, atol=1e-6)
    with pytest.raises(ValueError, match=r"`params\[0\].w_x` must be \(9, 16\).*D = 9"):
        jaxseq.unroll(NET, PARAMS, np.ones((6, 3, 9), np.float32))
    with pytest.raises(ValueError, match=r"`carry\[1\]\[0\]` must be float32 \(3, 3\)"):
        jaxseq.unroll(NET, PARAMS, XS, NET.carry(PARAMS, (3,))[:1] + NET.carry(PARAMS, (2,))[1:])


def test_step_starts_again_in_the_rows_that_are_reset():
    """In nets too, and from a learned carry."""
    net = jaxseq.stack(jaxseq.learned_carry(jaxseq.gru(4)), jaxseq.lstm(3))
    params = zoo.params_of(net, 2)
    carry = zoo.random_like(jax.eval_shape(lambda: net.carry(params, (3,))), 1)
    x, reset = np.ones((3, 2), np.float32), np.array([True, False, True])

    @jax.jit
    def steps(params, carry, x, reset):
        reset_in = jaxseq.step(net, params, carry, x, reset=reset)
        return reset_in, jaxseq.step(net, params, None, x), jaxseq.step(net, params, carry, x)

    got, fresh, held = jax.tree.map(np.asarray, steps(params, carry, x, reset))
    for row, want in enumerate((fresh, held, fresh)):
        of_row = functools.partial(jax.tree.map, lambda leaf, row=row: leaf[row])
        zoo.assert_close(of_row(got), of_row(want), 1e-6)
    with pytest.raises(ValueError, match=r"`reset` must be bool \[B\] = \(3,\); got bool \(1,\)"):
        jaxseq.step(net, params, carry, x, reset=reset[:1])
