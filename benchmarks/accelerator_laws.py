"""The laws' smoke set: values and gradients of every cell by every kernel, against the NumPy loops of the tests.

In float32 with products in full precision, as accelerators round their factors otherwise. Rows have masks and resets of
all patterns, and NaN where they are padded.
"""

import itertools
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import measure
from jaxseq.kernels._cudnn import cudnn_reason
from tests import test_contract, zoo
from tests.test_contract import MASK, RESET

DIRECTIONS = ("forward", "reverse")
KERNELS = ("bptt", "scan", "remat", "associative", "chunkwise", "newton", "native")


class Law(NamedTuple):
    """A cell by a kernel."""

    cell: str
    kernel: str
    direction: str


def cases() -> list[Law]:
    """Every cell by one kernel, then every cell by the next; cuDNN first, where it runs."""
    kernels = KERNELS if jax.default_backend() == "cpu" else KERNELS[:-1]
    of_cells = []
    for place, name in enumerate(zoo.CELLS):
        runs = [kernel for kernel in kernels if zoo.runs(kernel, name)]
        turned = runs[place % len(runs) :] + runs[: place % len(runs)]
        of_cells.append([Law(name, kernel, DIRECTIONS[(place + turn) % 2]) for turn, kernel in enumerate(turned)])
    rounds = itertools.zip_longest(*of_cells)
    lstm = zoo.CELLS["lstm"].cell
    problem = test_contract.make_problem(lstm)
    refused = cudnn_reason(lstm, problem.params, problem.xs)
    first = [] if refused else [Law("lstm", "cudnn", direction) for direction in DIRECTIONS]
    return first + [law for laws in rounds for law in laws if law is not None]


def run(law: Law) -> dict[str, Any]:
    """Returns the record of a law that holds; raises AssertionError where it does not."""
    start = time.perf_counter()
    entry, kernel = zoo.find(law.cell), {**zoo.KERNELS, **zoo.OTHER_KERNELS}[law.kernel]
    reset = None if law.kernel == "cudnn" else RESET
    problem, reverse = test_contract.make_problem(entry.cell), law.direction == "reverse"
    with jax.default_matmul_precision("highest"):
        unrolled = test_contract.runner(entry.cell, kernel, reverse)
        got = test_contract.by_name(unrolled(test_contract.poison(problem, MASK), MASK, reset))
    wide = jax.tree.map(lambda leaf: leaf.astype(np.result_type(leaf, np.float64)), problem)
    want = test_contract.by_oracle(entry.net, wide, MASK, reset, reverse)
    tolerance = 1e-4 if jax.default_backend() == "cpu" else 1e-3
    error = measure.check_agreement({"the NumPy loop": want, "it": got}, tolerance)
    return {**law._asdict(), "error": error, "seconds": time.perf_counter() - start}
