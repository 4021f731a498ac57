"""Equinox's recurrent cells by `interop.equinox`: values and gradients, in float64, and back."""

import equinox
import hypothesis
import jax
import jax.numpy as jnp
import pytest
from hypothesis import strategies as some

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.interop.problem import EXAMPLES, assert_same_net, carries, problem, run

pytestmark = pytest.mark.usefixtures("x64")

D, H = 3, 4
CELLS = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}


def assert_agrees(kinds, use_bias, ragged, seed):
    sizes = [D, *[H] * (len(kinds) - 1)]
    cells = [CELLS[kind](size, H, use_bias, key=jax.random.key(0)) for kind, size in zip(kinds, sizes, strict=True)]
    cells = zoo.random_like(cells, seed)
    net, params = interop.equinox.from_module(cells)
    given = problem(net, params, D, seed, ragged)
    got = run(net, params, given)
    mask = None if given.lengths is None else jaxseq.lengths_to_mask(given.lengths, len(given.xs))

    @jax.jit
    def gradients(cells, starts, xs):
        def loss(cells, starts, xs):
            last = []
            for cell, start in zip(cells, starts, strict=True):

                def step(carry, given, cell=cell):
                    x, real = given
                    new = jax.vmap(cell)(x, carry)
                    new = jax.tree.map(lambda new, old: jnp.where(real[:, None], new, old), new, carry)
                    y = new[0] if isinstance(new, tuple) else new
                    return new, jnp.where(real[:, None], y, 0)

                real = jnp.ones(xs.shape[:2], bool) if mask is None else mask
                end, xs = jax.lax.scan(step, start, (xs, real))
                last.append(end)
            return jnp.vdot(xs, given.d_ys) + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(last)), (xs, last)

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(cells, starts, xs)

    starts = [tuple(carry) if isinstance(carry, tuple) else carry for carry in carries(given.carry)]
    (_, (ys, last)), (d_cells, d_starts, d_xs) = gradients(cells, starts, given.xs)
    zoo.assert_close(got.ys, ys, 1e-12, "ys")
    zoo.assert_close(carries(got.last), last, 1e-12, "last")
    zoo.assert_close(carries(got.d_carry), d_starts, 1e-12, "d_carry")
    zoo.assert_close(got.d_xs, d_xs, 1e-12, "d_xs")
    back = interop.equinox.from_module(d_cells)[1]
    for mine, other in zip(*[tree if len(kinds) > 1 else [tree] for tree in (got.d_params, back)], strict=True):
        names = ("w_x", "w_h", "b", "b_hn") if use_bias else ("w_x", "w_h")
        for name in names:
            if hasattr(mine, name):
                zoo.assert_close(getattr(mine, name), getattr(other, name), 1e-12, name)
    assert_same_net((net, params), interop.equinox.from_module(interop.equinox.to_module(net, params)))


@pytest.mark.parametrize("kinds", [["lstm", "gru"], ["gru"]], ids=str)
def test_cells_agree(kinds):
    assert_agrees(kinds, True, True, 0)


@pytest.mark.learn
@hypothesis.settings(max_examples=EXAMPLES)
@hypothesis.given(
    some.lists(some.sampled_from([*CELLS]), min_size=1, max_size=3),
    some.booleans(),
    some.booleans(),
    some.integers(0, 1000),
)
def test_random_cells_agree(kinds, use_bias, ragged, seed):
    assert_agrees(kinds, use_bias, ragged, seed)


def test_faults_are_named():
    with pytest.raises(TypeError, match=r"`module` must be an eqx\.nn\.LSTMCell"):
        interop.equinox.from_module(equinox.nn.Linear(2, 2, key=jax.random.key(0)))
    with pytest.raises(ValueError, match="`module` must be a cell"):
        interop.equinox.from_module([])
    cell = equinox.nn.GRUCell(2, 3, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"`module\.bias` must be of the shape \[9\]"):
        interop.equinox.from_module(equinox.tree_at(lambda cell: cell.bias, cell, jnp.zeros(4)))


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (jaxseq.gru(H, reset_after=False), "reset_after=False"),
        (jaxseq.rnn(H), "jaxseq.rnn"),
        (jaxseq.lstm(H, projection=2), "projection=2"),
        (jaxseq.residual(jaxseq.lstm(D)), "`residual`"),
    ],
    ids=str,
)
def test_what_equinox_has_no_equal_of_is_named(net, words):
    with pytest.raises(ValueError, match=words):
        interop.equinox.to_module(net, net.init(jax.random.key(0), D))
