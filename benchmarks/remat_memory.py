"""How much memory does a training step over a long sequence take with `remat`, and at what price in time?

    python -m benchmarks.remat_memory [--cell lstm|gru|rnn] [--size 8,16384,64,256] [--segment 128] [--rounds 5]

Memory is XLA's own figure of temporary bytes. Two losses: of the last carry alone, where nothing of length T need be
kept but the segment borders; and mean(ys²), where ys and its cotangent have length T in any case.
"""

import argparse
import math

import jax
import jax.numpy as jnp

import jaxseq
from benchmarks import measure
from benchmarks.suite import CELLS, parse_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--size", type=parse_size, default=(8, 16384, 64, 256), metavar="B,T,D,H")
    parser.add_argument("--segment", type=int, help="steps in a segment; default: √T")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    B, T, D, H = args.size
    segment = args.segment or math.isqrt(T)
    cell = CELLS[args.cell](H)
    params = cell.init(jax.random.key(0), D)
    xs = jax.random.normal(jax.random.key(1), (T, B, D))
    kernels = {"bptt": jaxseq.kernels.bptt, f"remat({segment})": jaxseq.kernels.remat(segment)}
    losses = {
        "last carry": lambda carry, ys: sum(jnp.mean(leaf**2) for leaf in jax.tree.leaves(carry)),
        "mean(ys²)": lambda carry, ys: jnp.mean(ys**2),
    }
    print(measure.describe_machine())
    print(
        f"{args.cell}, (B, T, D, H) = {args.size}, float32; ys and its cotangent: {2 * T * B * H * 4 / 2**20:.0f} MiB\n"
    )
    print(f"{'loss':12}{'kernel':12}{'temp MiB':>10}{'min ms':>9}{'median':>9}   bptt's over it: memory, median time")
    for loss_name, loss in losses.items():
        compiled = {}
        for name, kernel in kernels.items():

            def training_step(params, xs, kernel=kernel, loss=loss):
                return loss(*jaxseq.unroll(cell, params, xs, kernel=kernel))

            compiled[name] = measure.compile_call(jax.value_and_grad(training_step), params, xs)
        measure.check_agreement({name: call.call() for name, call in compiled.items()}, tolerance=1e-3)
        times = measure.take_turns({name: call.call for name, call in compiled.items()}, args.rounds)
        for name, call in compiled.items():
            memory = compiled["bptt"].temp_bytes / call.temp_bytes
            speed = times["bptt"].median / times[name].median
            print(
                f"{loss_name:12}{name:12}{call.temp_bytes / 2**20:10.1f}{1e3 * times[name].minimum:9.0f}"
                f"{1e3 * times[name].median:9.0f}   {memory:.1f}, {speed:.2f}"
            )


if __name__ == "__main__":
    main()
