"""Haiku's recurrent cores by `interop.haiku`: values and gradients, in float64, and back."""

from typing import Any

import haiku as hk
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as some

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.interop.problem import EXAMPLES, assert_same_net, problem, run

pytestmark = pytest.mark.usefixtures("x64")

D, H = 3, 4
CORES = {"lstm": hk.LSTM, "gru": hk.GRU, "vanilla_rnn": hk.VanillaRNN}


def theirs(carry):
    return hk.LSTMState(jnp.asarray(carry.h), jnp.asarray(carry.c)) if isinstance(carry, jaxseq.LstmCarry) else carry


class Held(hk.RNNCore):
    """Cores that hold their states on padding, and give zeros there."""

    def __init__(self, cores):
        super().__init__()
        self.cores = cores

    def __call__(self, inputs, states):
        x, real = inputs
        after = []
        for core, before in zip(self.cores, states, strict=True):
            x, new = core(x, before)
            after.append(jax.tree.map(lambda new, old: jnp.where(real[:, None], new, old), new, before))
            x = jnp.where(real[:, None], x, 0)
        return x, tuple(after)

    def initial_state(self, batch_size: int | None) -> Any:
        return tuple(core.initial_state(batch_size) for core in self.cores)


def assert_agrees(kinds, ragged, seed):
    @hk.without_apply_rng
    @hk.transform
    def unroll(xs, real, states):
        return hk.dynamic_unroll(Held([CORES[kind](H) for kind in kinds]), (xs, real), states)

    def states(carry):
        return tuple(map(theirs, carry if len(kinds) > 1 else [carry]))

    zeros = jnp.zeros([1, H])
    starts = tuple(hk.LSTMState(zeros, zeros) if kind == "lstm" else zeros for kind in kinds)
    shapes = jax.eval_shape(unroll.init, jax.random.key(0), jnp.zeros([2, 1, D]), jnp.ones([2, 1], bool), starts)
    params = zoo.random_like(shapes, seed)
    counts = [kinds[:place].count(kind) for place, kind in enumerate(kinds)]
    names = [f"{kind}_{count}" if count else kind for kind, count in zip(kinds, counts, strict=True)]
    net, ours = interop.haiku.from_params(params, names)
    given = problem(net, ours, D, seed, ragged)
    got = run(net, ours, given)
    whole = np.full(len(given.xs[0]), len(given.xs))
    real = jaxseq.lengths_to_mask(whole if given.lengths is None else given.lengths, len(given.xs))

    @jax.jit
    def gradients(params, carry, xs):
        def loss(params, carry, xs):
            ys, last = unroll.apply(params, xs, real, states(carry))
            return jnp.vdot(ys, given.d_ys) + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(last)), (ys, last)

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, carry, xs)

    (_, (ys, last)), (d_params, d_carry, d_xs) = gradients(params, given.carry, given.xs)
    zoo.assert_close(got.ys, ys, 1e-12, "ys")
    zoo.assert_close(states(got.last), last, 1e-12, "last")
    zoo.assert_close(got.d_carry, d_carry, 1e-12, "d_carry")
    zoo.assert_close(got.d_xs, d_xs, 1e-12, "d_xs")
    back = interop.haiku.from_params(d_params, names)[1]
    pairs = zip(*[tree if len(kinds) > 1 else [tree] for tree in (got.d_params, back)], kinds, strict=True)
    for mine, other, kind in pairs:
        added = jnp.repeat(jnp.array([0.0, 1, 0, 0]), H) if kind == "lstm" else 0  # which is of weights alone
        times = 2 if kind == "vanilla_rnn" else 1  # the two biases have one gradient each
        zoo.assert_close(mine, other._replace(b=(other.b - added) / times), 1e-12, kind)


@pytest.mark.parametrize("kinds", [["lstm", "gru"], ["vanilla_rnn"]], ids=str)
def test_cores_agree(kinds):
    assert_agrees(kinds, True, 0)


@pytest.mark.learn
@hypothesis.settings(max_examples=EXAMPLES)
@hypothesis.given(
    some.lists(some.sampled_from([*CORES]), min_size=1, max_size=3), some.booleans(), some.integers(0, 10_000)
)
def test_random_cores_agree(kinds, ragged, seed):
    assert_agrees(kinds, ragged, seed)


NET = jaxseq.stack(
    jaxseq.gru(H, reset_after=False, update_writes=True), jaxseq.rnn(H, activation=jax.nn.relu), jaxseq.lstm(H)
)


def test_back_and_forth():
    """To the bit, but for the forget gate's bias, to which Haiku adds 1."""
    params = zoo.params_of(NET, D)
    written = interop.haiku.to_params(NET, params)
    assert sorted(written) == ["gru", "lstm/linear", "vanilla_rnn/linear", "vanilla_rnn/linear_1"]
    net, again = interop.haiku.from_params(written, ["gru", "vanilla_rnn", "lstm"])
    assert_same_net((NET, (*params[:2], None)), (net, (*again[:2], None)))
    zoo.assert_close(again, params, 1e-15)
    keeps = jaxseq.gru(H, reset_after=False)
    other, negated = interop.haiku.from_params(interop.haiku.to_params(keeps, params[0]), "gru")
    xs = np.random.default_rng(0).normal(size=(4, 2, D))
    zoo.assert_close(jaxseq.unroll(other, negated, xs)[1], jaxseq.unroll(keeps, params[0], xs)[1], 1e-14)


FAULTS = {
    "`params` must be dicts": ([], "lstm"),
    "`names` must be": ({}, 3),
    "`params` have no recurrent core 'lstm'": ({"gru": {"w_h": np.zeros([2, 6])}}, "lstm"),
    "`params` must have 'gru/w_i'": ({"gru": {"w_h": np.zeros([2, 6])}}, "gru"),
    "must be \\[D \\+ H, 4H\\]": ({"lstm/linear": {"w": np.zeros([3, 12]), "b": np.zeros(12)}}, "lstm"),
}


@pytest.mark.parametrize("words", FAULTS)
def test_faults_are_named(words):
    with pytest.raises((TypeError, ValueError), match=words):
        interop.haiku.from_params(*FAULTS[words])


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (jaxseq.gru(H), "reset_after=True"),
        (jaxseq.rnn(H), "activation=tanh"),
        (jaxseq.lstm(H, peephole="new"), "peephole='new'"),
        (jaxseq.bidirectional(jaxseq.lstm(H)), "`bidirectional`"),
        (jaxseq.conv_lstm((D,), 1), "conv_lstm"),
    ],
    ids=str,
)
def test_what_haiku_has_no_equal_of_is_named(net, words):
    with pytest.raises(ValueError, match=words):
        interop.haiku.to_params(net, net.init(jax.random.key(0), D))
