"""Cells, wrappers, kernels, masks, initialisers and diagnostics."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxseq
from jaxseq import diagnostics, initializers, kernels, masking
from tests import zoo
from tests.forms.stock import hard_sigmoid
from tests.modes.inputs import B, D, H, T, floats, key, resets, time_mask
from tests.modes.table import Call, of

WRAPPERS = ("stack", "residual", "backwards", "bidirectional", "dropout", "learned_carry", "zoneout")
LINEAR = ("lru", "s5", "min_gru", "min_lstm", "rg_lru", "mamba", "mamba2", "gla", "gated_delta_net", "mlstm")
LINEAR += ("causal_conv",)
KERNELS = {"bptt": kernels.bptt, "scan": kernels.scan, "remat": kernels.remat(2), "truncated": kernels.truncated(2)}
KERNELS |= {"native": kernels.native, "newton": kernels.newton()}


def drawn(cell):
    """Params without a program for them."""
    return zoo.params_of(cell, D)


@functools.partial(jax.jit, static_argnums=(0, 1))
def gradients(cell, kernel, params, xs):
    """All that a training step computes of a net: with a mask, resets and noise."""

    def loss(params, xs):
        options: dict[str, Any] = {"mask": time_mask(), "reset": resets(), "key": jax.random.key(1)}
        carry, ys = jaxseq.unroll(cell, params, xs, kernel=kernel, **options)
        return jnp.sum(ys * ys), (carry, ys)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, xs)


@of("cast")
def cast():
    cell = jaxseq.gru(H)
    params, xs = jaxseq.cast(drawn(cell), jnp.bfloat16), floats(T, B, D).astype(jnp.bfloat16)
    return jaxseq.unroll(cell, params, xs, kernel=kernels.bptt)[1]  # in every mode rounded at the same places


def net(cell, kernel=None):
    """The call of a net."""
    return lambda: gradients(cell, kernel, drawn(cell), floats(T, B, D))


@jaxseq.factory
def with_memory(cell):
    """The memory of every step beside the output."""
    leave = lambda given, u, before, new, y: (new, jnp.concatenate([y, new.c], axis=-1))
    return jaxseq.around(cell, leave=leave, size=2 * cell.size)


CELLS = [
    Call((name,), net(zoo.CELLS[name].cell))
    for name in ("rnn", "lstm", "gru", "layer_norm_lstm", "layer_norm_gru", "slstm", "conv_lstm", *LINEAR)
]
VARIANTS = [
    Call(("lstm",), net(jaxseq.lstm(H, peephole="new", projection=3, clip=1.0, candidate=jax.nn.relu))),
    Call(("lstm",), net(jaxseq.lstm(H, peephole="old", coupled=True))),
    Call(("gru",), net(jaxseq.gru(H, reset_after=False, update_writes=True))),
    Call(("lstm",), net(jaxseq.lstm(H, peephole="new", gate=hard_sigmoid))),
    Call(("gru",), net(jaxseq.gru(H, gate=hard_sigmoid))),
    Call(("layer_norm_lstm",), net(jaxseq.layer_norm_lstm(H, gate=hard_sigmoid))),
    Call(("layer_norm_gru",), net(jaxseq.layer_norm_gru(H, gate=hard_sigmoid))),
    Call(("conv_lstm",), net(jaxseq.conv_lstm((D,), 2, strides=2, peephole=True, gate=hard_sigmoid))),
    Call(("bidirectional",), net(jaxseq.bidirectional(jaxseq.gru(H), merge="mul"))),
    Call(("bidirectional",), net(jaxseq.bidirectional(jaxseq.gru(H), merge="mean"))),
    Call(("around", "factory"), net(with_memory(jaxseq.lstm(H)))),
]
NETS = [Call((name,), net(zoo.WRAPPERS[name](zoo.CELLS["lstm"]).cell)) for name in WRAPPERS]
BY_KERNEL = [Call((f"kernels.{name}",), net(jaxseq.gru(H), kernel)) for name, kernel in KERNELS.items()]
AT_ONCE = {"bptt": kernels.bptt, "associative": kernels.associative, "chunkwise": kernels.chunkwise(2)}
BY_LINEAR_KERNEL = [
    Call((f"kernels.{kernel}", "recurrences.linear_cell"), net(zoo.CELLS[name].cell, AT_ONCE[kernel]))
    for kernel in AT_ONCE
    for name in ("lru", "gla", "gated_delta_net", "mlstm")
]


ONE = NamedSharding(jax.make_mesh((1,), ("axis",), axis_types=(AxisType.Auto,)), PartitionSpec("axis"))
OVER_DEVICES = [
    Call(("kernels.sequence_parallel",), net(zoo.CELLS["mlstm"].cell, kernels.sequence_parallel(ONE))),
    Call(("pipeline",), net(jaxseq.stack(jaxseq.gru(H), jaxseq.pipeline(jaxseq.gru(H), 2, ONE, chunk=2)))),
]


@of("unroll", "step", "stream", traced=False)
def front_door():
    cell = jaxseq.lstm(H)
    params, xs = drawn(cell), floats(T, B, D)
    return (
        jaxseq.unroll(cell, params, xs),
        jaxseq.step(cell, params, None, xs[0]),
        list(jaxseq.stream(cell, params, [xs])),
    )


@of("around")
def around():
    return net(_leaking(jaxseq.rnn(H)))()


@functools.cache
def _leaking(cell):
    return jaxseq.around(cell, enter=lambda given, u, carry: jax.tree.map(lambda leaf: leaf / 2, carry))


@of("check_bptt", traced=False)
def check_bptt():
    cell = jaxseq.rnn(H)
    return jaxseq.check_bptt(cell, drawn(cell), floats(T, D))


@of("lengths_to_mask", "last_valid", "masking.masked", "masking.choose", "masking.keep", "masking.reset_before_step")
def masks():
    ys, flags = floats(T, B, H), time_mask()
    return (
        jaxseq.lengths_to_mask(jnp.array([2, 3]), T),
        jaxseq.last_valid(ys, flags),
        masking.choose(flags, ys, -ys),
        masking.keep(flags, ys),
        masking.reset_before_step(resets(), True),
        masking.masked(jaxseq.rnn(H)).size,
    )


@of(*(f"initializers.{name}" for name in initializers.__all__), "initializers.bias", "initializers.with_forget_bias")
def initial():
    plain = ("fan_in_uniform", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "orthogonal")
    draws = [getattr(initializers, name)() for name in plain]
    draws += [initializers.scaled_normal(0.1), initializers.per_gate(initializers.orthogonal(), 2)]
    biases = [initializers.bias(initializers.chrono(9), key(), (H,)), initializers.bias(1.0, key(), (H,))]
    b = initializers.with_forget_bias(initializers.chrono(9), key(), jnp.zeros(4 * H), H)
    return [draw(key(), (D, 2 * H), dtype) for draw, dtype in itertools.product(draws, (None, jnp.bfloat16))], biases, b


@of("diagnostics.gate_traces", "diagnostics.saturation")
def gates():
    cell = jaxseq.lstm(H)
    traces = diagnostics.gate_traces(cell, drawn(cell), floats(T, B, D), mask=time_mask(), reset=resets())
    return traces, diagnostics.saturation(traces["f"], mask=time_mask())


@of("diagnostics.eigenvalues", "diagnostics.memory_lengths")
def eigenvalues():
    cell = jaxseq.gated_delta_net(H, heads=2, key_size=2)
    values = diagnostics.eigenvalues(cell, drawn(cell), floats(T, B, D), mask=time_mask(), reset=resets())
    return values, diagnostics.memory_lengths(values, mask=time_mask())


@of("diagnostics.jacobians", "diagnostics.jacobian_singular_values", "diagnostics.lyapunov_exponents")
def jacobians():
    cell = jaxseq.gru(H)
    found = diagnostics.jacobians(cell, drawn(cell), floats(T, D))
    return found, diagnostics.jacobian_singular_values(found), diagnostics.lyapunov_exponents(found)


@of("diagnostics.newton_report")
def newton_report():
    cell = jaxseq.gru(H)
    flags: dict[str, Any] = {"mask": time_mask(), "reset": resets()}
    return diagnostics.newton_report(cell, drawn(cell), floats(T, B, D), jacobian="diagonal", **flags)


@of("diagnostics.carry_gradients", "diagnostics.gradient_norms")
def carry_gradients():
    cell = jaxseq.lstm(H)
    arguments = cell, drawn(cell), floats(T, B, D), _total
    options: dict[str, Any] = {"mask": time_mask(), "reset": resets()}
    return diagnostics.carry_gradients(*arguments, **options), diagnostics.gradient_norms(*arguments, **options)


@of("diagnostics.gradient_times_input", "diagnostics.integrated_gradients", "diagnostics.leave_one_out")
def saliency():
    xs = floats(T, B, D)
    along = diagnostics.integrated_gradients(_score, xs, steps=2)
    return diagnostics.gradient_times_input(_score, xs), along, diagnostics.leave_one_out(_score_of_mask, time_mask())


def _total(ys):
    return jnp.sum(ys)


def _score(xs):
    return jnp.sum(xs * xs, axis=(0, 2))


def _score_of_mask(mask):
    return jnp.sum(mask.astype(jnp.float32), axis=0)
