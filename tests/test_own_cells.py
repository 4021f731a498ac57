"""Cells of one's own that are not what `Cell` says: the function at fault is named, and what it was given."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxseq
from jaxseq import nn
from tests import zoo

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


STACKED = init(None, D), zoo.params_of(jaxseq.rnn(2), H)
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


def fwd(params, carry, u):
    h = jnp.tanh(u + carry @ params["h"])
    return h, h, (carry, h)


def bwd(params, saved, d_carry, d_y):
    d_u = (d_carry + d_y) * (1 - saved[1] ** 2)
    return d_u @ params["h"].T, d_u


def collect(params, saved, d_us):
    return {"x": jnp.zeros_like(params["x"]), "h": jnp.einsum("tbi,tbo->io", saved[0], d_us)}


def project_back(params, xs, d_us):
    return {"x": jnp.einsum("tbi,tbo->io", xs, d_us), "h": None}, d_us @ params["x"].T


BY_HAND = GOOD._replace(backward=jaxseq.Backward(fwd, bwd, collect, project_back))
AROUND = {
    "plain": lambda cell: cell,
    "zoneout": lambda cell: jaxseq.zoneout(cell, h=0.2),
    "learned": jaxseq.learned_carry,
}


def gradient(cell, around, masked=False):
    net = AROUND[around](cell)
    mask = jnp.ones((T, B), bool) if masked else None
    return jax.grad(lambda params: jaxseq.unroll(net, params, XS, mask=mask)[1].sum())(net.init(None, D))


def test_a_backward_that_is_fine_is_fine():
    jaxseq.check_bptt(BY_HAND, init(None, D), XS)
    gradient(BY_HAND, "zoneout", masked=True)


@pytest.mark.some(13)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"fwd": lambda params, carry, u: (*fwd(params, carry, u)[::2], fwd(params, carry, u)[1])},
            r"`cell.backward.fwd` must return \(carry, y, saved\).*; got \('float32 \(2, 4\)', \('float32",
        ),
        (
            {"fwd": lambda params, carry, u: fwd(params, carry, u)[:2]},
            r"`cell.backward.fwd` must return \(carry, y, saved\).*; got \('float32 \(2, 4\)', 'float32 \(2, 4\)'\)",
        ),
        ({"fwd": lambda params, carry: None}, r"`cell.backward.fwd` must take \(params, carry, u\); <lambda> takes"),
        (
            {"fwd": lambda params, carry, u: fwd(params, carry[:, :2], u)},
            r"(?s)dot_general.*`cell.backward.fwd\(params, carry, u\)` was given carry float32 \(2, 4\)",
        ),
        (
            {"bwd": lambda params, saved, d_carry, d_y: (saved, bwd(params, saved, d_carry, d_y)[0])},
            r"`cell.backward.bwd` must return \(d_carry, d_u\).* like .*float32 \(2, 4\).*; got \(\('float32",
        ),
        (
            {"bwd": lambda params, saved, d_carry, d_y: d_carry},
            r"`cell.backward.bwd` must return \(d_carry, d_u\).*; got float32 \(2, 4\)",
        ),
        (
            {"bwd": lambda params, saved, d_y: (d_y, d_y)},
            r"`cell.backward.bwd` must take \(params, saved, d_carry, d_y\); <lambda> takes \(params, saved, d_y\)",
        ),
        (
            {"collect": lambda *given: {"h": collect(*given)["h"]}},
            r"`cell.backward.collect` must return d_params, gradients like .*'x': .*; got .*'h'",
        ),
        (
            {"collect": lambda *given: {**collect(*given), "h": collect(*given)["h"][:1]}},  # it would be broadcast
            r"`cell.backward.collect` must return d_params, .*'h': 'float32 \(4, 4\)'.*; got .*'h': 'float32 \(1, 4\)'",
        ),
        (
            {"project": lambda *given: project_back(*given)[::-1]},
            r"`cell.backward.project` must return \(d_params, d_xs\), gradients like .*; got \('float32 \(5, 2, 3\)'",
        ),
    ],
    ids=[
        *("fwd's order", "fwd's two", "fwd's arguments", "fwd fails", "bwd's order", "bwd's one", "bwd's arguments"),
        *("collect's keys", "collect's shape", "project's order"),
    ],
)
@pytest.mark.parametrize(("around", "masked"), [("plain", False), ("zoneout", False), ("learned", True)])
def test_the_function_of_a_backward_at_fault_is_named(change, message, around, masked):
    backward = BY_HAND.backward
    assert backward is not None
    with pytest.raises(TypeError, match=message):
        gradient(BY_HAND._replace(backward=backward._replace(**change)), around, masked)


def test_a_bwd_that_forgets_the_heard_is_named():
    def hearing(params, carry, u):
        remembered, h = carry if isinstance(carry, jaxseq.Heard) else (carry, carry)
        new = remembered + jnp.tanh(u + h @ params["h"])
        return new, new, (h, new - remembered)

    backward = jaxseq.Backward(hearing, bwd, collect)
    cell = jaxseq.dropout(
        BY_HAND._replace(step=lambda *of: hearing(*of)[:2], backward=backward, hears=True), recurrent=0.2
    )
    with pytest.raises(TypeError, match=r"`cell.backward.bwd` must return \(d_carry, d_u\), .* Heard\(.*; got float32"):
        jax.grad(lambda xs: jaxseq.unroll(cell, init(None, D), xs, key=jax.random.key(0))[1].sum())(XS)


def test_a_carry_without_its_batch_is_named():
    cell = GOOD._replace(carry=lambda params, batch_shape=(): jnp.zeros(H))
    for flags in ({}, {"mask": jnp.ones((T, B), bool)}):
        with pytest.raises(
            ValueError, match=r"`cell.carry\(params, \(2,\)\)` must return the batch axes too; got \(4,"
        ):
            unroll(cell, **flags)
