"""The suite: recurrent layers of jaxseq and of its peers, on the same weights, in turns.

    python -m benchmarks [--cells lstm] [--modes training] [--dtypes float32] [--sizes 32,100,64,128 …]
                         [--contenders jaxseq flax_nnx …] [--rounds 20] [--longest 10] [--out FOLDER] [--smoke]

inference: the outputs of a whole sequence; training: the loss mean(ys²) and its gradients by all params; streaming: one
step, the carry handed on, each output waited for. Every contender gets jaxseq's params and inputs in its own layout,
changed outside the timed call; its outputs, or loss and gradients, are held against the kernel `scan` on the net of its
convention before its time counts, and a wrong one stops the run. Then the contenders and one large matrix product,
[T B, H] × [H, G], which is the machine's rate, take turns. Trace and compile are together the first call; GFLOP/s are
those of the median; a ratio is a contender's median over that of `jaxseq` in the same run: above 1, jaxseq is faster.
Results go to FOLDER/results.json and FOLDER/ratios.png; a later run adds to them. The default is a folder in
runs/benchmarks for these versions of jaxseq and jax and this device; `python -m benchmarks.compare` compares two files.
"""

import argparse
import os
import time
from pathlib import Path

import jax

from benchmarks import measure, report, results, suite
from benchmarks.suite import Case


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=suite.CELLS, default=list(suite.CELLS))
    parser.add_argument("--modes", nargs="+", choices=suite.MODES, default=suite.MODES)
    parser.add_argument("--dtypes", nargs="+", choices=suite.DTYPES, default=suite.DTYPES)
    parser.add_argument("--sizes", nargs="+", type=suite.parse_size, default=suite.SIZES, metavar="B,T,D,H")
    parser.add_argument("--contenders", nargs="+", choices=suite.CONTENDERS, default=list(suite.CONTENDERS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--longest", type=float, default=10, metavar="SECONDS", help="slower calls are left out; 10")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="runs/benchmarks/VERSIONS-DEVICE")
    parser.add_argument("--smoke", action="store_true", help="one tiny size, two rounds")
    args = parser.parse_args(argv)
    sizes, rounds = ([(2, 6, 3, 4)], 2) if args.smoke else (args.sizes, args.rounds)

    header = results.describe()
    folder = args.out or results.folder(Path("runs/benchmarks"))
    records = results.load(folder, header)
    print(header["machine"])
    print(", ".join(f"{name} {version}" for name, version in header["versions"].items()))
    contenders = load(args.contenders)
    measure.compile_call(lambda x: x + 1, 0.0)  # XLA's own start is nobody's
    cases = [
        Case(cell, mode, dtype, *size)
        for dtype in args.dtypes
        for size in sizes
        for mode in args.modes
        for cell in args.cells
    ]
    for case in cases:
        if new := run_case(case, contenders, rounds, args.longest):
            print(f"\n{report.table(new)}", flush=True)
            records = results.merge(records, new)
            results.save(folder, header, records)
    print(f"\n{report.summary(records)}\n")
    report.draw(records, folder / "ratios.png")
    print(f"{folder / 'results.json'}, {folder / 'ratios.png'}")


def load(names, say=print):
    """Returns the contenders by name; says of each one that cannot be had why not."""
    os.environ.setdefault("KERAS_BACKEND", "jax")  # read when keras is imported
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # PyTorch's profiler, which counts its bytes, says nothing
    contenders = {}
    for name in names:
        try:
            contenders[name] = suite.load(name)
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError)
            say(f"{name} is left out: {error}" + ". To install it: pip install -e '.[bench]'" * missing)
    return contenders


def stop(what, error):
    """What is done where a contender fails: nothing is timed beside a wrong result."""
    raise error


def run_case(case, contenders, rounds, longest, say=print, fail=stop):
    """Returns the records of a case.

    `say` is told of contenders that are left out. `fail(what, error)` is called where one raises, or its result is
    wrong, with the AssertionError then; it raises, or the contender is left out.
    """
    params, xs = suite.problem(case)
    calls, errors = {}, {}
    for name, contender in contenders.items():
        try:
            call = contender(case, params, xs)
            if call is None:
                continue
            seconds = _seconds(call)
            if seconds > longest:  # once more, as the first call starts its library
                seconds = _seconds(call)
        except Exception as error:  # another library may raise anything; `fail` says what becomes of it
            fail(f"{name} in {case}", error)
            continue
        if seconds > longest:
            say(f"\n{name} is left out of {case}: a call takes {seconds:.0f} s, more than --longest allows")
        else:
            calls[name] = call
    for name in [*calls]:
        try:
            errors[name] = suite.check(case, name, contenders[name], calls[name], params, xs)
        except Exception as error:  # as above
            fail(f"{name} in {case}", error)
            del calls[name]
    if not calls:
        return []

    matmul, matmul_flops = measure.matmul(case.T * case.B, case.H, suite.GATES[case.cell] * case.H, case.dtype)
    times = measure.take_turns({"matmul": matmul} | {name: call.run for name, call in calls.items()}, rounds)
    rate = matmul_flops / times["matmul"].median
    records = []
    for name, call in calls.items():
        minimum, median = (seconds / call.steps for seconds in times[name])
        record = {
            **case._asdict(),
            "contender": name,
            "rounds": rounds,
            "error": errors[name],
            "trace_s": call.trace,
            "compile_s": call.compile,
            "min_s": minimum,
            "median_s": median,
            "peak_bytes": call.peak_bytes,
            "gflops": suite.flops(case) / median / 1e9,
            "matmul_gflops": rate / 1e9,
            "fraction_of_matmul": suite.flops(case) / median / rate,
            "ratio": times[name].median / times["jaxseq"].median if "jaxseq" in calls else None,
        }
        records.append(record)
    return records


def _seconds(call):
    start = time.perf_counter()
    jax.block_until_ready(call.run())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
