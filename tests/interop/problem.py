"""A net run on random inputs from a random carry: outputs, last carry, gradients by params, carry and inputs."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxseq
from jaxseq import LstmCarry
from tests import zoo
from tests.full import FULL

EXAMPLES = 200 if FULL else 6
"""Random nets for each library."""


class Problem(NamedTuple):
    """`xs [T, B, D]` from a carry, with lengths where ragged, and the cotangents of the outputs."""

    xs: np.ndarray
    carry: Any
    d_ys: np.ndarray
    lengths: np.ndarray | None


class Results(NamedTuple):
    ys: Any
    last: Any
    d_params: Any
    d_carry: Any
    d_xs: Any


def problem(net, params, in_size, seed, ragged, steps=6, batch=3):
    generator = np.random.default_rng(seed)
    xs, d_ys = generator.normal(size=(steps, batch, in_size)), generator.normal(size=(steps, batch, net.size))
    lengths = np.array([steps, 1, *generator.integers(1, steps + 1, batch - 2)]) if ragged else None
    shapes = jax.eval_shape(lambda params: net.carry(params, (batch,)), params)
    return Problem(xs, zoo.random_like(shapes, seed), d_ys, lengths)


def run(net, params, given):
    mask = None if given.lengths is None else jaxseq.lengths_to_mask(given.lengths, len(given.xs))
    return Results(*_run(net, params, given.carry, given.xs, given.d_ys, mask))


@functools.partial(jax.jit, static_argnums=0)
def _run(net, params, carry, xs, d_ys, mask):
    def loss(params, carry, xs):
        last, ys = jaxseq.unroll(net, params, xs, carry, mask=mask)
        return jnp.vdot(ys, d_ys) + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(last)), (ys, last)

    (_, (ys, last)), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, carry, xs)
    return ys, last, *gradients


def carries(tree):
    """The carries of single cells: layer by layer, forward before backward."""
    if isinstance(tree, LstmCarry) or not isinstance(tree, tuple):
        return [tree]
    return [carry for part in tree for carry in carries(part)]


def assert_same_net(before, after):
    """A net and its params came back as they were, to the bit."""
    assert before[0] is after[0]
    assert jax.tree.structure(before[1]) == jax.tree.structure(after[1])
    for was, now in zip(*map(jax.tree.leaves, (before[1], after[1])), strict=True):
        assert was.dtype == now.dtype
        np.testing.assert_array_equal(was, now)
