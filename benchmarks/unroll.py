"""How long does one layer take, forward and in a training step, with each kernel?

    python -m benchmarks.unroll [--cell lstm|gru|rnn] [--rounds 20] [--size 32,100,64,128 …]

Prints trace, compile and run times apart; the run is min and median over rounds in which the kernels take turns. The
training step is the loss mean(ys²) and its gradient by all params. A kernel that disagrees with `scan` stops the run.
"""

import argparse
import math

import jax
import jax.numpy as jnp

import jaxseq
from benchmarks import measure

SIZES = [(32, 100, 64, 128), (32, 128, 256, 256), (16, 784, 1, 128), (1, 1000, 8, 32), (256, 20, 16, 64)]
CELLS = {"lstm": jaxseq.lstm, "gru": jaxseq.gru, "rnn": jaxseq.rnn}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=parse_size, nargs="+", default=SIZES, metavar="B,T,D,H")
    args = parser.parse_args()
    print(measure.describe_machine())
    print(f"{args.cell}, float32, {args.rounds} rounds; ms; ratio: scan's median over this one's\n")
    print(f"{'(B, T, D, H)':>20} {'':10}{'kernel':10}{'trace':>8}{'compile':>9}{'min':>9}{'median':>9}{'ratio':>7}")
    for size in args.size:
        run_size(CELLS[args.cell], size, args.rounds)


def parse_size(text: str) -> tuple[int, ...]:
    """Parses `B,T,D,H`."""
    size = tuple(map(int, text.split(",")))
    if len(size) != 4:
        raise argparse.ArgumentTypeError(f"a size is B,T,D,H; got {text!r}")
    return size


def run_size(factory, size, rounds: int) -> None:
    """Prints the rows of one size."""
    B, T, D, H = size
    cell = factory(H)
    params = cell.init(jax.random.key(0), D)
    xs = jax.random.normal(jax.random.key(1), (T, B, D))
    kernels = {
        "scan": jaxseq.kernels.scan,
        "bptt": jaxseq.kernels.bptt,
        "remat": jaxseq.kernels.remat(max(1, math.isqrt(T))),
    }

    def forward(kernel):
        return lambda params, xs: jaxseq.unroll(cell, params, xs, kernel=kernel)

    def training_step(kernel):
        def loss(params, xs):
            return jnp.mean(jaxseq.unroll(cell, params, xs, kernel=kernel)[1] ** 2)

        return jax.value_and_grad(loss)

    for name, make in (("forward", forward), ("training", training_step)):
        compiled = {kernel: measure.compile_call(make(kernels[kernel]), params, xs) for kernel in kernels}
        measure.check_agreement({kernel: call.call() for kernel, call in compiled.items()}, tolerance=1e-3)
        times = measure.take_turns({kernel: call.call for kernel, call in compiled.items()}, rounds)
        for kernel in kernels:
            numbers = (compiled[kernel].trace, compiled[kernel].compile, *times[kernel])
            trace, compiling, minimum, median = (1e3 * number for number in numbers)
            ratio = times["scan"].median / times[kernel].median
            print(
                f"{size!s:>20} {name:10}{kernel:10}{trace:8.0f}{compiling:9.0f}{minimum:9.2f}{median:9.2f}{ratio:7.2f}"
            )


if __name__ == "__main__":
    main()
