"""All that is to be known of a machine with a GPU or TPU, by one command, in less than eight minutes.

    python -m benchmarks.accelerator [--seconds 440] [--parts laws recurrent linear] [--out FOLDER]
    python -m benchmarks.accelerator --smoke                          a few tiny cases, on a CPU too

laws: every cell by a kernel, then by the next one, with masks, resets and both directions: values and gradients against
the NumPy loops of the tests. recurrent: the suite's LSTM, GRU and RNN beside cuDNN, PyTorch and the loops of other
libraries. linear: each linear cell by every kernel.

Each part has a share of the seconds, and what one does not use is the next one's: a case starts only where there is
time for one as long as the longest so far. What was cut, what is missing and what failed is said, with the reason. All
of it stands in FOLDER/results.json and FOLDER/tables.md too, which are written after every case; the default is a
folder in runs/accelerator for these versions of jaxseq and jax and this device. The exit code is 1 where a result was
wrong. Half a minute beyond the seconds the process ends itself, whatever it waits for.
"""

import argparse
import faulthandler
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks import linear, measure, report, results, tables
from benchmarks.__main__ import load, run_case
from benchmarks.suite import Case

CONTENDERS = (
    *("jaxseq", "jaxseq_cudnn", "jaxseq_scan", "jaxseq_masked"),
    *("cudnn", "torch", "flax_nnx", "haiku", "equinox"),
)
SIZES = [(64, 64, 512, 512), (32, 100, 64, 128), (128, 512, 64, 64)]
# in this order, as time may be short
KINDS = [("lstm", "training"), ("gru", "training"), ("lstm", "inference"), ("rnn", "training"), ("gru", "inference")]
LINEAR_SIZE = 1024, 8, 128
SHARES = {"laws": 0.3, "recurrent": 0.4, "linear": 0.3}
SECONDS, GRACE = 440, 30
STDERR = 2  # its descriptor, wherever sys.stderr goes
LONGEST = 1  # seconds of a call


class Run:
    """What was found so far, and where it is written."""

    def __init__(self, folder: Path, smoke: bool):
        self.folder, self.smoke, self.header = folder, smoke, results.describe()
        self.records = results.load(folder, self.header)
        self.laws: list[dict[str, Any]] = []
        self.left_out: list[str] = []
        self.wrong: list[str] = []
        self.end = math.inf  # of the part that runs

    def leave_out(self, what: str) -> None:
        """Says what is left out, and remembers it."""
        print(what.strip(), flush=True)
        self.left_out.append(what.strip())
        self.save()

    def fail(self, what: str, error: Exception) -> None:
        """Of a contender that raises; an AssertionError is a wrong result."""
        reason = f"{what}: {(str(error) or repr(error)).splitlines()[0]}"
        if isinstance(error, AssertionError):
            self.wrong.append(reason)
        self.leave_out(f"left out: {reason}")

    def add(self, records: list[dict[str, Any]]) -> None:
        """Adds times, in place of those of the same case and contender."""
        self.records = results.merge(self.records, records)
        self.save()

    def save(self) -> None:
        """Writes both files."""
        found = {"laws": self.laws, "left_out": self.left_out, "wrong": self.wrong}
        results.save(self.folder, self.header, self.records, **found)
        (self.folder / "tables.md").write_text(tables.page(self.header, self.records, **found))


class Within:
    """The cases of a part that there is time for, until `end`; `left` are the others."""

    def __init__(self, cases: list, end: float):
        self.left, self.end = list(cases), end

    def __iter__(self) -> Iterator:
        longest, now = 0.0, time.perf_counter()
        while self.left and now + longest <= self.end:
            yield self.left.pop(0)
            started, now = now, time.perf_counter()
            longest = max(longest, now - started)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--parts", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    faulthandler.dump_traceback_later(args.seconds + GRACE, exit=True, file=STDERR)
    try:
        if jax.default_backend() == "cpu" and not args.smoke:
            raise SystemExit("JAX has no accelerator here, but a CPU: --smoke runs a few tiny cases on it")
        run = Run(args.out or results.folder(Path("runs/accelerator")), args.smoke)
        print(run.header["machine"])
        print(", ".join(f"{name} {version}" for name, version in run.header["versions"].items()), flush=True)
        total, share = sum(SHARES[part] for part in args.parts), 0.0
        for part in args.parts:
            share += SHARES[part] / total
            run.end = start + share * args.seconds
            cases, do = PARTS[part](run)
            within = Within(cases, run.end)
            for case in within:
                try:
                    do(case)
                except Exception as error:  # written down as a failure; the other cases run all the same
                    run.fail(f"{part}, {_named([case])}", error)
            if within.left:
                run.leave_out(f"{part}: no time for {len(within.left)} of {len(cases)} cases: {_named(within.left)}")
            run.save()
    finally:
        faulthandler.cancel_dump_traceback_later()
    print(f"\n{(run.folder / 'tables.md').read_text()}")
    print(f"{time.perf_counter() - start:.0f} s; {run.folder / 'results.json'}, {run.folder / 'tables.md'}")
    if run.wrong:
        raise SystemExit(f"{len(run.wrong)} results were wrong")


def _named(cases):
    return "; ".join(" ".join(map(str, case)) for case in cases)


def laws(run: Run):
    """The cases of the laws, every cell before any cell's second kernel; and what runs one."""
    try:
        from benchmarks import accelerator_laws
    except ImportError as error:
        run.leave_out(f"laws are left out: {error}. To install what they need: pip install -e '.[test]'")
        return [], run.leave_out  # never called

    def do(case):
        record = accelerator_laws.run(case)
        print(f"{_named([case])}: error {record['error']:.0e}, {record['seconds']:.1f} s", flush=True)
        run.laws.append(record)
        run.save()

    return accelerator_laws.cases()[: 2 if run.smoke else None], do


def recurrent(run: Run):
    """The cases of the suite; and what runs one."""
    contenders = {name: in_time(run, name, each) for name, each in load(CONTENDERS, run.leave_out).items()}
    measure.compile_call(lambda x: x + 1, 0.0)  # XLA's own start is nobody's
    sizes, kinds, rounds = ([(2, 6, 3, 4)], KINDS[:1], 2) if run.smoke else (SIZES, KINDS, 10)

    def do(case):
        if new := run_case(case, contenders, rounds, LONGEST, run.leave_out, run.fail):
            print(f"\n{report.table(new)}", flush=True)
            run.add(new)

    return [Case(cell, mode, "float32", *size) for cell, mode in kinds for size in sizes], do


def in_time(run, name, contender):
    """The contender, which takes no part in a case that goes on for longer than the part has."""

    def contend(case, params, xs):
        if time.perf_counter() > run.end:
            return run.leave_out(f"{name} in {case}: no time")
        return contender(case, params, xs)

    return contend


def linear_cells(run: Run):
    """Each linear cell and mode, training first; and what runs one."""
    kernels = list(linear.KERNELS)
    if jax.default_backend() != "cpu":
        kernels.remove("native")
        run.leave_out("the kernel native is left out of linear cells: its loops are a CPU's")
    names, size, rounds = (["min_gru"], (6, 2, 4), 2) if run.smoke else (list(linear.cells(1)), LINEAR_SIZE, 5)
    print(f"\n{linear.HEAD}")

    def do(case):
        name, mode = case
        new, refused, wrong = linear.run_case(name, mode, size, kernels, rounds)
        print("\n".join(map(linear.line, new)), flush=True)
        run.wrong += wrong
        for what in (*refused, *wrong):
            run.leave_out(what)
        run.add(new)

    return [(name, mode) for mode in linear.MODES for name in names][: 1 if run.smoke else None], do


PARTS = {"laws": laws, "recurrent": recurrent, "linear": linear_cells}

if __name__ == "__main__":
    main()
