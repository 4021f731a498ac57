"""How much longer than one layer does a stack of equal layers take to compile?

    python -m benchmarks.stack_compile [--depths 1 2 4 8] [--size 64] [--rounds 5]

The first call of a training step (loss mean(ys²) and gradients of all params) of LSTM layers with as many inputs as
units: tracing, lowering and compiling, apart, from empty caches; depths take turns. Then the time to run, so that
nothing that is saved in compiling is paid for there: a stack of N layers should run N times as long as one.
"""

import argparse
import statistics

import jax
import jax.numpy as jnp

import jaxseq
from benchmarks import measure

T, B = 100, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(measure.describe_machine())
    print(f"LSTM, T = {T}, B = {B}, D = H = {args.size}, float32, {args.rounds} rounds; ms\n")
    compiled = {depth: [] for depth in args.depths}
    for _ in range(args.rounds + 1):  # the first one warms XLA up
        for depth in args.depths:
            jax.clear_caches()
            compiled[depth].append(measure.compile_call(*training_step(depth, args.size)))
    times = measure.take_turns({str(depth): compiled[depth][-1].call for depth in args.depths}, 2 * args.rounds)
    print(f"{'layers':>8}{'trace':>9}{'compile':>9}{'both':>9}{'min':>9}{'ratio':>7}{'run':>9}{'ratio':>7}")
    both = {depth: [call.trace + call.compile for call in compiled[depth][1:]] for depth in args.depths}
    first, first_run = statistics.median(both[args.depths[0]]), times[str(args.depths[0])].median
    for depth in args.depths:
        trace, compiling = (
            statistics.median(getattr(call, part) for call in compiled[depth][1:]) for part in ("trace", "compile")
        )
        whole, run = statistics.median(both[depth]), times[str(depth)].median
        numbers = (1e3 * seconds for seconds in (trace, compiling, whole, min(both[depth])))
        row = "".join(f"{number:9.0f}" for number in numbers)
        print(f"{depth:8}{row}{whole / first:7.2f}{1e3 * run:9.2f}{run / first_run:7.2f}")


def training_step(depth: int, size: int):
    """Returns the loss with its gradients, and arguments for it."""
    net = jaxseq.stack(*[jaxseq.lstm(size)] * depth)
    params = net.init(jax.random.key(0), size)
    xs = jnp.ones((T, B, size))
    return jax.value_and_grad(lambda params, xs: jnp.mean(jaxseq.unroll(net, params, xs)[1] ** 2)), params, xs


if __name__ == "__main__":
    main()
