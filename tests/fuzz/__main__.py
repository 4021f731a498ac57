"""`make fuzz`: thousands of spoiled calls, and what is wrong with them.

python -m tests.fuzz [--calls 10000] [--seed 0] [--seconds 60] [--only data]
"""

import argparse
import collections
import faulthandler
import random
import tempfile
import time
import warnings
from pathlib import Path

import jax
import matplotlib
from matplotlib import pyplot

from tests.fuzz import fuzzer
from tests.fuzz.calls import all_calls
from tests.fuzz.spoils import SPOILS


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=60, help="a call's limit, default %(default)s")
    parser.add_argument("--only", default="", help="functions whose name starts so")
    args = parser.parse_args()
    matplotlib.use("Agg")
    warnings.simplefilter("ignore")
    jax.config.update("jax_disable_most_optimizations", True)
    faults, started = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        calls = {name: arguments for name, arguments in all_calls(Path(folder)).items() if name.startswith(args.only)}
        chosen = fuzzer.cases(calls, SPOILS)
        random.Random(args.seed).shuffle(chosen)
        total = len(chosen)
        while len(chosen) < args.calls and not args.only:  # once more each, with what the process has compiled
            chosen += chosen[: args.calls - len(chosen)]
        chosen = chosen[: args.calls]
        for number, case in enumerate(chosen, 1):
            print(f"\r\033[K{number}/{len(chosen)} {case}", end="", flush=True)
            faulthandler.dump_traceback_later(10 * args.seconds, exit=True)  # of what hangs outside Python
            fault = fuzzer.run(case, calls[case.function], args.seconds)
            if fault is not None:
                faults.append(fault)
                print(f"\r\033[K{fault}", flush=True)
            if number % 200 == 0:
                jax.clear_caches()
                pyplot.close("all")
        faulthandler.cancel_dump_traceback_later()
    counts = collections.Counter(fault.kind if "characters" not in fault.kind else "long" for fault in faults)
    print(f"\r\033[K{len(chosen)} calls of {len(calls)} functions, {total} different ones: {len(faults)} faults")
    print(*(f"{count} {kind}" for kind, count in counts.most_common()), f"{time.monotonic() - started:.0f} s", sep="; ")
    return bool(faults)


if __name__ == "__main__":
    raise SystemExit(main())
