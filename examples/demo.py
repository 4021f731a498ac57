"""A tour in two minutes: a weather forecast, a duel of speed beside Flax, and packed sequences.

    python -m examples.demo [--out runs/demo] [--smoke]

1. Seattle's temperature of the next seven days, with intervals, beside its baselines, and a picture of it
   (examples/forecasting.py).
2. A training step and an inference of an RNN, LSTM and GRU on this machine, beside Flax NNX on the same weights
   (benchmarks/duel.py is the long form).
3. Sequences of different lengths, packed into rows, beside the same sequences run one by one.

Started again after an interrupt, the first part goes on where it was; after it has ended, it shows its result.
"""

import contextlib
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jaxseq
from benchmarks import measure, suite
from benchmarks.__main__ import load, run_case
from examples import forecasting, options, out_folder
from jaxseq import data

SIZE = (32, 100, 64, 128)  # B, T, D, H of the duel
LENGTHS = (100, 60, 30, 90, 30, 60, 100, 30)  # of the sequences to pack
ROW = 130  # steps of a packed row


def forecast(out: Path, smoke: bool) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the run in .* has ended", RuntimeWarning)  # started a second time
        forecasting.main(["--out", str(out), *["--smoke"] * smoke])
    say(f"Where the change is negative, the nets err less than that baseline. The picture: {out / 'forecasts.png'}")


def duel(size: tuple[int, int, int, int], rounds: int) -> None:
    print(measure.describe_machine())
    print("B, T, D, H = {}, {}, {}, {}; medians, on the same weights, results checked".format(*size))
    contenders, ratios = load(["jaxseq", "flax_nnx"]), []
    for mode in ("training", "inference"):
        for cell in suite.CELLS:
            ours, theirs = run_case(suite.Case(cell, mode, "float32", *size), contenders, rounds, longest=60)
            ratios.append(theirs["ratio"])
            milliseconds = [f"{1e3 * record['median_s']:8.2f} ms" for record in (ours, theirs)]
            print(f"{cell:5}{mode:10} jaxseq {milliseconds[0]}   Flax NNX {milliseconds[1]}", flush=True)
    say(f"Flax NNX takes {min(ratios):.1f} to {max(ratios):.1f} times as long as jaxseq here.")


def packed(lengths: Sequence[int], row: int) -> None:
    random = np.random.default_rng(0)
    sequences = [random.normal(size=(length, 16)).astype(np.float32) for length in lengths]
    rows = data.pack(sequences, row)
    cell = jaxseq.lstm(64)
    params = cell.init(jax.random.key(0), 16)
    xs, mask, reset = (jnp.moveaxis(jnp.asarray(array), 1, 0) for array in (rows.xs, rows.mask, rows.reset))

    def together(params):
        return jaxseq.unroll(cell, params, xs, mask=mask, reset=reset)[1]

    def one_by_one(params):
        return [jaxseq.unroll(cell, params, jnp.asarray(sequence))[1] for sequence in sequences]

    def total(run):
        return lambda params: sum(jnp.sum(ys**2) for ys in jax.tree.leaves(run(params)))

    ys, apart = jax.jit(together)(params), jax.jit(one_by_one)(params)
    outputs = [np.abs(a - b).max() for a, b in zip(data.unpack(jnp.moveaxis(ys, 1, 0), rows), apart, strict=True)]
    ours, theirs = (jax.jit(jax.grad(total(run)))(params) for run in (together, one_by_one))
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    gradients = [float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs]
    print(f"{len(lengths)} sequences of {min(lengths)} to {max(lengths)} steps in {len(rows.xs)} rows of {row}")
    print(
        f"padding: {1 - rows.mask.mean():.0%} of the steps, {1 - np.mean(lengths) / max(lengths):.0%} without packing"
    )
    print(f"largest difference: {max(outputs):.1e} in outputs, {max(gradients):.1e} of the largest gradient")
    if not (max(outputs) < 1e-5 and max(gradients) < 1e-4):
        raise AssertionError("packed sequences and the same ones apart differ")
    say("No sequence sees its neighbours in the row: outputs and gradients are those of each one alone.")


def say(what: str) -> None:
    print(f"=> {what}", flush=True)


@contextlib.contextmanager
def part(title: str) -> Iterator[None]:
    """Prints a title, and every eight seconds that it still goes on: while a program is compiled, nothing else is."""
    done, started = threading.Event(), time.perf_counter()

    def tick():
        while not done.wait(8):
            tqdm.write(f"... {time.perf_counter() - started:.0f} s")

    print(f"\n{title}", flush=True)
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()


def main(argv: Sequence[str] | None = None) -> None:
    args = options(__doc__, "demo").parse_args(argv)
    out, started = out_folder(args, "demo"), time.perf_counter()
    print("Three parts, in all under three minutes on two CPU cores.")
    with part("1. A week of weather, from the two weeks before: a minute at most; loads 0.2 MB once"):
        forecast(out, args.smoke)
    with part("2. A duel of speed on this machine: half a minute"):
        duel(*((2, 6, 3, 4), 2) if args.smoke else (SIZE, 9))
    with part("3. A packed batch: ten seconds"):
        packed(LENGTHS, ROW)
    print(f"\n{time.perf_counter() - started:.0f} s in all. README.md says where to go on.")


if __name__ == "__main__":
    main()
