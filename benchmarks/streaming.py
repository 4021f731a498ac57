"""How long does one step of a stream take, for one sequence, from input to output?

    python -m benchmarks.streaming [--cell lstm|gru|rnn] [--sizes 32 128 512] [--layers 1 2] [--rounds 20]

One row, B = 1, D = H. `step`: `jax.jit(jaxseq.step)`, called and waited for at each step; `donated`: the same with the
carry's buffers donated; `stream(n)`: `jaxseq.stream` in chunks of n steps; `unroll`: all T at once, which is what the
arithmetic takes. Microseconds a step, min and median over rounds in which the ways take turns; all ways agree first.
"""

import argparse
import functools

import jax
import jax.numpy as jnp

import jaxseq
from benchmarks import measure
from benchmarks.suite import CELLS

T = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    print(measure.describe_machine())
    print(f"{args.cell}, B = 1, T = {T}, float32, {args.rounds} rounds; µs a step\n")
    print(f"{'H':>6}{'layers':>8}  {'way':12}{'min':>9}{'median':>9}")
    for size in args.sizes:
        for layers in args.layers:
            net = jaxseq.stack(*[CELLS[args.cell](size)] * layers)
            params = net.init(jax.random.key(0), size)
            xs = jax.random.normal(jax.random.key(1), (T, 1, size))
            calls = ways(net, params, xs)
            measure.check_agreement({name: call() for name, call in calls.items()}, tolerance=1e-4)
            for name, times in measure.take_turns(calls, args.rounds).items():
                minimum, median = (1e6 * seconds / T for seconds in times)
                print(f"{size:6}{layers:8}  {name:12}{minimum:9.1f}{median:9.1f}")


def ways(net, params, xs):
    """Returns calls which each run the whole stream and return its outputs `[T, 1, H]`."""
    steps = list(xs)
    step = jax.jit(functools.partial(jaxseq.step, net))
    donated = jax.jit(functools.partial(jaxseq.step, net), donate_argnums=1)
    unroll = jax.jit(functools.partial(jaxseq.unroll, net))

    def one_by_one(step):
        carry, ys = net.carry(params, (1,)), []
        for x in steps:
            carry, y = step(params, carry, x)
            ys.append(jax.block_until_ready(y))
        return jnp.stack(ys)

    def in_chunks(chunks):
        return jnp.concatenate([jax.block_until_ready(ys) for _, ys in jaxseq.stream(net, params, chunks)])

    return {
        "step": lambda: one_by_one(step),
        "donated": lambda: one_by_one(donated),
        **{f"stream({n})": functools.partial(in_chunks, [xs[t : t + n] for t in range(0, T, n)]) for n in (1, 10, 100)},
        "unroll": lambda: unroll(params, xs)[1],
    }


if __name__ == "__main__":
    main()
