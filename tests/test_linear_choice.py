"""Which kernel runs a linear cell where none is asked for, by platform, algebra and size; and what it compiles to."""

import re

import jax
import jax.export
import jax.numpy as jnp
import pytest

import jaxseq
from jaxseq import kernels
from jaxseq.kernels._linear_choice import linear_choice

DIAGONAL = {"lru": jaxseq.lru(4), "mamba": jaxseq.mamba(4), "min_gru": jaxseq.min_gru(4)}
MATRIX = {
    "gla": jaxseq.gla(32, heads=2, key_size=8),
    "gated_delta_net": jaxseq.gated_delta_net(64, heads=2, key_size=16),
    "learned_carry(mlstm)": jaxseq.learned_carry(jaxseq.mlstm(32, heads=2)),
}
SMALL = {
    "gla": jaxseq.gla(30, heads=2, key_size=8),
    "gated_delta_net": jaxseq.gated_delta_net(62, heads=2, key_size=16),
    "learned_carry(mlstm)": jaxseq.learned_carry(jaxseq.mlstm(22, heads=2)),
}


@pytest.fixture
def on(monkeypatch):
    """Returns a function after which JAX's default platform is said to be another."""
    return lambda platform: monkeypatch.setattr(jax, "default_backend", lambda: platform)


def shapes(cell, T):
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 4))
    return params, jax.ShapeDtypeStruct((T, 8, 4), jnp.float32)


@pytest.mark.parametrize("name", MATRIX)
def test_a_matrix_is_run_in_chunks_on_a_cpu_and_at_once_elsewhere(name, on):
    cell = MATRIX[name]
    on("cpu")
    assert linear_choice(cell, *shapes(cell, 1024)) is kernels.chunkwise(32)
    assert linear_choice(cell, *shapes(cell, 16)) is kernels.chunkwise(32)
    assert linear_choice(cell, *shapes(cell, 15)) is None
    assert linear_choice(SMALL[name], *shapes(SMALL[name], 1024)) is None
    for platform in ("gpu", "tpu"):
        on(platform)
        assert all(linear_choice(cell, *shapes(cell, T)) is kernels.associative for T in (2, 1024))


@pytest.mark.parametrize("name", DIAGONAL)
def test_a_diagonal_is_run_step_by_step_on_a_cpu_and_at_once_elsewhere(name, on):
    cell = DIAGONAL[name]
    on("cpu")
    assert all(linear_choice(cell, *shapes(cell, T)) is None for T in (2, 1024, 100_000))
    for platform in ("gpu", "tpu"):
        on(platform)
        assert linear_choice(cell, *shapes(cell, 1024)) is kernels.associative


def test_other_cells_and_symbols_are_run_step_by_step(on):
    cell = MATRIX["gla"]
    params, _ = shapes(cell, 8)
    (T,) = jax.export.symbolic_shape("T")
    for platform in ("cpu", "gpu"):
        on(platform)
        assert linear_choice(jaxseq.lstm(4), *shapes(jaxseq.lstm(4), 1024)) is None
        assert linear_choice(cell, params, jax.ShapeDtypeStruct((T, 8, 4), jnp.float32)) is None


def test_explain_says_which(on):
    def told(cell, T):
        return kernels.explain(cell, *shapes(cell, T))

    matrix, diagonal = MATRIX["gla"], DIAGONAL["lru"]
    on("cpu")
    assert "kernels.chunkwise(32), by the gradient of its algebra; 4 segments of 32 steps" in told(matrix, 128)
    assert "chunkwise" not in told(matrix, 8)
    assert "kernels.bptt, by the gradient of its algebra" in told(diagonal, 128)
    assert "complex" in told(diagonal, 128)
    assert "by the vjp of its step" in told(DIAGONAL["min_gru"], 128)
    on("gpu")
    assert "kernels.associative" in told(matrix, 128)
    assert "kernels.associative" in told(diagonal, 128)


@pytest.mark.some(2)
@pytest.mark.parametrize(("backend", "platform"), [("gpu", "cuda"), ("tpu", "tpu")])
@pytest.mark.parametrize("name", ["lru", "gla", "gated_delta_net", "learned_carry(mlstm)"])
def test_an_accelerators_gradient_has_no_loop_and_no_call_of_a_cpu(name, backend, platform, on):
    """A training step under masks and resets, lowered for a machine that is not here."""
    on(backend)
    cell = (DIAGONAL | MATRIX)[name]
    params, xs = shapes(cell, 200)
    flags = jax.ShapeDtypeStruct(xs.shape[:-1], bool)

    def lowered(kernel):
        def loss(params, xs, mask, reset):
            return jnp.sum(jaxseq.unroll(cell, params, xs, mask=mask, reset=reset, kernel=kernel)[1] ** 2)

        traced = jax.jit(jax.grad(loss)).trace(params, xs, flags, flags)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert "stablehlo.while" in lowered(kernels.scan)
    program = lowered(None)
    assert "stablehlo.while" not in program
    assert not re.findall(r"custom_call @(\w+)", program)
