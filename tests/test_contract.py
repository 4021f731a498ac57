"""The laws, for every cell × kernel × wrapper; a new one joins them by an entry, see tests/zoo.py.

`pytest` runs a set of combinations that covers the pairs of choices, and holds each of the other laws against some
cells and wrapped cells in turn. `make laws` (JAXSEQ_LAWS=full) holds each cell by hand and by autodiff under all flags,
five cells with every kernel, every wrapper around every cell, and each other law against all cells; and that set once
more on programs that are compiled as users' are (JAXSEQ_LAWS=optimised). Masks and resets of all patterns are rows of
one batch, so that a combination compiles once.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from tests import zoo
from tests.full import FULL

pytestmark = pytest.mark.usefixtures("x64")

T, B, D = 7, 8, 3
TOLERANCE = 1e-10

#   rows: full, empty, one step, odd length, padded at the start, holes, holes at random, full
MASK = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 1],
        [1, 0, 1, 0, 0, 1, 0],
        [0, 1, 1, 0, 1, 0, 1],
        [1, 1, 1, 1, 1, 1, 1],
    ],
    dtype=bool,
).T
#   resets on real and on padded steps, at the first and the last step, two in a row, none
RESET = np.array(
    [
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 1],
        [0, 1, 0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    dtype=bool,
).T

FLAGS = [[False, True]] * 3  # reverse, masked, resets


class Combination(NamedTuple):
    net: str
    kernel: str
    reverse: bool
    masked: bool
    resets: bool

    def __str__(self):
        flags = [name for name in ("reverse", "masked", "resets") if getattr(self, name)]
        return "-".join([self.net, self.kernel, *flags])


def pairwise(axes) -> list[tuple]:
    """A small subset of the product in which every pair of two axes' choices stands, found greedily."""
    product = [tuple(row) for row in itertools.product(*axes)]
    np.random.default_rng(0).shuffle(product)
    pairs = {row: set(itertools.combinations(enumerate(row), 2)) for row in product}
    missing = set().union(*pairs.values())
    chosen = []
    while missing:
        best = max(product, key=lambda row: len(pairs[row] & missing))
        chosen.append(best)
        missing -= pairs[best]
    return chosen


PLAIN = ["rnn", "lstm", "gru", "gru_before", "own"]
KERNELS = [
    "scan",
    "bptt",
    "native",
    "remat",
    "associative",
    "chunkwise",
    "newton",
]  # those that each law is held against; all of them meet the oracle


def grouped(name, *others):
    """A parameter that runs where the others of its cell do, so that they share what was compiled."""
    return pytest.param(name, *others, marks=pytest.mark.xdist_group(base(name)))


def base(name):
    """The cell's name, of a wrapped cell too."""
    return name.removesuffix(")").split("(")[-1]


COMPILE_LONG = {"conv_lstm", "conv_lstm_strides", "mamba2", "gla", "gated_delta_net", "delta_net_negative", "mlstm"}


def wrapped(wrapper):
    """The names of the cells in a wrapper; those that compile for seconds are left to `make laws`."""
    return [name for name in zoo.wrapped(wrapper) if FULL or base(name) not in COMPILE_LONG]


def in_turn(wrappers):
    """Names of wrapped cells, one a wrapper, for ever: every cell comes to stand in every wrapper."""
    for round_ in itertools.count():
        for place, wrapper in enumerate(wrappers):
            names = wrapped(wrapper)
            yield names[(round_ + 7 * place) % len(names)]


def combinations():
    """The cells by pairs of all choices, the wrapped cells by pairs of a wrapper and the rest; every kernel by some."""
    linear = [name for name in zoo.CELLS if zoo.runs("associative", name)]
    others = [name for name in zoo.CELLS if name not in linear]
    compiled = [name for name in zoo.CELLS if zoo.runs("native", name)]
    at_once = ["associative", "chunkwise"]
    chosen = [Combination(*row) for row in pairwise([others, ["bptt", "native"], *FLAGS])]
    chosen += [Combination(*row) for row in pairwise([PLAIN, ["scan", "remat"], *FLAGS])]
    chosen += [Combination(*row) for row in pairwise([linear, ["bptt", "native"], *FLAGS])]
    ways = itertools.cycle(itertools.product(["scan", *at_once], *FLAGS))  # 24 of them; every seventh is taken
    chosen += [Combination._make((name, *next(itertools.islice(ways, 6, None)))) for name in linear]
    chosen += [Combination(*row) for row in pairwise([["learned_carry(lru)", "learned_carry(mlstm)"], at_once, *FLAGS])]
    own = [name for name in zoo.KERNELS if name not in KERNELS]
    chosen += [Combination(*row) for row in pairwise([["lstm", "own"], ["newton", *own], *FLAGS])]
    nets = {wrapper: itertools.cycle(wrapped(wrapper)[place:]) for place, wrapper in enumerate(zoo.WRAPPERS)}
    for wrapper, kernel, *rest in pairwise([list(zoo.WRAPPERS), ["scan", "bptt", "native"], *FLAGS]):
        name = next(name for name in nets[wrapper] if zoo.runs(kernel, name))
        chosen.append(Combination(name, kernel, *rest))
    chosen += [Combination(*row) for row in pairwise([["stack(gru)", "zoneout(lstm)"], ["remat"], *FLAGS])]
    if FULL:
        chosen += map(Combination._make, itertools.product(zoo.CELLS, ["scan", "bptt"], *FLAGS))
        chosen += map(Combination._make, itertools.product(compiled, ["native"], *FLAGS))
        chosen += map(Combination._make, itertools.product(linear, at_once, *FLAGS))
        chosen += map(Combination._make, itertools.product(PLAIN, zoo.KERNELS, *FLAGS))
        chosen += [Combination(*row) for row in pairwise([list(zoo.CELLS), ["remat"], *FLAGS])]
        names = itertools.chain.from_iterable(map(zoo.wrapped, zoo.WRAPPERS))
        choices = itertools.cycle(itertools.product(["scan", "bptt", "native", "remat"], *FLAGS))  # 32 of them
        chosen += [Combination._make((name, *next(choices))) for name in names]
    return sorted(row for row in set(chosen) if zoo.runs(row.kernel, row.net))


COMBINATIONS = combinations()
each_combination = pytest.mark.parametrize(
    "combination",
    [pytest.param(row, marks=pytest.mark.xdist_group(base(row.net))) for row in COMBINATIONS],
    ids=map(str, COMBINATIONS),
)

CAUSAL = in_turn([name for name in zoo.WRAPPERS if "bidirectional" not in name and name != "backwards"])
SHALLOW = in_turn([name for name in zoo.WRAPPERS if "deep" not in name])
ANY = in_turn(list(zoo.WRAPPERS))
PLAINEST = itertools.cycle(["lstm", "own"])
OTHERS = itertools.cycle(cell for cell in zoo.CELLS if cell not in ("lstm", "own"))


def some(nets):
    """The nets that a law is held against: an LSTM or an own cell, another and a wrapped one; or all cells."""
    wrapped = [next(nets) for _ in range(len(zoo.WRAPPERS) if FULL else 1)]
    return [*zoo.CELLS, *wrapped] if FULL else [next(PLAINEST), next(OTHERS), *wrapped]


def each_net(nets=ANY):
    return pytest.mark.parametrize("name", [grouped(name) for name in some(nets)])


def each_net_and_kernel(nets=ANY):
    names = some(nets)
    chosen = itertools.cycle(KERNELS)
    pairs = [(name, next(kernel for kernel in chosen if zoo.runs(kernel, name))) for name in names]
    pairs += [
        pair for pair in itertools.product(PLAIN, KERNELS) if FULL and pair not in pairs and zoo.runs(pair[1], pair[0])
    ]
    return pytest.mark.parametrize(("name", "kernel_name"), [grouped(*pair) for pair in pairs])


class Problem(NamedTuple):
    params: Any
    carry: Any
    xs: Any
    d_carry: Any
    d_ys: Any


def make_problem(cell, *, seed=0, batch=(B,), steps=T):
    """Random params, carry, inputs and cotangents in float64, as NumPy arrays."""
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), D))
    carry = jax.eval_shape(lambda params: cell.carry(params, batch), shapes)
    xs, d_ys = (jax.ShapeDtypeStruct((steps, *batch, size), float) for size in (D, cell.size))
    trees = shapes, carry, xs, carry, d_ys
    seeds, scales = (0, 1, 2, 4, 3), (0.5, 0.5, 1.0, 0.5, 1.0)
    drawn = [zoo.random_like(tree, seed + n, scale) for tree, n, scale in zip(trees, seeds, scales, strict=True)]
    return Problem(*jax.tree.map(np.asarray, drawn))


def in_dtype(cell, problem, dtype):
    """The problem in another dtype; the carry in that in which the cell keeps it, float32 where it is linear."""
    narrow = jax.tree.map(lambda leaf: leaf.astype(dtype), problem._replace(carry=None, d_carry=None))
    like = jax.eval_shape(lambda params: cell.carry(params, (B,)), narrow.params)
    carry, d_carry = (
        jax.tree.map(lambda c, like: c.astype(like.dtype), c, like) for c in (problem.carry, problem.d_carry)
    )
    return narrow._replace(carry=carry, d_carry=d_carry)


@functools.cache
def runner(cell, kernel=None, reverse=False):
    """Returns the jitted `(problem, mask, reset) -> (carry, ys), (d_params, d_carry, d_xs)`."""

    @jax.jit
    def run(problem, mask=None, reset=None):
        def forward(params, carry, xs):
            return jaxseq.unroll(cell, params, xs, carry, mask=mask, reset=reset, reverse=reverse, kernel=kernel)

        results, pull = jax.vjp(forward, problem.params, problem.carry, problem.xs)
        return results, pull((problem.d_carry, problem.d_ys))

    return run


def find(name, kernel_name="bptt"):
    return zoo.find(name).cell, zoo.KERNELS[kernel_name]


def poison(problem, mask):
    """NaN in inputs and cotangents wherever the mask is False."""
    xs, d_ys = (np.where(mask[..., None], array, array.dtype.type(np.nan)) for array in (problem.xs, problem.d_ys))
    return problem._replace(xs=xs, d_ys=d_ys)


@each_combination
def test_matches_the_oracle_and_padding_is_as_if_it_were_not_there(combination):
    entry = zoo.find(combination.net)
    run = runner(entry.cell, zoo.KERNELS[combination.kernel], combination.reverse)
    flags = (MASK if combination.masked else None, RESET if combination.resets else None)
    problem = make_problem(entry.cell)
    got = run(poison(problem, MASK) if combination.masked else problem, *flags)
    assert_matches_oracle(entry.net, problem, got, *flags, combination.reverse)
    if combination.masked and not combination.resets:
        compact = run(poison(gather_steps(problem, FRONT), SHORT), SHORT)
        assert_same_without_padding(got, compact)


def assert_matches_oracle(net, problem, got, mask, reset, reverse):
    want = by_oracle(net, problem, mask, reset, reverse)
    for name, leaves in by_name(got).items():
        zoo.assert_close(leaves, want[name], TOLERANCE, name)


def by_name(results):
    """What a `runner` returns, as the oracle does: the leaves of each result by its name."""
    (carry, ys), (d_params, d_carry, d_xs) = results
    carry, d_carry = jax.tree.leaves(carry), jax.tree.leaves(d_carry)
    return {"ys": ys, "carry": carry, "d_xs": d_xs, "d_carry": d_carry, "d_params": zoo.as_reference(d_params)}


def by_oracle(net, problem, mask, reset, reverse):
    """What the plain NumPy loop makes of a problem, the leaves of each result by its name."""
    params, xs, d_ys = zoo.as_reference(problem.params), np.asarray(problem.xs), np.asarray(problem.d_ys)
    structure = jax.tree.structure(net.start(params, B))
    first, d_last = (
        jax.tree.unflatten(structure, map(np.asarray, jax.tree.leaves(tree)))
        for tree in (problem.carry, problem.d_carry)
    )
    flags = {"mask": mask, "reset": reset, "reverse": reverse}
    carry, ys = net.run(params, xs, first, flags)
    d_params, d_carry, d_xs = net.back(params, xs, first, d_last, d_ys, flags)
    carry, d_carry = jax.tree.leaves(carry), jax.tree.leaves(d_carry)
    return {"ys": ys, "carry": carry, "d_xs": d_xs, "d_carry": d_carry, "d_params": d_params}


#   Every row's real steps moved to the front, and where each of them stood: the padded rows against truncated ones.
FRONT = np.argsort(~MASK, axis=0, kind="stable")
SHORT = np.take_along_axis(MASK, FRONT, axis=0)


def gather_steps(problem, order):
    xs, d_ys = (np.take_along_axis(array, order[..., None], axis=0) for array in (problem.xs, problem.d_ys))
    return problem._replace(xs=xs, d_ys=d_ys)


def assert_same_without_padding(padded, compact):
    (carry, ys), (d_params, d_carry, d_xs) = padded
    (want_carry, want_ys), (want_d_params, want_d_carry, want_d_xs) = compact
    zoo.assert_close((carry, d_params, d_carry), (want_carry, want_d_params, want_d_carry), TOLERANCE, "padding ")
    for name, array, want in (("ys", ys, want_ys), ("d_xs", d_xs, want_d_xs)):
        moved = np.take_along_axis(np.asarray(array), FRONT[..., None], axis=0)
        np.testing.assert_allclose(moved, want, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"padding {name}")
        assert not np.any(np.asarray(array)[~MASK]), name


@each_net_and_kernel()
def test_a_full_mask_and_no_reset_change_nothing(name, kernel_name):
    cell, kernel = find(name, kernel_name)
    problem = make_problem(cell)
    run = runner(cell, kernel)
    zoo.assert_close(run(problem, np.ones_like(MASK), np.zeros_like(RESET)), run(problem), TOLERANCE)


@each_net()
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_with_resets_is_apart(name, reverse):
    """Sequences of 3, 1 and 3 steps packed in a row give what each gives alone."""
    cell = zoo.find(name).cell
    problem = make_problem(cell, batch=())
    borders = [0, 3, 4, 7]
    reset = np.zeros(T, bool)
    reset[borders[:-1]] = True
    start = cell.carry(problem.params)
    _, packed = jaxseq.unroll(cell, problem.params, problem.xs, start, reset=reset, reverse=reverse)
    for first, end in itertools.pairwise(borders):
        _, apart = jaxseq.unroll(cell, problem.params, problem.xs[first:end], reverse=reverse)
        zoo.assert_close(np.asarray(packed)[first:end], apart, TOLERANCE, f"steps {first} to {end}")


@each_net_and_kernel()
def test_reverse_is_the_flip_of_the_flipped(name, kernel_name):
    cell, kernel = find(name, kernel_name)
    problem = make_problem(cell)
    reset = RESET & (np.arange(T) > 0)[:, None]  # at the first step it acts on what runs forward alone
    crossings = np.concatenate([np.zeros_like(reset[:1]), reset[:0:-1]])  # a border is crossed from t to t-1
    flipped = problem._replace(xs=problem.xs[::-1], d_ys=problem.d_ys[::-1])
    (carry, ys), (d_params, d_carry, d_xs) = runner(cell, kernel, True)(problem, MASK, reset)
    (want_carry, want_ys), want = runner(cell, kernel)(flipped, MASK[::-1], crossings)
    got = carry, np.asarray(ys)[::-1], d_params, d_carry, np.asarray(d_xs)[::-1]
    zoo.assert_close(got, (want_carry, want_ys, *want), TOLERANCE)


@each_net_and_kernel(CAUSAL)
@pytest.mark.parametrize("reverse", [False, True])
def test_chunks_with_the_carry_handed_on_are_the_whole(name, kernel_name, reverse):
    cell, kernel = find(name, kernel_name)
    problem = make_problem(cell)

    def in_chunks(params, carry, xs):
        ys = {}
        chunks = [slice(0, 3), slice(3, 7)]
        for chunk in reversed(chunks) if reverse else chunks:
            options = {"mask": MASK[chunk], "reverse": reverse, "kernel": kernel}
            carry, ys[chunk.start] = jaxseq.unroll(cell, params, xs[chunk], carry, **options)
        return carry, jnp.concatenate([ys[chunk.start] for chunk in chunks])

    @jax.jit
    def run_chunks(problem):
        results, pull = jax.vjp(in_chunks, problem.params, problem.carry, problem.xs)
        return results, pull((problem.d_carry, problem.d_ys))

    zoo.assert_close(run_chunks(problem), runner(cell, kernel, reverse)(problem, MASK), TOLERANCE)


@each_net(CAUSAL)
def test_step_repeated_is_unroll(name):
    cell = zoo.find(name).cell
    problem = make_problem(cell)
    step = jax.jit(jaxseq.step)
    for resets in (None, RESET):
        want_carry, want_ys = jaxseq.unroll(cell, problem.params, problem.xs, reset=resets)
        carry = None
        for t, (x, want) in enumerate(zip(problem.xs, np.asarray(want_ys), strict=True)):
            carry, y = step(cell, problem.params, carry, x, reset=None if resets is None else resets[t])
            zoo.assert_close(y, want, TOLERANCE)
        zoo.assert_close(carry, want_carry, TOLERANCE)


@each_net_and_kernel(CAUSAL)
def test_the_past_does_not_see_the_future(name, kernel_name):
    cell, kernel = find(name, kernel_name)
    problem = make_problem(cell)
    t = 4
    past = (np.arange(T) < t)[:, None, None]
    blind = problem._replace(d_carry=jax.tree.map(np.zeros_like, problem.d_carry), d_ys=problem.d_ys * past)
    run = runner(cell, kernel)
    (_, ys), (_, _, d_xs) = jax.tree.map(np.asarray, run(blind))
    (_, other_ys), _ = jax.tree.map(np.asarray, run(blind._replace(xs=blind.xs + ~past)))
    np.testing.assert_array_equal(ys[:t], other_ys[:t])
    assert np.any(ys[t:] != other_ys[t:])
    assert not np.any(d_xs[t:])
    assert np.any(d_xs[:t])


@each_net_and_kernel()
def test_vmap_is_the_batch(name, kernel_name):
    """Over sequences, one after the other in an axis, and over params, one set an entry of an axis."""
    cell, kernel = find(name, kernel_name)
    problem = make_problem(cell)
    run = runner(cell, kernel)
    (carry, ys), (d_params, d_carry, d_xs) = run(problem)
    rows = Problem(None, 0, 1, 0, 1)
    (row_carry, row_ys), (row_d_params, row_d_carry, row_d_xs) = jax.vmap(run, (rows,), ((0, 1), (0, 0, 1)))(problem)
    summed = jax.tree.map(lambda leaf: np.asarray(leaf).sum(0), row_d_params)
    got = row_carry, row_ys, summed, row_d_carry, row_d_xs
    zoo.assert_close(got, (carry, ys, d_params, d_carry, d_xs), TOLERANCE)

    others = [make_problem(cell, seed=seed) for seed in (10, 20)]
    together = jax.tree.map(np.asarray, jax.vmap(run)(jax.tree.map(lambda *leaves: np.stack(leaves), *others)))
    for place, other in enumerate(others):
        zoo.assert_close(jax.tree.map(lambda leaf, place=place: leaf[place], together), run(other), TOLERANCE)


@each_net()
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_any_number_of_batch_axes(name, batch):
    cell = zoo.find(name).cell
    problem = make_problem(cell, batch=batch)
    flat = make_problem(cell, batch=(6,))
    rows = 6 if batch else 1
    flat = flat._replace(
        params=problem.params,
        carry=jax.tree.map(lambda leaf: leaf.reshape(rows, *leaf.shape[len(batch) :]), problem.carry),
        xs=problem.xs.reshape(T, rows, D),
    )
    mask, reset = MASK[:, 2 : 2 + rows], RESET[:, 2 : 2 + rows]
    shaped = mask.reshape(T, *batch), reset.reshape(T, *batch)
    carry, ys = jaxseq.unroll(cell, problem.params, problem.xs, problem.carry, mask=shaped[0], reset=shaped[1])
    want_carry, want_ys = jaxseq.unroll(cell, flat.params, flat.xs, flat.carry, mask=mask, reset=reset)
    zoo.assert_close(np.reshape(ys, want_ys.shape), want_ys, TOLERANCE, "ys")
    leaves = zip(*map(jax.tree.leaves, (carry, want_carry)), strict=True)
    got = [np.reshape(leaf, want.shape) for leaf, want in leaves]
    zoo.assert_close(got, jax.tree.leaves(want_carry), TOLERANCE, "carry")


@each_net_and_kernel()
def test_no_steps_return_the_carry(name, kernel_name):
    cell, kernel = find(name, kernel_name)
    problem = make_problem(cell, steps=0)
    none = np.zeros((0, B), bool)
    for reverse, flags in ((False, ()), (True, (none, none))):
        (carry, ys), (d_params, d_carry, d_xs) = runner(cell, kernel, reverse)(problem, *flags)
        assert ys.shape == (0, B, cell.size)
        assert d_xs.shape == (0, B, D)
        zoo.assert_close((carry, d_carry), (problem.carry, problem.d_carry), 0)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(d_params))


@each_net_and_kernel()
def test_bfloat16_stays_bfloat16(name, kernel_name):
    """Values and gradients are those of float64, on the same rounded numbers, to bfloat16's error over seven steps."""
    cell, kernel = find(name, kernel_name)
    run = runner(cell, kernel)
    narrow = in_dtype(cell, make_problem(cell), jnp.bfloat16)
    got = run(narrow, MASK, RESET)
    (carry, ys), (d_params, d_carry, d_xs) = got
    assert {leaf.dtype for leaf in jax.tree.leaves((ys, d_params, d_xs))} == {jnp.dtype(jnp.bfloat16)}
    zoo.assert_same_dtypes((carry, d_carry), (narrow.carry, narrow.carry))
    want = jax.tree.map(np.asarray, run(in_dtype(cell, narrow, np.float64), MASK, RESET))
    bound = T * float(jnp.finfo(jnp.bfloat16).eps)
    for (path, leaf), exact in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        error = np.abs(np.asarray(leaf).astype(exact.dtype) - exact).max()
        assert error <= bound * max(1.0, float(np.abs(exact).max())), (jax.tree_util.keystr(path), error)


@each_net_and_kernel()
def test_second_eager_call_and_gradient_compile_nothing(name, kernel_name, count_compilations):
    cell, kernel = find(name, kernel_name)
    problem = make_problem(cell)

    def call():
        return jaxseq.unroll(cell, problem.params, problem.xs, mask=MASK, reset=RESET, kernel=kernel)

    def gradient():
        def loss(params):
            _, ys = jaxseq.unroll(cell, params, problem.xs, mask=MASK, reset=RESET, kernel=kernel)
            return jnp.sum(ys**2)

        return jax.grad(loss)(problem.params)

    for function in (call, gradient):
        function()
        assert count_compilations(function) == 0


@each_net()
def test_jit_does_not_retrace(name):
    cell, _ = find(name)
    problem = make_problem(cell)
    traces = []

    @jax.jit
    def unroll(cell, params, xs, mask):
        traces.append(1)
        return jaxseq.unroll(cell, params, xs, mask=mask)

    for seed in range(2):
        unroll(cell, make_problem(cell, seed=seed).params, problem.xs + seed, MASK)
    assert len(traces) == 1


@each_net_and_kernel(SHALLOW)
def test_gradient_of_gradient(name, kernel_name):
    """Hessian-vector products, reverse over reverse and forward over reverse, are those of plain autodiff."""
    cell, kernel = find(name, kernel_name)
    problem = make_problem(cell)
    direction = zoo.random_like(problem.params, 9)

    def gradient(params, kernel):
        def loss(params):
            carry, ys = jaxseq.unroll(cell, params, problem.xs, problem.carry, mask=MASK, reset=RESET, kernel=kernel)
            return sum(jnp.sum(jnp.sin(leaf.real) + jnp.sin(leaf.imag)) for leaf in jax.tree.leaves((carry, ys)))

        return jax.grad(loss)(params)

    @functools.partial(jax.jit, static_argnums=1)
    def forward_over_reverse(params, kernel):
        return jax.jvp(lambda params: gradient(params, kernel), (params,), (direction,))[1]

    @functools.partial(jax.jit, static_argnums=1)
    def reverse_over_reverse(params, kernel):
        return jax.vjp(lambda params: gradient(params, kernel), params)[1](direction)[0]

    want = forward_over_reverse(problem.params, jaxseq.kernels.scan)
    zoo.assert_close(forward_over_reverse(problem.params, kernel), want, TOLERANCE)
    zoo.assert_close(reverse_over_reverse(problem.params, kernel), want, TOLERANCE)


@each_net()
def test_forward_mode_by_the_scan_kernel(name):
    cell = zoo.find(name).cell
    problem = make_problem(cell)

    def ys(xs):
        return jaxseq.unroll(cell, problem.params, xs, mask=MASK, reset=RESET, kernel=jaxseq.kernels.scan)[1]

    @jax.jit
    def both(xs, d_xs, d_ys):
        return jax.jvp(ys, (xs,), (d_xs,))[1], jax.vjp(ys, xs)[1](d_ys)[0]

    direction = problem.d_ys[..., :D]
    tangent, transposed = both(problem.xs, direction, problem.d_ys)
    np.testing.assert_allclose(np.vdot(tangent, problem.d_ys), np.vdot(transposed, direction), rtol=1e-12)
