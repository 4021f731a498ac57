"""The Linen layer is the NNX layer on the same params."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx, serialization

import jaxseq
from jaxseq import kernels, linen, nn
from tests import zoo
from tests.nn.drawn import drawn

NET = jaxseq.stack(jaxseq.bidirectional(jaxseq.lstm(3)), jaxseq.dropout(jaxseq.gru(4), outputs=0.5))
XS = jax.random.normal(jax.random.key(1), (3, 5, 2))
MASK = jnp.arange(5) < jnp.array([5, 3, 0])[:, None]
RESET = jnp.zeros((3, 5), bool).at[0, 3].set(True)


def test_it_is_the_nnx_layer():
    layer = linen.Recurrent(NET)
    variables = jax.eval_shape(layer.init, jax.random.key(0), XS)
    other = drawn(nn.Recurrent, NET, 2)
    params = jax.tree.map(lambda p: p[...], other.params, is_leaf=lambda p: isinstance(p, nnx.Param))
    assert jax.tree.structure(variables["params"]["weights"]) == jax.tree.structure(params)
    variables = {"params": {"weights": params}}
    carry = zoo.random_like(other.initial_carry((3,)), 2)
    options: dict[str, Any] = {"mask": MASK, "reset": RESET, "key": jax.random.key(3)}

    @jax.jit
    def by_linen(variables):
        unrolled = layer.apply(variables, XS, carry, method="unroll", **options)
        return unrolled, layer.apply(variables, XS, carry, **options), layer.apply(variables, XS)

    @nnx.jit
    def by_nnx(other):
        return other.unroll(XS, carry, **options), other(XS, carry, **options), other(XS)  # no noise without a key

    zoo.assert_close(by_linen(variables), by_nnx(other), 1e-6)


def test_init_is_the_cells():
    layer = linen.Recurrent(jaxseq.lstm(4), kernel=kernels.scan, param_dtype=jnp.bfloat16)
    xs = XS.astype(jnp.bfloat16)
    variables = jax.eval_shape(lambda: layer.init(jax.random.key(0), xs, mask=MASK))
    want = jax.eval_shape(lambda: jaxseq.lstm(4).init(jax.random.key(0), 2, jnp.bfloat16))
    assert variables == {"params": {"weights": want}}
    assert variables == jax.eval_shape(lambda: layer.init(jax.random.key(0), xs, method="unroll"))
    assert jax.eval_shape(layer.apply, variables, xs).dtype == jnp.bfloat16


def test_it_trains_inside_other_modules_and_is_saved():
    model = flax_linen.Sequential([linen.Recurrent(jaxseq.gru(4)), flax_linen.Dense(1)])
    variables = zoo.random_like(jax.eval_shape(model.init, jax.random.key(0), XS), 0)
    gradients = jax.jit(jax.grad(lambda v: jnp.sum(jnp.asarray(model.apply(v, XS)) ** 2)))(variables)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))
    restored = serialization.from_bytes(variables, serialization.to_bytes(variables))
    assert jax.tree.structure(restored) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, restored, variables)


@pytest.mark.parametrize(
    ("cell", "call", "error", "message"),
    [
        (jaxseq.lstm(4), {"mask": MASK.T}, ValueError, r"`mask` must be bool \[B, T\].* Did you pass time-major\?"),
        (jaxseq.lstm(4), {"xs": jnp.ones(2)}, ValueError, r"`xs` must be \[B, T, D\], of at least 2 axes"),
        (jaxseq.lstm(4), {"xs": jnp.ones(())}, ValueError, r"`xs` must be \[B, T, D\], of at least 2 axes"),
        (jaxseq.lstm, {}, TypeError, "`cell` must be a jaxseq.Cell or a jaxseq.Composite"),
    ],
)
def test_errors(cell, call, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda: linen.Recurrent(cell).init(jax.random.key(0), **({"xs": XS} | call)))


def test_steps_are_the_unroll():
    layer = linen.Recurrent(jaxseq.lstm(4))
    variables = zoo.random_like(jax.eval_shape(layer.init, jax.random.key(0), XS), 0)
    carry, ys = None, []
    for t in range(5):
        carry, y = layer.apply(variables, carry, XS[:, t], reset=RESET[:, t], method="step")
        ys.append(y)
    zoo.assert_close((carry, jnp.stack(ys, 1)), layer.apply(variables, XS, reset=RESET, method="unroll"), 1e-6)
    with pytest.raises(ValueError, match="`step` cannot make variables; init with a whole sequence"):
        layer.init(jax.random.key(0), None, XS[:, 0], method="step")
