"""How much faster are two devices than one: the batch split, layers split, time split?

    python -m benchmarks.scaling [--rounds 9]

Two devices of this machine's CPU, each of half its cores where it is busy; one device has all of them. So a ratio of 2
is more than this machine can give where one device's products already use all cores. The calls are the value and
gradients of a loss, float32; they take turns, and each is checked against the first of its table:

    data       an LSTM (T, B, D, H) = (64, 64, 512, 512), the batch split
    pipeline   two such layers, chunk after chunk
    sequence   mamba2 and min_gru at T = 4096, B = 4, of 256 features, time split
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=2 {os.environ.get('XLA_FLAGS', '')}".strip()

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxseq
from benchmarks import measure
from jaxseq import kernels

T, B, H = 64, 64, 512
LONG, ROWS, WIDTH = 4096, 4, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(measure.describe_machine())
    tables = {
        f"LSTM, (T, B, D, H) = ({T}, {B}, {H}, {H}), the batch split": data_parallel(),
        f"2 layers of LSTM, (T, B, D, H) = ({T}, {B}, {H}, {H}), layers split": pipeline(),
        f"mamba2, (T, B, D, H) = ({LONG}, {ROWS}, {WIDTH}, {WIDTH}), time split": sequence(
            jaxseq.mamba2(WIDTH, heads=4, state=64)
        ),
        f"min_gru, (T, B, D, H) = ({LONG}, {ROWS}, {WIDTH}, {WIDTH}), time split": sequence(jaxseq.min_gru(WIDTH)),
    }
    for title, calls in tables.items():
        show(title, calls, rounds)


def show(title: str, calls: dict[str, Callable[[], Any]], rounds: int) -> None:
    """Prints a table of calls that take turns; ratios are to the least and to the median of the first."""
    measure.check_agreement({name: call() for name, call in calls.items()}, tolerance=1e-3)
    times = measure.take_turns(calls, rounds)
    first, *_ = times.values()
    print(f"\n{title}; ms over {rounds} rounds\n{'':44}{'min':>9}{'median':>9}{'ratio of min':>14}{'of median':>11}")
    for name, time in times.items():
        ratios = f"{first.minimum / time.minimum:14.2f}{first.median / time.median:11.2f}"
        print(f"{name:44}{1e3 * time.minimum:9.1f}{1e3 * time.median:9.1f}{ratios}")


def data_parallel() -> dict[str, Callable[[], Any]]:
    """One LSTM: XLA's loop and the chosen one on one device; two devices split by the compiler, and by hand."""
    cell, mesh = jaxseq.lstm(H), two("data")
    params, xs = cell.init(jax.random.key(0), H), jax.random.normal(jax.random.key(1), (T, B, H))
    rows = PartitionSpec(None, "data")
    there = jax.device_put(params, NamedSharding(mesh, PartitionSpec())), jax.device_put(xs, NamedSharding(mesh, rows))

    def by_hand(params, xs):
        of_device = lambda params, xs: jax.tree.map(lambda x: jax.lax.pmean(x, "data"), loss(cell)(params, xs))
        return jax.shard_map(of_device, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=PartitionSpec())(
            params, xs
        )

    return {
        "1 device, XLA's loop": compiled(gradient(loss(cell, kernels.scan)), params, xs),
        "1 device, as unroll chooses": compiled(gradient(loss(cell)), params, xs),
        "2 devices, jit, XLA's loop": compiled(gradient(loss(cell, kernels.scan)), *there),
        "2 devices, jit, kernels.bptt": compiled(gradient(loss(cell, kernels.bptt)), *there),
        "2 devices, shard_map, as unroll chooses": compiled(gradient(by_hand), *there),
    }


def pipeline() -> dict[str, Callable[[], Any]]:
    """Two layers after one another on one device, and chunk after chunk on two."""
    cell, mesh = jaxseq.lstm(H), two("stage")
    stages = NamedSharding(mesh, PartitionSpec("stage"))
    net = jaxseq.pipeline(cell, 2, stages)
    params, xs = net.init(jax.random.key(0), H), jax.random.normal(jax.random.key(1), (T, B, H))
    there = jax.device_put(params, stages), jax.device_put(xs, NamedSharding(mesh, PartitionSpec()))

    def of_stack(kernel=None):
        stack = loss(jaxseq.stack(cell, cell), kernel)
        return lambda params, xs: stack(tuple(jax.tree.map(lambda p, i=i: p[i], params) for i in (0, 1)), xs)

    return {
        "1 device, XLA's loop": compiled(gradient(of_stack(kernels.scan)), params, xs),
        "1 device, as unroll chooses": compiled(gradient(of_stack()), params, xs),
        **{
            f"2 devices, chunks of {chunk}": compiled(
                gradient(loss(jaxseq.pipeline(cell, 2, stages, chunk=chunk))), *there
            )
            for chunk in (4, 8, 16)
        },
    }


def sequence(cell: jaxseq.Cell) -> dict[str, Callable[[], Any]]:
    """A linear cell on one device, and over time that two split."""
    mesh = two("time")
    over_time = NamedSharding(mesh, PartitionSpec("time"))
    params, xs = cell.init(jax.random.key(0), WIDTH), jax.random.normal(jax.random.key(1), (LONG, ROWS, WIDTH))
    there = jax.device_put(params, NamedSharding(mesh, PartitionSpec())), jax.device_put(xs, over_time)
    return {
        "1 device, as unroll chooses": compiled(gradient(loss(cell)), params, xs),
        "1 device, kernels.bptt": compiled(gradient(loss(cell, kernels.bptt)), params, xs),
        "2 devices, kernels.sequence_parallel": compiled(
            gradient(loss(cell, kernels.sequence_parallel(over_time))), *there
        ),
    }


def two(axis: str) -> jax.sharding.Mesh:
    """A mesh of two devices."""
    return jax.make_mesh((2,), (axis,), axis_types=(AxisType.Auto,))


def loss(cell, kernel=None):
    """The mean square of all outputs, by params and inputs."""
    return lambda params, xs: jnp.mean(jaxseq.unroll(cell, params, xs, kernel=kernel)[1] ** 2)


def gradient(function):
    """The value of a loss, and its gradients by params."""
    return jax.value_and_grad(function)


def compiled(function, *args) -> Callable[[], Any]:
    """A call of it, compiled."""
    return measure.compile_call(function, *args).call


if __name__ == "__main__":
    main()
