"""Gradients of weights, summed inside the reverse loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import kernels
from jaxseq.kernels.native import _reverse
from tests import zoo

T, B, D = 5, 7, 3
MASK = jnp.arange(T)[:, None] < jnp.array([5, 1, 3, 4, 2, 5, 0])
SOME = ["lstm", "own", "zoneout(lstm)"]
OTHERS = [name for name in zoo.CELLS if zoo.runs("native", name) and isinstance(zoo.find(name).cell, jaxseq.Cell)]
OTHERS += ["recurrent_dropout(gru)", "learned_carry(lstm)"]


def seldom(*row):
    """A parameter of `make learn`."""
    return pytest.param(*row, marks=pytest.mark.learn)


@pytest.fixture
def summed_inside(monkeypatch):
    """The calls of `scan_and_sum` that gave a result."""
    done, scan_and_sum = [], _reverse.scan_and_sum

    def noted(*arguments):
        results = scan_and_sum(*arguments)
        done.append(results)
        return results

    monkeypatch.setattr(_reverse, "scan_and_sum", noted)
    return done


def trace_gradient(cell, params, xs, **options):
    def loss(params, xs):
        return jnp.sum(jaxseq.unroll(cell, params, xs, kernel=kernels.native, **options)[1])

    jax.clear_caches()
    return jax.jit(jax.grad(loss)).trace(params, xs)


@pytest.mark.parametrize("name", [*SOME, *(seldom(name) for name in OTHERS if name not in SOME)])
def test_of_every_cell(name, summed_inside):
    cell = zoo.find(name).cell
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), D))
    xs = jax.ShapeDtypeStruct((T, B, D), jnp.float32)
    trace_gradient(cell, params, xs, mask=MASK, reset=MASK, key=jax.random.key(1))
    assert len(summed_inside) == 1


def test_what_only_sums_whole_sequences_is_summed_by_jax(summed_inside):
    """A `collect` that counts on leading axes; its gradients are right all the same."""
    lstm = jaxseq.lstm(4)
    assert lstm.backward is not None

    def collect(params, saved, d_us):
        d_w = jnp.einsum("tbh,tbg->hg", saved.h, d_us)
        return jax.tree.map(jnp.zeros_like, params)._replace(w_h=d_w)

    cell = lstm._replace(backward=lstm.backward._replace(collect=collect))
    params = lstm.init(jax.random.key(0), D)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(T, B, D)).astype(np.float32))

    def loss(params, kernel, cell):
        return jnp.sum(jnp.sin(jaxseq.unroll(cell, params, xs, kernel=kernel)[1]))

    got = jax.jit(jax.grad(loss), static_argnums=(1, 2))(params, kernels.native, cell)
    assert not summed_inside
    zoo.assert_close(got, jax.grad(loss)(params, kernels.bptt, lstm), 1e-5)


@pytest.mark.parametrize(
    ("rows", "steps"),
    [(33, 9), (1, 300), *(seldom(rows, steps) for rows in (1, 31, 33, 70) for steps in (1, 8, 301))],
)
def test_blocks_of_rows_and_of_time(rows, steps, x64):
    """Of any number, the last of each short: no step of no row is counted twice, or left out."""
    cell = jaxseq.slstm(6, heads=2)
    params = zoo.params_of(cell, D)
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(steps, rows, D)))

    def gradient(kernel):
        def loss(params, xs):
            return jnp.sum(jnp.sin(jaxseq.unroll(cell, params, xs, kernel=kernel)[1]))

        return jax.jit(jax.grad(loss, (0, 1)))(params, xs)

    zoo.assert_close(gradient(kernels.native), gradient(kernels.bptt), 1e-9)


def test_gradients_of_inputs_are_computed_where_they_are_asked_for():
    cell = jaxseq.lstm(4)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), D))
    xs = jax.ShapeDtypeStruct((T, B, D), jnp.float32)
    text = trace_gradient(cell, params, xs).lower().as_text()
    assert f"tensor<{T}x{B}x4xf32>" in text
    backward = [line for line in text.splitlines() if "jaxseq_native" in line][-1]
    assert f"tensor<{T}x{B}x{D}xf32>" not in backward.split("->")[-1]
