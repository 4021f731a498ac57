"""Every linear cell by every kernel at lengths that no chunk divides, against its plain loop in float64.

Outputs, last carry and every gradient, also by a first carry that is not zero, under masks, resets and both directions.
`make test` runs a few of a set that covers the pairs of all choices, `make learn` that set.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import kernels
from tests import test_contract, zoo

B = 4
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
FEW = [
    ("lru", "associative", 65, True, True, True),
    ("mamba", "chunkwise(64)", 65, False, True, True),
    ("gla", "chunkwise(64)", 65, True, True, True),
    ("gated_delta_net", "chunkwise(64)", 65, False, True, True),
    ("mlstm", "associative", 65, False, True, True),
]
ALL = test_contract.pairwise([LINEAR, list(KERNELS), LENGTHS, *test_contract.FLAGS])


def flags(T):
    """Rows: all real, holes, padded at the end, empty; resets of all."""
    generator = np.random.default_rng(T)
    mask = np.ones((T, B), bool)
    mask[:, 1] = generator.random(T) < 0.7
    mask[T // 2 :, 2] = False
    mask[:, 3] = False
    return mask, generator.random((T, B)) < 0.05


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", [*FEW, *(pytest.param(case, marks=pytest.mark.learn) for case in ALL)], ids=str)
def test_the_plain_loop(case):
    name, kernel, T, reverse, masked, resets = case
    entry, (mask, reset) = zoo.CELLS[name], flags(T)
    mask, reset = mask if masked else None, reset if resets else None
    problem = test_contract.make_problem(entry.cell, batch=(B,), steps=T)
    given = test_contract.poison(problem, mask) if masked else problem
    got = test_contract.runner(entry.cell, KERNELS[kernel], reverse)(given, mask, reset)
    test_contract.assert_matches_oracle(entry.net, problem, got, mask, reset, reverse)


@pytest.mark.learn
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


@pytest.mark.learn
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


def test_no_kernel_is_chunks_for_a_matrix_and_steps_for_a_diagonal(monkeypatch):
    """On a CPU, and step by step where the sequence is short; on other machines all at once."""
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")

    def told(cell, T):
        params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 4))
        return kernels.explain(cell, params, jax.ShapeDtypeStruct((T, 8, 4), jnp.float32))

    matrix, diagonal = jaxseq.gla(4, heads=2, key_size=4), jaxseq.lru(4)
    assert "kernels.chunkwise(32), by the gradient of its algebra; 4 segments of 32 steps" in told(matrix, 128)
    assert "chunkwise" not in told(matrix, 8)
    assert "kernels.bptt, by the gradient of its algebra" in told(diagonal, 128)
    assert "complex" in told(diagonal, 128)
    assert "by the vjp of its step" in told(jaxseq.min_gru(4), 128)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "kernels.associative" in told(matrix, 128)
    assert "kernels.associative" in told(diagonal, 128)
