"""Cells of one's own that are not what `Cell` says: the function at fault is named, and what it was given."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxseq
from jaxseq import nn

T, B, D, H = 5, 2, 3, 4  # a step's output [2, 4] that is taken for the pair of carry and output, by mistake, unpacks


def init(key, in_size, dtype=None):
    return {"x": jnp.ones((in_size, H), dtype), "h": jnp.eye(H, dtype=dtype)}


def carry(params, batch_shape=()):
    return jnp.zeros((*batch_shape, H), params["h"].dtype)


def project(params, xs):
    return xs @ params["x"]


def step(params, carry, u):
    h = jnp.tanh(u + carry @ params["h"])
    return h, h


GOOD = jaxseq.Cell(H, init, carry, project, step)
XS = jnp.ones((T, B, D))


def unroll(cell, **options):
    return jaxseq.unroll(cell, init(None, D), XS, **options)


STACKED = init(None, D), jaxseq.rnn(2).init(jax.random.key(0), H)
RUNS = {
    "unroll": unroll,
    "masked": lambda cell: unroll(cell, mask=jnp.ones((T, B), bool)),
    "gradient": lambda cell: jax.jit(jax.grad(lambda xs: jaxseq.unroll(cell, init(None, D), xs)[1].sum()))(XS),
    "nest": lambda cell: jaxseq.unroll(jaxseq.stack(cell, jaxseq.rnn(2)), STACKED, XS),
    "step": lambda cell: jaxseq.step(cell, init(None, D), None, XS[0]),
    "layer": lambda cell: nn.Recurrent(cell, D, rngs=nnx.Rngs(0))(jnp.ones((B, T, D))),
}


def test_a_cell_that_is_fine_is_fine():
    for run in RUNS.values():
        run(GOOD)


@pytest.mark.parametrize(
    ("change", "message", "runs"),
    [
        (
            {"step": lambda params, carry, u: step(params, carry, u)[1]},
            r"`cell.step` must return \(carry, y\); got float32 \(2, 4\)",
            RUNS,
        ),
        (
            {"step": lambda params, carry: (carry, carry)},
            r"`cell.step` must take \(params, carry, u\); <lambda> takes \(params, carry\)",
            RUNS,
        ),
        ({"project": lambda xs: xs}, r"`cell.project` must take \(params, xs\); <lambda> takes \(xs\)", RUNS),
        (
            {"carry": lambda params: carry(params)},
            r"`cell.carry` must take \(params, batch_shape=\(\)\); <lambda> takes \(params\)",
            ["unroll", "masked", "gradient", "step", "layer"],  # a stack asks for the carry by itself
        ),
        (
            {"init": lambda key, in_size: init(key, in_size)},
            r"`cell.init` must take \(key, in_size, dtype=None\); <lambda> takes \(key, in_size\)",
            ["layer"],
        ),
        ({"init": lambda key: init(key, D)}, r"`cell.init` must take \(key, in_size, dtype=None\)", ["unroll", "step"]),
        (
            {"step": lambda params, carry, u: (carry[..., :1], u)},
            r"must return \(carry, y\), with a carry like the one it was given, float32 \(2, 4\); got float32 \(2, 1\)",
            ["unroll", "gradient", "nest", "layer"],
        ),
        (
            {"carry": lambda params, batch_shape=(): jnp.zeros((*batch_shape, H + 1))},
            r"(?s)dot_general.*\n`cell.step\(params, carry, u\)` was given carry float32 \(2, 5\), u float32 \(2, 4\)",
            ["unroll", "masked", "step", "layer"],
        ),
        (
            {"project": lambda params, xs: xs @ params["h"]},
            r"(?s)dot_general.*\n`cell.project\(params, xs\)` was given xs float32 \(2, 3\)",
            ["unroll", "masked", "step"],
        ),
    ],
)
def test_the_function_at_fault_is_named(change, message, runs):
    cell = GOOD._replace(**change)
    for name in runs:
        with pytest.raises(TypeError, match=message):
            RUNS[name](cell)


def test_errors_of_a_kernel_are_left_alone():
    def kernel(cell, params, carry, xs, *, reverse=False):
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own") as raised:
        unroll(GOOD, kernel=kernel)
    assert "cell" not in str(raised.value) + str(getattr(raised.value, "__notes__", ""))
