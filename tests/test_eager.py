"""Eager calls around functions of the user's: compiled once, and never with what was closed over before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq._eager import eager


class Model:
    """With params that change, as those of a module in training."""

    def __init__(self):
        self.w, self.scale = jnp.arange(3.0), 2.0

    def step(self, x):
        return self.scale * x + self.w


def looped(step, x):
    return eager(lambda x: {"y": jax.lax.fori_loop(0, 3, lambda _, x: step(x), x)}, x)["y"]


def by_hand(model, x):
    for _ in range(3):
        x = model.scale * x + np.asarray(model.w)
    return x


def test_it_compiles_once_for_what_it_computes(count_compilations):
    model, x = Model(), np.ones(3, np.float32)
    assert count_compilations(lambda: looped(model.step, x)) > 0
    assert count_compilations(lambda: looped(model.step, x + 1)) == 0
    assert count_compilations(lambda: looped(lambda x: model.step(x), x)) == 0  # another function at each call
    model.w = -model.w  # what is closed over is data
    assert count_compilations(lambda: np.testing.assert_allclose(looped(model.step, x), by_hand(model, x))) == 0
    model.scale = 3.0  # but for numbers, which are part of the program
    np.testing.assert_allclose(looped(model.step, x), by_hand(model, x))
    other = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(looped(model.step, other), by_hand(model, other))


def test_under_transformations_it_is_the_function():
    model, x = Model(), np.ones((2, 3), np.float32)
    want = by_hand(model, x)
    np.testing.assert_allclose(jax.jit(lambda x: looped(model.step, x))(x), want)
    np.testing.assert_allclose(jax.vmap(lambda x: looped(model.step, x))(x), want)
    np.testing.assert_allclose(jax.jacfwd(lambda w: looped(lambda x: x + w * x, 1.0))(2.0), 3 * 3.0**2)
    inside = jax.vmap(lambda w: looped(lambda x: x * w, np.ones(3, np.float32)))(np.array([1, 2], np.float32))
    np.testing.assert_allclose(inside, np.outer([1, 8], np.ones(3)))
    assert "while" in str(jax.make_jaxpr(lambda: looped(model.step, x))()) or "scan" in str(
        jax.make_jaxpr(lambda: looped(model.step, x))()
    )
    with jax.disable_jit():
        np.testing.assert_allclose(looped(model.step, x), want)


@pytest.mark.parametrize("effect", [False, True])
def test_what_calls_back_is_never_kept(effect):
    seen = []

    def calling(value):
        def call(x):
            seen.append(value)
            return np.float32(x) + value

        def step(x):
            if effect:
                jax.debug.callback(call, x)
                return x
            return jax.pure_callback(call, jax.ShapeDtypeStruct(np.shape(x), jnp.float32), x)

        return step

    got = [np.asarray(looped(calling(value), np.float32(0))).item() for value in (1, 2)]
    jax.effects_barrier()
    assert seen == [1] * 3 + [2] * 3
    assert got == ([0, 0] if effect else [3, 6])
