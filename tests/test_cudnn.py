"""The LSTM by cuDNN, but for cuDNN itself: JAX's own reference of that call stands in for it on a CPU.

What is held here is all that is ours: the packed weights, axes, masks, directions, gradients, what is refused and why,
and that a program for CUDA calls what JAX calls for cuDNN. On a machine with a GPU `python -m benchmarks.accelerator`
holds cuDNN itself against the loops.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn
from jax.interpreters import mlir
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxseq
from jaxseq import kernels
from jaxseq.kernels import _cudnn
from tests import test_contract, zoo
from tests.test_contract import MASK, RESET, B, D, T
from tests.untyped import untyped

CELL = jaxseq.lstm(4)
H = CELL.size


def forward(x, h, c, weights, lengths, *, input_size, hidden_size, **_):
    unpacked = rnn.unpack_lstm_weights(weights, input_size, hidden_size, 1, False)
    w_ih, w_hh, b_ih, b_hh = unpacked
    results = rnn.lstm_ref(x, h, c, w_ih, w_hh, b_ih, b_hh, lengths, input_size, hidden_size, 1, 0.0, False)
    return *results, jnp.zeros(1, jnp.float32)


def backward(d_y, d_h, d_c, x, h, c, weights, y, reserve, lengths, **sizes):
    _, pull = jax.vjp(lambda x, h, c, weights: forward(x, h, c, weights, lengths, **sizes)[:3], x, h, c, weights)
    return pull((d_y, d_h, d_c))


class _Descriptors:
    """In place of the plugin's module, which asks cuDNN."""

    @staticmethod
    def build_rnn_descriptor(*_):
        return b"sizes"


CALLS = {rnn.rnn_fwd_p: (forward, "_rnn_fwd_lowering"), rnn.rnn_bwd_p: (backward, "_rnn_bwd_lowering")}


@pytest.fixture
def stand_in(monkeypatch):
    """JAX's reference runs where cuDNN would; the sizes of its memory, which cuDNN itself tells, are made up."""
    for primitive, (by_reference, of_jax) in CALLS.items():
        mlir.register_lowering(primitive, mlir.lower_fun(by_reference, multiple_results=True), platform="cpu")
        by_jax = functools.partial(getattr(untyped(rnn).gpu_rnn, of_jax), _Descriptors, "cu")
        mlir.register_lowering(primitive, by_jax, platform="cuda")
    sizes = lambda *_: (1, 1)
    monkeypatch.setattr(untyped(rnn).gpu_rnn, "compute_rnn_workspace_reserve_space_sizes", sizes, raising=False)
    monkeypatch.setattr(_cudnn, "_machine_reason", lambda: None)
    yield
    untyped(kernels.cudnn).clear_cache()  # what was traced here would run where it cannot


def calls_for_cuda(function, *arguments):
    """What a function, lowered for CUDA, calls, and the types of each call's operands."""
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    calls = re.findall(r"custom_call @(\w+)\(.*: \((.*)\) -> ", text)
    return [name for name, _ in calls], [operands.split(", ") for _, operands in calls]


def problem_in_float32(**options):
    return test_contract.in_dtype(CELL, test_contract.make_problem(CELL, **options), np.float32)


@pytest.mark.some(2)
@pytest.mark.parametrize(("reverse", "masked"), [(False, True), (True, False), (True, True), (False, False)], ids=str)
def test_it_gives_the_values_and_gradients_of_the_oracle_under_masks_of_any_pattern(reverse, masked, stand_in):
    problem, mask = problem_in_float32(), MASK if masked else None
    run = test_contract.runner(CELL, kernels.cudnn, reverse)
    got = test_contract.by_name(run(test_contract.poison(problem, mask) if masked else problem, mask))
    want = test_contract.by_oracle(zoo.CELLS["lstm"].net, problem, mask, None, reverse)
    for name, leaves in got.items():
        zoo.assert_close(leaves, want[name], 2e-6, name)


@pytest.mark.some(1)
@pytest.mark.parametrize(("steps", "batch"), [(0, (2,)), (3, (0,)), (2, (2, 3)), (2, ())], ids=str)
def test_sequences_and_batches_of_any_shape(steps, batch, stand_in):
    problem = problem_in_float32(steps=steps, batch=batch)
    mask = np.ones((steps, *batch), bool)
    by_cudnn, by_scan = (test_contract.runner(CELL, kernel) for kernel in (kernels.cudnn, kernels.scan))
    zoo.assert_close(by_cudnn(problem, mask), by_scan(problem, mask), 2e-6)


def test_rows_of_vmap_are_one_call(stand_in):
    problem = problem_in_float32()
    run = lambda xs: jaxseq.unroll(CELL, problem.params, xs, kernel=kernels.cudnn)[1]
    mapped = jax.vmap(run, in_axes=1, out_axes=1)
    zoo.assert_close(jax.jit(mapped)(problem.xs), jax.jit(run)(problem.xs), 2e-6)
    assert calls_for_cuda(mapped, problem.xs)[0] == ["cudnn_rnn_ffi"]


def loss(params, xs, kernel=kernels.cudnn):
    carry, ys = jaxseq.unroll(CELL, params, xs, kernel=kernel)
    return jnp.sum(ys**2) + jnp.sum(carry.c)


@pytest.mark.learn
def test_each_of_mapped_params_has_a_call_of_its_own(stand_in):
    one, other = problem_in_float32(), problem_in_float32(seed=5)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), one.params, other.params)
    gradient = jax.value_and_grad(loss, (0, 1))
    got = jax.jit(jax.vmap(gradient, in_axes=(0, None)))(both, one.xs)
    want = [jax.jit(gradient, static_argnums=2)(given.params, one.xs, kernels.scan) for given in (one, other)]
    zoo.assert_close(got, jax.tree.map(lambda *leaves: np.stack(leaves), *want), 2e-6)


@pytest.mark.learn
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_over_a_mesh_it_is_split_by_shard_map_or_gathered_by_the_compiler(kind, stand_in):
    problem = problem_in_float32()
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    rows = P(None, "data")

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), rows), out_specs=(P(), (P(), rows)))
    def split(params, xs):
        value, gradients = jax.value_and_grad(loss, (0, 1))(params, xs)
        return jax.lax.psum(value, "data"), gradients

    want = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=2)(problem.params, problem.xs, kernels.scan)
    xs = jax.device_put(problem.xs, NamedSharding(mesh, rows))
    zoo.assert_close(jax.jit(split)(problem.params, xs), want, 2e-6)
    zoo.assert_close(jax.jit(jax.value_and_grad(loss, (0, 1)))(problem.params, xs), want, 2e-6)


def test_packed_weights_are_those_that_jax_unpacks():
    params = problem_in_float32().params

    @jax.jit
    def there_and_back(params):
        vector = _cudnn.packed(params)
        assert vector.shape == (rnn.get_num_params_in_lstm(D, H, 1, False),)
        return [part[0] for part in rnn.unpack_lstm_weights(vector, D, H, 1, False)]

    w_x, w_h, b, second = there_and_back(params)
    for got, want in ((w_x.T, params.w_x), (w_h.T, params.w_h), (b, params.b), (second, np.zeros(4 * H))):
        np.testing.assert_array_equal(got, want)


def test_forward_mode_is_refused(stand_in):
    problem = problem_in_float32()
    run = lambda xs: jaxseq.unroll(CELL, problem.params, xs, kernel=kernels.cudnn)[1]
    with pytest.raises(TypeError, match="reverse mode"):
        jax.jvp(run, (problem.xs,), (problem.xs,))


def test_the_training_step_for_cuda_calls_cudnn_once_each_way(stand_in):
    """By JAX's own lowering: the operands are of the shapes that its call takes."""
    problem = problem_in_float32()
    masked = lambda params, xs: jnp.sum(jaxseq.unroll(CELL, params, xs, mask=MASK, kernel=kernels.cudnn)[1] ** 2)
    names, operands = calls_for_cuda(jax.grad(masked, (0, 1)), problem.params, problem.xs)
    assert names == ["cudnn_rnn_ffi", "cudnn_rnn_bwd_ffi"]
    carry = f"tensor<1x{B}x{H}xf32>"
    weights = f"tensor<{4 * H * (D + H + 2)}xf32>"
    assert operands[0] == [f"tensor<{B}x{T}x{D}xf32>", carry, carry, weights, f"tensor<{B}xi32>"]


def run(cell, dtype=np.float32, **options):
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), D, dtype))
    xs = jax.ShapeDtypeStruct((T, B, D), dtype)
    return jax.eval_shape(functools.partial(jaxseq.unroll, cell, kernel=kernels.cudnn, **options), params, xs)


@pytest.mark.some(5)
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: run(jaxseq.gru(4)), r"does not run gru\(4\) here: it is not an LSTM"),
        (
            lambda: run(jaxseq.zoneout(CELL, h=0.1)),
            "it is not an LSTM of `jaxseq.lstm` without wrappers",
        ),
        (lambda: run(CELL._replace(backward=None)), "it is not an LSTM of `jaxseq.lstm`"),
        (lambda: run(jaxseq.lstm(4, peephole="new")), "`peephole` = 'new'"),
        (lambda: run(jaxseq.lstm(4, projection=2)), "`projection` = 2"),
        (lambda: run(jaxseq.lstm(4, coupled=True)), "`coupled` = True"),
        (lambda: run(jaxseq.lstm(4, clip=3.0)), "`clip` = 3.0"),
        (lambda: run(jaxseq.lstm(4, candidate=jax.nn.relu)), "`candidate` ="),
        (lambda: run(jaxseq.lstm(4, gate=jax.nn.hard_sigmoid)), "`gate` ="),
        (lambda: run(CELL, reset=RESET), "cuDNN has no resets"),
        (lambda: run(CELL, jnp.bfloat16), "only in float32; got bfloat16"),
    ],
)
def test_what_cudnn_does_not_run_is_refused_with_the_reason(call, reason, stand_in):
    with pytest.raises(ValueError, match=reason):
        call()


def test_it_is_explained(stand_in):
    net = jaxseq.stack(CELL, jaxseq.bidirectional(jaxseq.lstm(2)))
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), D))
    xs = jax.ShapeDtypeStruct((T, B, D), jnp.float32)
    lines = kernels.explain(net, params, xs, kernel=kernels.cudnn).splitlines()
    told = "kernels.cudnn, by cuDNN's own gradient; T = 7, not cut: one call runs all steps"
    assert [line.partition(": ")[2] for line in lines] == [told] * 3
    assert kernels.peak_bytes(net, params, xs, kernel=kernels.cudnn) > 0


def test_a_machine_without_it_is_told_so():
    if jax.default_backend() == "gpu":
        pytest.skip("this machine may have it")
    told = "does not run lstm.4. here: cuDNN runs on NVIDIA GPUs, and JAX's default device is a cpu"
    for call in (run, lambda cell: kernels.explain(cell, *shapes(cell), kernel=kernels.cudnn)):
        with pytest.raises(ValueError, match=told):
            call(CELL)


def shapes(cell):
    return jax.eval_shape(lambda: cell.init(jax.random.key(0), D)), jax.ShapeDtypeStruct((T, B, D), jnp.float32)
