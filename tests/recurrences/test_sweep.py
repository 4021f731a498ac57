"""Every linear cell by every kernel at lengths that no chunk divides, against its plain loop in float64.

Outputs, last carry and every gradient, also by a first carry that is not zero, in both directions. Masks and resets of
all kinds are rows of one batch. `make test` runs a few, `make learn` half of a set that covers the pairs of all
choices, and `make laws` that set, all in float64, and every cell and kernel in narrow dtypes and without flags.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import kernels
from tests import test_contract, zoo

LINEAR = [name for name in zoo.CELLS if zoo.runs("associative", name)]
KERNELS = {
    "scan": kernels.scan,
    "bptt": kernels.bptt,
    "associative": kernels.associative,
    "chunkwise(1)": kernels.chunkwise(1),
    "chunkwise(5)": kernels.chunkwise(5),
    "chunkwise(64)": kernels.chunkwise(),
}
LENGTHS = [0, 1, 63, 64, 65, 200]
B = 6  # rows of flags
ROUNDINGS = {"float32": 64, "bfloat16": 4}  # of the largest entry of each result, after up to 200 steps


class Case(NamedTuple):
    name: str
    kernel: str
    T: int
    reverse: bool
    flags: bool = True
    dtype: str = "float64"

    def __str__(self):
        options = [word for word in ("reverse", "flags") if getattr(self, word)]
        return "-".join([self.name, self.kernel, str(self.T), *options, self.dtype])


FEW = [
    Case("lru", "associative", 65, True),
    Case("gla", "chunkwise(64)", 65, True),
    Case("gated_delta_net", "chunkwise(64)", 65, False),
]


def cases():
    """All in full, and a set that covers the pairs of all choices."""
    pairs = test_contract.pairwise(
        [LINEAR, list(KERNELS), LENGTHS, [False, True], [True, False], ["float64", "float32", "bfloat16"]]
    )
    chosen = list(itertools.starmap(Case, pairs))
    if test_contract.FULL:
        chosen += itertools.starmap(Case, itertools.product(LINEAR, KERNELS, LENGTHS, [False, True]))
        chosen += itertools.starmap(Case, itertools.product(LINEAR, KERNELS, [65], [False, True], [False]))
        narrow = ["float32", "bfloat16"]
        chosen += itertools.starmap(Case, itertools.product(LINEAR, KERNELS, [65], [False], [True], narrow))
    others = sorted(set(chosen) - set(FEW))
    if not test_contract.FULL:
        others = [pytest.param(case, marks=pytest.mark.learn) for case in others[::2]]
    return [*FEW, *others]


def flags(T):
    """Rows: neither, a mask with holes, resets, both; padded at the end and empty, with resets."""
    generator = np.random.default_rng(T)
    mask, reset = np.ones((T, B), bool), generator.random((T, B)) < 0.05
    mask[:, [1, 3]] = generator.random((T, 2)) < 0.7
    mask[T // 2 :, 4] = False
    mask[:, 5] = False
    reset[:, :2] = False
    return mask, reset


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", cases(), ids=str)
def test_the_plain_loop(case):
    """In float64 to 1e-10; in narrower dtypes within their error, of the loop in float64 on the same numbers."""
    entry, (mask, reset) = zoo.CELLS[case.name], flags(case.T)
    mask, reset = (mask, reset) if case.flags else (None, None)
    problem = test_contract.make_problem(entry.cell, batch=(B,), steps=case.T)
    problem = test_contract.in_dtype(entry.cell, problem, jnp.dtype(case.dtype))
    given = test_contract.poison(problem, mask) if case.flags else problem
    got = test_contract.runner(entry.cell, KERNELS[case.kernel], case.reverse)(given, mask, reset)
    wide = test_contract.in_dtype(entry.cell, problem, np.float64)
    if case.dtype == "float64":
        test_contract.assert_matches_oracle(entry.net, wide, got, mask, reset, case.reverse)
        return
    want = test_contract.by_oracle(entry.net, wide, mask, reset, case.reverse)
    bound = ROUNDINGS[case.dtype] * float(jnp.finfo(case.dtype).eps)
    leaves = jax.tree_util.tree_leaves_with_path(test_contract.by_name(got))
    for (path, leaf), exact in zip(leaves, jax.tree.leaves(want), strict=True):
        error = np.abs(np.asarray(leaf).astype(exact.dtype) - exact).max(initial=0)
        assert error <= bound * max(1.0, np.abs(exact).max(initial=0)), (jax.tree_util.keystr(path), error)


@pytest.mark.some(0, learn=4)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LINEAR)
def test_ten_thousand_steps_are_finite_and_the_same_by_every_kernel(name):
    """Against a float64 loop by `scan`; in float32 the gradients are finite too."""
    cell, T = zoo.CELLS[name].cell, 10_000
    problem = test_contract.make_problem(cell, batch=(2,), steps=T)
    results = {each: test_contract.runner(cell, kernel)(problem) for each, kernel in KERNELS.items() if "1" not in each}
    for each, got in results.items():
        scale = jax.tree.map(lambda leaf: max(1.0, float(np.abs(leaf).max())), results["scan"])
        for path, leaf in jax.tree_util.tree_leaves_with_path(got):
            assert np.all(np.isfinite(leaf)), (each, jax.tree_util.keystr(path))
        normal, want = (jax.tree.map(np.divide, tree, scale) for tree in (got, results["scan"]))
        zoo.assert_close(normal, want, 1e-9, each)
    narrow = test_contract.in_dtype(cell, problem, np.float32)
    for each in ("associative", "chunkwise(64)"):
        got = test_contract.runner(cell, KERNELS[each])(narrow)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(got)), each


@pytest.mark.some(0, learn=11)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kernel", ["bptt", "associative", "chunkwise(5)", "chunkwise(64)"])
@pytest.mark.parametrize("name", LINEAR)
def test_packed_is_apart_and_chunks_are_the_whole(name, kernel):
    """Sequences of 63, 1 and 66 steps in one row; and the row in pieces of 65, 5 and 60, with the carry handed on."""
    cell, T = zoo.CELLS[name].cell, 130
    problem = test_contract.make_problem(cell, batch=(), steps=T)
    run = functools.partial(jaxseq.unroll, cell, problem.params, kernel=KERNELS[kernel])
    borders = [0, 63, 64, T]
    reset = np.zeros(T, bool)
    reset[borders[:-1]] = True
    _, packed = run(problem.xs, reset=reset)
    apart = [run(problem.xs[first:end])[1] for first, end in itertools.pairwise(borders)]
    zoo.assert_close(packed, jnp.concatenate(apart), 1e-10)

    whole_carry, whole = run(problem.xs, problem.carry)
    carry, pieces = problem.carry, []
    for first, end in itertools.pairwise([0, 65, 70, T]):
        carry, ys = run(problem.xs[first:end], carry)
        pieces.append(ys)
    zoo.assert_close((carry, jnp.concatenate(pieces)), (whole_carry, whole), 1e-10)


@pytest.mark.parametrize("kernel", [kernels.associative, kernels.chunkwise(8)])
def test_other_cells_are_refused_in_words(kernel):
    message = r"runs cells whose step is linear in the carry, .*lstm\(4\) does not, .*kernel=jaxseq.kernels.bptt"
    cell = jaxseq.lstm(4)
    params, xs = cell.init(jax.random.key(0), 3), jnp.ones((5, 2, 3))
    with pytest.raises(ValueError, match=message):
        jaxseq.unroll(cell, params, xs, kernel=kernel)
    with pytest.raises(ValueError, match=message):
        kernels.explain(cell, params, xs, kernel=kernel)


def test_kernels_of_linear_cells_say_how_they_run():
    cell = jaxseq.min_gru(4)
    params, xs = cell.init(jax.random.key(0), 3), jnp.ones((100, 2, 3))
    told = {kernel: kernels.explain(cell, params, xs, kernel=kernel) for kernel in KERNELS.values()}
    assert "kernels.associative, by the gradient of its algebra; T = 100, not cut" in told[kernels.associative]
    assert "kernels.chunkwise(5), by the gradient of its algebra; 20 segments of 5 steps" in told[kernels.chunkwise(5)]
    assert "kernels.bptt, by the gradient of its algebra" in told[kernels.bptt]
    assert all(kernels.peak_bytes(cell, params, xs, kernel=kernel) > 0 for kernel in KERNELS.values())
