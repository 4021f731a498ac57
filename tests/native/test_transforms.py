"""Native loops under JAX's transformations and modes: the values of `bptt`, and XLA's loop where there is no other."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import kernels
from jaxseq.kernels.native import _call
from tests import zoo
from tests.compiled import text

T, B, D, H = 5, 4, 3, 6


def problem(cell, dtype=jnp.float32):
    params = zoo.params_of(cell, D, dtype)
    xs = np.random.default_rng(1).normal(size=(T, B, D)).astype(dtype)
    return params, jnp.asarray(xs)


def run(cell, kernel, params, xs, **options):
    return jaxseq.unroll(cell, params, xs, kernel=kernel, **options)


def loss(cell, kernel, params, xs):
    carry, ys = run(cell, kernel, params, xs)
    return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(carry))


def both(function, *arguments, tolerance=1e-5):
    """Holds `function(kernel)` by `native` against that by `bptt`."""
    got, want = (function(kernel)(*arguments) for kernel in (kernels.native, kernels.bptt))
    zoo.assert_close(got, want, tolerance)
    return got


def text_of(cell, *arguments):
    lowered = jax.jit(jax.grad(functools.partial(loss, cell, kernels.native))).lower(*arguments)
    return lowered.as_text()


def test_the_loops_are_native():
    """Both of them, or what follows would prove nothing."""
    cell = jaxseq.lstm(H)
    assert text_of(cell, *problem(cell)).count(_call.TARGET) == 2


@pytest.mark.parametrize("cell", [jaxseq.lstm(H), jaxseq.gru(H)], ids=str)
def test_values_and_gradients_in_float32(cell):
    both(lambda kernel: jax.jit(jax.value_and_grad(functools.partial(loss, cell, kernel), (0, 1))), *problem(cell))


def test_a_training_step_compiles_no_inference_loop(monkeypatch):
    """What is compiled is what is lowered, not what is traced."""
    made = []
    program = _call.program
    monkeypatch.setattr(_call, "program", lambda module: made.append(1) or program(module))
    cell = jaxseq.lstm(H + 1)
    params, xs = problem(cell)
    jax.jit(jax.grad(functools.partial(loss, cell, kernels.native))).trace(params, xs)
    assert not made
    jax.jit(jax.grad(functools.partial(loss, cell, kernels.native))).lower(params, xs)
    assert len(made) == 2


def test_checkpoint():
    cell = jaxseq.lstm(H)

    def of(kernel):
        part = jax.checkpoint(functools.partial(loss, cell, kernel))
        return jax.jit(jax.grad(part, (0, 1)))

    both(of, *problem(cell))


@pytest.mark.some(1)
@pytest.mark.parametrize("masked", [False, True])
def test_vmap_over_sequences_and_over_params(masked):
    cell = jaxseq.gru(H)
    params, xs = problem(cell)
    mask = jnp.arange(T)[:, None] < jnp.array([3, 5, 1, 4]) if masked else None
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), params)

    def of_one(kernel, params, xs):
        def total(params, xs):
            return jnp.sum(run(cell, kernel, params, xs, mask=mask)[1] ** 2)

        return jax.value_and_grad(total, (0, 1))(params, xs)

    for axes, arguments in (((None, 0), (params, jnp.stack([xs, 2 * xs]))), ((0, None), (many, xs))):
        both(lambda kernel, axes=axes: jax.jit(jax.vmap(functools.partial(of_one, kernel), axes)), *arguments)


def test_second_derivatives():
    cell = jaxseq.lstm(H)

    def of(kernel):
        gradient = jax.grad(functools.partial(loss, cell, kernel))

        def product(params, xs):
            def along(params):
                return sum(jnp.vdot(leaf, leaf + 1) for leaf in jax.tree.leaves(gradient(params, xs)))

            return jax.grad(along)(params)

        return jax.jit(product)

    both(of, *problem(cell), tolerance=1e-4)


def test_forward_mode_is_refused_as_by_bptt():
    cell = jaxseq.rnn(H)
    params, xs = problem(cell)
    with pytest.raises(TypeError, match=r"kernel=jaxseq\.kernels\.scan"):
        jax.jvp(lambda xs: run(cell, kernels.native, params, xs)[1], (xs,), (xs,))


def test_export_holds_no_custom_call():
    cell = jaxseq.lstm(H)
    params, xs = problem(cell)
    gradient = jax.jit(jax.grad(functools.partial(loss, cell, kernels.native)))
    exported = jax.export.export(gradient, platforms=["cpu", "cuda", "tpu"])(params, xs)
    assert _call.TARGET not in exported.mlir_module()
    zoo.assert_close(exported.call(params, xs), gradient(params, xs), 1e-5)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_run_xlas_loop(platform):
    cell = jaxseq.lstm(H)
    traced = jax.jit(jax.grad(functools.partial(loss, cell, kernels.native))).trace(*problem(cell))
    assert _call.TARGET not in traced.lower(lowering_platforms=(platform,)).as_text()


def test_without_jit():
    cell = jaxseq.lstm(H)
    params, xs = problem(cell)
    gradient = jax.grad(functools.partial(loss, cell, kernels.native))
    want = gradient(params, xs)
    with jax.disable_jit():
        zoo.assert_close(gradient(params, xs), want, 1e-5)


def test_nans_are_found():
    cell = jaxseq.lstm(H)
    params, xs = problem(cell)
    with jax.debug_nans(True):
        jax.block_until_ready(run(cell, kernels.native, params, xs))
        with pytest.raises(FloatingPointError):
            jax.block_until_ready(run(cell, kernels.native, params, xs * jnp.nan))


def test_on_each_of_several_devices():
    cell = jaxseq.lstm(H)
    params, xs = problem(cell)
    gradient = jax.jit(jax.grad(functools.partial(loss, cell, kernels.native)))
    want = gradient(params, xs)
    for device in jax.devices():
        got = gradient(*jax.device_put((params, xs), device))
        assert all(leaf.devices() == {device} for leaf in jax.tree.leaves(got))
        zoo.assert_close(got, want, 0)


def test_rows_that_the_compiler_splits_over_devices():
    """They stay split: that loop is XLA's, which nothing is gathered for. In `shard_map` the loops are native."""
    cell = jaxseq.lstm(H)
    params, xs = problem(cell)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("rows",))
    split, alike = (jax.NamedSharding(mesh, spec) for spec in (jax.P(None, "rows"), jax.P()))
    arguments = jax.device_put(params, alike), jax.device_put(xs, split)
    compiled = jax.jit(lambda *a: run(cell, kernels.native, *a)[1]).lower(*arguments).compile()
    assert "all-gather" not in text(compiled)
    zoo.assert_close(compiled(*arguments), run(cell, kernels.bptt, params, xs)[1], 1e-5)
    assert compiled(*arguments).sharding.is_equivalent_to(split, 3)

    def local(params, xs):
        return run(cell, kernels.native, params, xs)[1]

    mapped = jax.jit(
        jax.shard_map(local, mesh=mesh, in_specs=(jax.P(), jax.P(None, "rows")), out_specs=jax.P(None, "rows"))
    )
    assert _call.TARGET in mapped.lower(*arguments).as_text()
    zoo.assert_close(mapped(*arguments), run(cell, kernels.bptt, params, xs)[1], 1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_x64_changes_nothing_in_narrower_dtypes(dtype):
    cell = jaxseq.lstm(H)
    params, xs = problem(cell, dtype)
    want = run(cell, kernels.native, params, xs)
    with jax.enable_x64(True):
        got = run(cell, kernels.native, params, xs)
    assert jax.tree.map(lambda leaf: leaf.dtype, got) == jax.tree.map(lambda leaf: leaf.dtype, want)
    zoo.assert_close(got, want, 0)


def test_what_has_no_native_form_is_told():
    cell = jaxseq.conv_lstm((4, 4), 2)
    params = cell.init(jax.random.key(0), 16)
    with pytest.raises(ValueError, match=r"kernels\.native.*conv_general_dilated"):
        run(cell, kernels.native, params, jnp.ones([T, B, 16]))


def test_it_is_turned_off_by_the_environment(monkeypatch):
    monkeypatch.setenv("JAXSEQ_NATIVE", "0")
    cell = jaxseq.lstm(H + 2)
    with pytest.raises(ValueError, match="JAXSEQ_NATIVE=0"):
        run(cell, kernels.native, *problem(cell))
