"""How much longer than one layer does a stack of equal layers take to compile, and would a loop over layers do better?

    python -m benchmarks.stack_compile [--depth 8] [--size 64] [--rounds 10]

The first call of a training step (loss mean(ys²) and gradients of all params) of LSTM layers with as many inputs as
units: tracing, lowering and compiling, apart, from empty caches; the contenders take turns. `stack` is `jaxseq.stack`,
a layer after the other; `loop` is one `jax.lax.scan` over the stacked params of all layers, whose body XLA compiles
once. Then the time to run, so that nothing that is saved in compiling is paid for there.
"""

import argparse
import functools
import statistics

import jax
import jax.numpy as jnp

import jaxseq
from benchmarks import measure

T, B = 100, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    cell = jaxseq.lstm(args.size)
    layers = tuple(cell.init(key, args.size) for key in jax.random.split(jax.random.key(0), args.depth))
    xs = jnp.ones((T, B, args.size))
    contenders = {
        "1 layer": (functools.partial(stack, cell), layers[:1]),
        f"stack of {args.depth}": (functools.partial(stack, cell), layers),
        f"loop of {args.depth}": (functools.partial(loop, cell), layers),
    }
    compiled = {name: [] for name in contenders}
    for _ in range(args.rounds + 1):  # the first one warms XLA up
        for name, (run, params) in contenders.items():
            jax.clear_caches()
            step = jax.value_and_grad(lambda params, xs, run=run: jnp.mean(run(params, xs) ** 2))
            compiled[name].append(measure.compile_call(step, params, xs))
    calls = {name: rounds[-1].call for name, rounds in compiled.items()}
    stacked, looped = (calls[name]() for name in list(calls)[1:])
    measure.check_agreement({"stack": stacked, "loop": looped}, tolerance=1e-3)
    times = measure.take_turns(calls, 2 * args.rounds)

    print(measure.describe_machine())
    print(f"LSTM, T = {T}, B = {B}, D = H = {args.size}, float32, {args.rounds} rounds; ms, medians\n")
    print(f"{'':12}{'trace':>9}{'compile':>9}{'both':>9}{'min':>9}{'ratio':>7}{'run':>9}{'ratio':>7}")
    both = {name: [call.trace + call.compile for call in rounds[1:]] for name, rounds in compiled.items()}
    for name, rounds in compiled.items():
        trace, compiling = (
            statistics.median(getattr(call, part) for call in rounds[1:]) for part in ("trace", "compile")
        )
        seconds = (trace, compiling, statistics.median(both[name]), min(both[name]))
        row = "".join(f"{1e3 * number:9.0f}" for number in seconds)
        ratio = statistics.median(both[name]) / statistics.median(both["1 layer"])
        run = times[name].median
        print(f"{name:12}{row}{ratio:7.2f}{1e3 * run:9.2f}{run / times['1 layer'].median:7.2f}")


def stack(cell, params, xs):
    """Runs the layers one after the other."""
    return jaxseq.unroll(jaxseq.stack(*[cell] * len(params)), params, xs)[1]


def loop(cell, params, xs):
    """Runs the layers in a loop."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    return jax.lax.scan(lambda xs, layer: (jaxseq.unroll(cell, layer, xs)[1], None), xs, stacked)[0]


if __name__ == "__main__":
    main()
