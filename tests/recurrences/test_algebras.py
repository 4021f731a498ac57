"""Each algebra by steps, in chunks and at once against a plain loop: values, and gradients along directions.

Elements are masked and restarted as `masking.masked` does it. Decays are 0, 1 and between, so that the traps of chunks
are all there: exponents that overflow, differences of infinite logarithms, sequences that start within a chunk.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq import masking, recurrences
from tests import compiled, zoo
from tests.recurrences import plain

B, HEADS, K, V = 3, 2, 3, 4


class Carry(NamedTuple):
    c: Any
    n: Any
    m: Any


class Algebra(NamedTuple):
    make: Any  # fields by name -> Element
    loop: Any
    fields: Any  # (generator, T) -> fields
    carry: Any  # generator -> carry


def log_decays(generator, shape):
    """Of decays 0 and 1, of some that are all but that, and of ordinary ones."""
    drawn = -generator.exponential(size=shape)
    kind = generator.integers(0, 12, shape)
    return np.select([kind == 0, kind == 1, kind == 2, kind == 3], [-np.inf, 0.0, -40.0, -1e-17], drawn)


def diagonal_fields(generator, T):
    a = np.exp(log_decays(generator, (T, B, 5))) * generator.choice([-1, 1], (T, B, 5))
    return {"a": a, "b": generator.normal(size=(T, B, 5))}


def constant_fields(generator, T):
    return {"a": generator.uniform(-1, 1, 5), "b": generator.normal(size=(T, B, 5))}


def matrix_fields(generator, T, decays, shared=False):
    heads = 1 if shared else HEADS
    k, q = generator.normal(size=(2, T, B, heads, K))
    fields = {"k": k, "v": generator.normal(size=(T, B, HEADS, V)), "q": q}
    return {"log_decay": log_decays(generator, (T, B, HEADS, decays)), **fields}


def delta_fields(generator, T):
    fields = matrix_fields(generator, T, 1)
    k = fields["k"] / np.linalg.norm(fields["k"], axis=-1, keepdims=True)
    beta = generator.choice([0.0, 1.0, 2.0, 0.3], (T, B, HEADS))
    return {**fields, "k": k, "beta": beta, "log_decay": fields["log_decay"][..., 0]}


def scaled_fields(generator, T):
    fields = matrix_fields(generator, T, 1)
    log_decay = fields.pop("log_decay")[..., 0]
    log_input = generator.choice([-40.0, 40.0, 1.0], (T, B, HEADS)) + generator.normal(size=(T, B, HEADS))
    return {**fields, "log_forget": np.maximum(log_decay, -1e3), "log_input": log_input}


def matrices(generator):
    return generator.normal(size=(B, HEADS, K, V))


def scaled(generator):
    return Carry(matrices(generator), *(generator.normal(size=(B, HEADS, K)[:axes]) for axes in (3, 2)))


ALGEBRAS = {
    "diagonal": Algebra(recurrences.Diagonal, plain.diagonal, diagonal_fields, lambda g: g.normal(size=(B, 5))),
    "constant": Algebra(recurrences.Diagonal, plain.diagonal, constant_fields, lambda g: g.normal(size=(B, 5))),
    "outer": Algebra(recurrences.Outer, plain.outer, lambda g, T: matrix_fields(g, T, K), matrices),
    "one decay a head": Algebra(recurrences.Outer, plain.outer, lambda g, T: matrix_fields(g, T, 1), matrices),
    "shared keys": Algebra(recurrences.Outer, plain.outer, lambda g, T: matrix_fields(g, T, 1, True), matrices),
    "delta": Algebra(recurrences.Delta, plain.delta, delta_fields, matrices),
    "scaled outer": Algebra(recurrences.ScaledOuter, plain.scaled_outer, scaled_fields, scaled),
}
WAYS = {
    "steps": lambda element, carry: element.in_steps(carry),
    "chunks of 1": lambda element, carry: element.in_chunks(carry, 1),
    "chunks of 5": lambda element, carry: element.in_chunks(carry, 5),
    "at once": lambda element, carry: element.at_once(carry),
    "summary": lambda element, carry: (element.summary().apply(carry), element.in_steps(carry)[1]),
}


def problem(algebra, T, seed=0):
    generator = np.random.default_rng(seed)
    arrays = algebra.fields(generator, T), algebra.carry(generator), algebra.carry(generator)
    return arrays, generator.random((T, B)) < 0.75, generator.random((T, B)) < 0.15


def run(algebra, way, arrays, mask, reset):
    fields, carry, initial = arrays
    element = algebra.make(**fields)
    element = element if mask is None else element.hold(mask)
    element = element if reset is None else element.restart(reset, initial)
    last, observed = way(element, carry)
    return last, observed if mask is None else masking.keep(mask, observed)


def by_loop(algebra, arrays, mask, reset, T):
    everywhere, nowhere = np.ones((T, B), bool), np.zeros((T, B), bool)
    fields, carry, initial = arrays
    flags = everywhere if mask is None else mask, nowhere if reset is None else reset
    return algebra.loop(fields, as_tuple(carry), *flags, as_tuple(initial))


def as_tuple(carry):
    return tuple(carry) if isinstance(carry, Carry) else carry


@pytest.mark.some(4, learn=22)
@pytest.mark.parametrize("flags", [pytest.param(False, marks=pytest.mark.learn), True], ids=["bare", "all flags"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ALGEBRAS)
def test_every_way_is_the_plain_loop(name, way, flags, x64):
    T, algebra = 13, ALGEBRAS[name]
    arrays, mask, reset = problem(algebra, T)
    mask, reset = (mask, reset) if flags else (None, None)
    want = by_loop(algebra, arrays, mask, reset, T)
    generator = np.random.default_rng(1)
    directions = [random_direction(arrays, generator) for _ in range(2)]
    cotangents = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), want)

    @jax.jit
    def values_and_gradients(arrays):
        got, pull = jax.vjp(lambda arrays: run(algebra, WAYS[way], arrays, mask, reset), arrays)
        return got, pull(jax.tree.unflatten(jax.tree.structure(got), jax.tree.leaves(cotangents)))[0]

    got, gradients = jax.tree.map(np.asarray, values_and_gradients(arrays))
    zoo.assert_close(got, want, 1e-11, name)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
    for direction in directions:
        by_gradient = sum(map(np.vdot, jax.tree.leaves(gradients), jax.tree.leaves(direction)))
        tangent = imaginary(by_loop(algebra, shifted(arrays, direction), mask, reset, T))
        by_steps = sum(map(np.vdot, jax.tree.leaves(cotangents), jax.tree.leaves(tangent)))
        np.testing.assert_allclose(by_gradient, by_steps, rtol=1e-9, atol=1e-9)


def random_direction(arrays, generator):
    return jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), arrays)


def shifted(arrays, direction):
    """A tiny step into the imaginary direction; an infinite logarithm stays where it is."""
    return jax.tree.map(lambda x, d: x + 1e-30j * np.where(np.isfinite(x), d, 0), arrays, direction)


def imaginary(tree):
    return jax.tree.map(lambda leaf: leaf.imag / 1e-30, tree)


@pytest.mark.some(0, learn=5)
@pytest.mark.parametrize("way", ["steps", "chunks of 5", "at once"])
@pytest.mark.parametrize("name", ["diagonal", "outer", "one decay a head", "delta", "scaled outer"])
def test_float32_is_near_float64(name, way):
    """To some times float32's last digit, of values and gradients, over 200 steps with decays of 0 and 1 among them."""
    T, algebra = 200, ALGEBRAS[name]
    arrays, mask, reset = problem(algebra, T, seed=3)

    @jax.jit
    def values_and_gradients(arrays):
        def loss(arrays):
            got = run(algebra, WAYS[way], arrays, mask, reset)
            return sum(jnp.sum(jnp.tanh(leaf)) for leaf in jax.tree.leaves(got)), got

        return jax.grad(loss, has_aux=True)(arrays)

    narrow = jax.tree.map(lambda leaf: leaf.astype(np.float32), arrays)
    got = jax.tree.map(np.asarray, values_and_gradients(narrow))
    with jax.enable_x64(True):
        want = jax.tree.map(np.asarray, values_and_gradients(jax.tree.map(lambda leaf: leaf.astype(float), narrow)))
    for (path, leaf), exact in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        assert leaf.dtype == np.float32
        error = np.abs(leaf - exact).max() / max(1.0, np.abs(exact).max())
        assert error < 2e-5, (jax.tree_util.keystr(path), error)


def test_chunks_make_no_matrix_for_every_step():
    """Of T = 512 steps the program of a gradient holds states at the borders of chunks, and a chunk's own, no more."""
    T, states = 512, 512 * B * HEADS * 32 * 32 * 4
    generator = np.random.default_rng(0)
    k, v, q = (generator.normal(size=(T, B, HEADS, 32)).astype(np.float32) for _ in range(3))
    S = np.zeros((B, HEADS, 32, 32), np.float32)
    for way in (WAYS["steps"], WAYS["at once"], lambda element, carry: element.in_chunks(carry, 64)):

        def loss(k, v, q, S, way=way):
            log_decay = -jnp.ones((T, B, HEADS, 1), jnp.float32)
            last, observed = way(recurrences.Outer(log_decay, k, v, q), S)
            return jnp.sum(last**2) + jnp.sum(observed**2)

        program = jax.jit(jax.grad(loss, (0, 1, 2, 3))).lower(k, v, q, S).compile()
        assert compiled.memory(program).temp_size_in_bytes < states
