"""What all contenders on JAX have in common: from a layer as functions of its weights to a call in any mode.

Everything runs under `jax.jit`, compiled ahead; weights and inputs are arguments, not constants.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import measure
from benchmarks.suite import STREAMED, Call, Case, Twin, by_name


class Net(NamedTuple):
    """A peer's layer."""

    weights: Any
    unroll: Callable  # (weights, inputs) -> ys
    restore: Callable  # weights, or their gradients, as jaxseq params; None where the peer has no such one
    step: Callable | None = None  # (weights, carry, x) -> (carry, y)
    carry: Any = None
    batch_major: bool = False  # of inputs and ys


def make_call(case: Case, net: Net, inputs: Any, twin: Twin) -> Call | None:
    """Compiles a layer for a case; `inputs` are xs `[T, B, D]`, and what else has time and batch in front."""
    if case.mode == "streaming":
        return None if net.step is None else _stream(net, inputs, twin)
    if net.batch_major:
        inputs = _swap(inputs)

    def loss(weights, inputs):
        return jnp.mean(net.unroll(weights, inputs) ** 2)

    jax.clear_caches()  # nobody profits from what the contender before has traced
    function = net.unroll if case.mode == "inference" else jax.value_and_grad(loss)
    compiled = measure.compile_call(function, net.weights, inputs)

    def result(output):
        if case.mode == "inference":
            return {"ys": _swap(output) if net.batch_major else output}
        value, gradients = output
        return {"loss": value} | by_name(net.restore(gradients))

    return Call(compiled.call, result, twin, compiled.trace, compiled.compile, compiled.peak_bytes)


def _stream(net, xs, twin):
    """A call which hands the carry on, and waits for each output before it sends the next input."""
    xs = list(xs[:STREAMED])
    jax.clear_caches()
    compiled = measure.compile_call(net.step, net.weights, net.carry, xs[0])

    def run():
        carry, ys = net.carry, []
        for x in xs:
            carry, y = compiled.executable(net.weights, carry, x)
            ys.append(y.block_until_ready())
        return ys

    def result(ys):
        return {"ys": jnp.stack(ys)}

    return Call(run, result, twin, compiled.trace, compiled.compile, compiled.peak_bytes, steps=len(xs))


def _swap(tree):
    """Time-major to batch-major, and back."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def reorder_gates(array: Any, order: str, names: str) -> Any:
    """Returns an array `[..., G]` with its gates `names`, "rzn", put into another order, "zrn"."""
    gates = dict(zip(names, jnp.split(array, len(names), axis=-1), strict=True))
    return jnp.concatenate([gates[name] for name in order], axis=-1)
