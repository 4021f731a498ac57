"""A duel on your machine, in about a minute: LSTM, GRU and RNN of jaxseq, Flax NNX and, where installed, PyTorch.

    python -m benchmarks.duel [--sizes 32,100,64,128 …] [--rounds 9]

A time is the median of one call of jaxseq's. Beside it stands how many times as long the others take: above 1, jaxseq
is faster. "First" is jaxseq's time for tracing and compiling over Flax NNX's. Results are checked before their time
counts, and the contenders take turns, as in the suite (`python -m benchmarks`), which has all peers, sizes and dtypes.
"""

import argparse

from benchmarks import measure, suite
from benchmarks.__main__ import load, run_case
from benchmarks.suite import Case

SIZES = [(32, 100, 64, 128), (1, 1000, 8, 32)]
OTHERS = ("flax_nnx", "torch")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.duel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", type=suite.parse_size, default=SIZES, metavar="B,T,D,H")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args(argv)
    print(measure.describe_machine())
    contenders = load(["jaxseq", *OTHERS])
    others = [name for name in OTHERS if name in contenders]
    measure.compile_call(lambda x: x + 1, 0.0)  # XLA's own start is nobody's
    print("".join(f"{head:>14}" for head in ("", "", "B, T, D, H", "jaxseq, ms", *others, "first")))
    for size in args.sizes:
        for mode in ("training", "inference"):
            for cell in suite.CELLS:
                records = run_case(Case(cell, mode, "float32", *size), contenders, args.rounds, longest=10)
                print(_row({record["contender"]: record for record in records}, others), flush=True)


def _row(records, others):
    """The line of one case, from its records by contender."""
    own = records["jaxseq"]
    size = ",".join(str(own[name]) for name in "BTDH")
    cells = [own["cell"], own["mode"], size, f"{1e3 * own['median_s']:.2f}"]
    cells += [f"{records[name]['ratio']:.2f}" if name in records else "–" for name in others]
    first = [record["trace_s"] + record["compile_s"] for record in (own, records.get("flax_nnx")) if record]
    cells.append(f"{first[0] / first[1]:.2f}" if len(first) == 2 else "–")
    return "".join(f"{cell:>14}" for cell in cells)


if __name__ == "__main__":
    main()
