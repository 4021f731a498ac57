"""What `bidirectional` is beside the laws of test_contract: structure, resets, no step, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import Bidirectional, bidirectional
from tests import zoo
from tests.untyped import untyped

KEY = jax.random.key(0)


def test_params_and_carry_are_of_two_directions():
    net = bidirectional(jaxseq.lstm(4), jaxseq.gru(3))
    params = zoo.params_of(net, 2)
    assert isinstance(params, Bidirectional)
    assert (type(params.forward).__name__, type(params.backward).__name__) == ("LstmParams", "GruParams")
    carry, ys = jaxseq.unroll(net, params, np.ones((5, 2), np.float32))
    ys = np.asarray(ys)
    assert isinstance(carry, Bidirectional)
    np.testing.assert_array_equal(carry.forward.h, ys[-1, :4])
    np.testing.assert_array_equal(carry.backward, ys[0, 4:])


def test_directions_of_one_form_start_from_different_weights():
    cell = jaxseq.rnn(4, recurrent_init=lambda key, shape, dtype=None: jnp.zeros(shape, dtype))
    params = jax.jit(lambda: bidirectional(cell).init(KEY, 3))()
    assert np.any(np.asarray(params.forward.w_x) != np.asarray(params.backward.w_x))


def test_same_directions_same_object():
    assert bidirectional(jaxseq.lstm(4)) is bidirectional(jaxseq.lstm(4), jaxseq.lstm(4), merge="concat")


def test_merges(x64):
    """Of each direction by itself; zeros on padding, whatever the merge."""
    forward, backward = jaxseq.gru(4), jaxseq.rnn(4)
    nets = {merge: bidirectional(forward, backward, merge=merge) for merge in ("concat", "sum", "mean", "mul")}
    params, xs = zoo.params_of(nets["sum"], 3), np.random.default_rng(1).normal(size=(5, 2, 3))
    mask = np.ones((5, 2), bool)
    mask[3:, 1] = False

    @jax.jit
    def run(params, xs):
        ys = {merge: jaxseq.unroll(net, params, xs, mask=mask)[1] for merge, net in nets.items()}
        d_ys = jax.grad(lambda xs: jaxseq.unroll(nets["mul"], params, xs, mask=mask)[1].sum())(xs)
        by_parts = jax.grad(lambda xs: jnp.prod(jnp.stack(parts(params, xs)), axis=0).sum())(xs)
        return ys, parts(params, xs), d_ys, by_parts

    def parts(params, xs):
        _, ys = jaxseq.unroll(forward, params.forward, xs, mask=mask)
        _, zs = jaxseq.unroll(backward, params.backward, xs, mask=mask, reverse=True)
        return ys, zs

    got, (ys, zs), d_ys, by_parts = jax.tree.map(np.asarray, run(params, xs))
    want = {"concat": np.concatenate([ys, zs], -1), "sum": ys + zs, "mean": (ys + zs) / 2, "mul": ys * zs}
    zoo.assert_close(got, want, 1e-12)
    zoo.assert_close(d_ys, by_parts, 1e-12)
    assert not any(np.any(each[3:, 1]) for each in got.values())
    assert {merge: net.size for merge, net in nets.items()} == {"concat": 8, "sum": 4, "mean": 4, "mul": 4}


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_packed_rows_do_not_see_one_another(merge, x64):
    """Sequences of 2, 1 and 3 steps packed in a row, in both directions, are as each alone."""
    net = bidirectional(jaxseq.gru(4), merge=merge)
    run = jax.jit(functools.partial(jaxseq.unroll, net, zoo.params_of(net, 3)))
    xs = np.random.default_rng(1).normal(size=(6, 3))
    reset = np.array([True, False, True, True, False, False])
    _, packed = run(xs, reset=reset)
    for first, end in ((0, 2), (2, 3), (3, 6)):
        zoo.assert_close(np.asarray(packed)[first:end], run(xs[first:end])[1], 1e-12)


def test_errors():
    with pytest.raises(ValueError, match=r"`merge` must be 'concat' or 'sum' or 'mean' or 'mul'; got 'ave'"):
        bidirectional(jaxseq.lstm(4), merge="ave")
    with pytest.raises(ValueError, match=r"`merge` 'mul' needs outputs of equal sizes; got 4 and 3"):
        bidirectional(jaxseq.lstm(4), jaxseq.gru(3), merge="mul")
    with pytest.raises(TypeError, match=r"must be a jaxseq.Cell"):
        bidirectional(untyped("lstm"))
    with pytest.raises(TypeError, match=r"must be a jaxseq.Cell"):
        bidirectional(jaxseq.lstm(4), untyped(jaxseq.lstm))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net,
        lambda net: jaxseq.stack(jaxseq.gru(4), net),
        lambda net: jaxseq.dropout(jaxseq.residual(net), inputs=0.5),
    ],
    ids=["alone", "stacked", "nested"],
)
def test_it_cannot_step(wrap):
    net = wrap(bidirectional(jaxseq.gru(2)))
    params = zoo.params_of(net, 4)
    with pytest.raises(ValueError, match=r"this Composite is not causal"):
        jaxseq.step(net, params, None, jnp.ones(4))
    with pytest.raises(ValueError, match=r"this Composite is not causal"):
        jaxseq.stream(net, params, [jnp.ones((2, 4))])
