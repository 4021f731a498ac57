"""Newton's method over time: its rounds against plain NumPy, its results against `scan`, and what it falls back from.

`kernels.newton()` stands in tests/zoo.py, and so it is held against the oracle in test_contract too.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxseq
from jaxseq import diagnostics, kernels
from tests import compiled, test_contract, zoo
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

KERNELS = {
    "full": kernels.newton(),
    "diagonal": kernels.newton(jacobian="diagonal", tolerance=1e-15, rounds=60),
    "damped": kernels.newton(damping=0.3, tolerance=1e-15, rounds=60),
    "jacobi": kernels.newton(damping=1.0, tolerance=1e-15, rounds=60),
}


def plain_rounds(w, us, first, *, jacobian="full", tolerance=1e-12, most=32, damping=0.0):
    """The rounds of one row of an RNN h' = tanh(u + h w): residuals, how many steps had settled, and the states."""
    T, n = us.shape
    h, residuals, settled = np.zeros((T, n)), [], 0
    for _ in range(16):  # the first guess
        h = np.tanh(us + np.concatenate([first[None], h])[:-1] @ w)
    for _ in range(most):
        before = np.concatenate([first[None], h])[:-1]
        residual = np.tanh(us + before @ w) - h
        change, delta = np.zeros((T, n)), np.zeros(n)
        for t in range(T):
            a = np.diag(1 - np.tanh(us[t] + before[t] @ w) ** 2) @ w.T
            a = np.diag(np.diag(a)) if jacobian == "diagonal" else a
            change[t] = delta = (1 - damping) * a @ delta + residual[t]
        h = h + change
        residuals.append(np.abs(residual).max())
        small = (np.abs(change) <= tolerance * np.abs(h).max(0)).all(1)
        settled = T if small.all() else int(np.argmin(small))
        if settled == T:
            break
    return residuals, settled, h


def rnn(gain, H, T, B=1, seed=0):
    """An RNN without a bias whose recurrent weights are N(0, gain² / H), and what it is run by."""
    generator = np.random.default_rng(seed)
    params = jaxseq.RnnParams(np.eye(H), gain * generator.normal(size=(H, H)) / H**0.5, np.zeros(H))
    return jaxseq.rnn(H), params, 0.5 * generator.normal(size=(T, B, H)), generator.normal(size=(B, H))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jacobian": "diagonal"},
        {"damping": 0.4, "rounds": 5},
        pytest.param({"damping": 1.0}, marks=pytest.mark.learn),
    ],
    ids=str,
)
def test_rounds_are_those_of_plain_numpy(options):
    cell, params, xs, carry = rnn(1.6, 4, 70, B=2)
    report = diagnostics.newton_report(cell, params, xs, carry, tolerance=1e-9, **options)
    plain = {"most": options.get("rounds", 32)} | {name: options[name] for name in options if name != "rounds"}
    rows = [plain_rounds(params.w_h, xs[:, row], carry[row], tolerance=1e-9, **plain) for row in range(2)]
    made = max(len(residuals) for residuals, _, _ in rows)
    want = np.zeros(made)
    for residuals, _, _ in rows:  # a row that has settled stays
        want[: len(residuals)] = np.maximum(want[: len(residuals)], residuals)
    assert int(report.rounds) == made
    assert bool(report.fell_back) == (min(settled for _, settled, _ in rows) < 70)
    np.testing.assert_array_equal(report.settled, [settled for _, settled, _ in rows])
    np.testing.assert_allclose(report.residuals[:made], want, rtol=1e-6, atol=1e-9)
    assert np.all(np.isinf(report.residuals[made:]))


def test_the_first_steps_are_exact_after_as_many_rounds():
    """Whatever the Jacobians: one step more a round at least, also where the rounds do not converge."""
    cell, params, xs, carry = rnn(3.0, 8, 60)
    for rounds, jacobian in ((4, "diagonal"), (9, "full")):
        report = diagnostics.newton_report(cell, params, xs, carry, rounds=rounds, jacobian=jacobian)
        assert rounds - 1 <= int(report.settled[0]) < 60
        assert bool(report.fell_back)


@functools.partial(jax.jit, static_argnames=("cell", "kernel", "reverse"))
def results(cell, problem, mask, reset, kernel, reverse):
    def run(params, carry, xs):
        return jaxseq.unroll(cell, params, xs, carry, mask=mask, reset=reset, reverse=reverse, kernel=kernel)

    values, pull = jax.vjp(run, problem.params, problem.carry, problem.xs)
    return values, pull((problem.d_carry, problem.d_ys))


def assert_those_of_scan(name, how, reverse, batch=(3,), T=40, flagged=True):
    cell = zoo.find(name).cell
    problem = test_contract.make_problem(cell, batch=batch, steps=T)
    generator = np.random.default_rng(5)
    mask, reset = (generator.random((T, *batch)) < 0.7, generator.random((T, *batch)) < 0.2) if flagged else (None,) * 2
    got = results(cell, problem, mask, reset, KERNELS[how], reverse)
    want = results(cell, problem, mask, reset, kernels.scan, reverse)
    zoo.assert_close(got[0], want[0], 1e-12, "values ")
    zoo.assert_close(got[1], want[1], 1e-9, "gradients ")
    zoo.assert_same_dtypes(got, want)


FEW = [("lstm", "full", True)]
ALL = test_contract.pairwise([["rnn", "lstm", "gru", "slstm", "own", "lru", "mlstm"], list(KERNELS), [False, True]])


@pytest.mark.some(1, learn=12)
@pytest.mark.parametrize(
    "case", [*FEW, *(pytest.param(case, marks=pytest.mark.learn) for case in ALL if case not in FEW)], ids=str
)
def test_values_and_gradients_are_those_of_scan(case):
    """Under masks and resets, from a carry of one's own."""
    assert_those_of_scan(*case)


@pytest.mark.some(1)
@pytest.mark.parametrize(("T", "batch"), [(0, (2,)), (1, (2, 3)), (5, (0,))], ids=str)
def test_no_steps_and_no_rows(T, batch):
    assert_those_of_scan("rnn", "full", False, batch, T)


@pytest.mark.learn
@settings(max_examples=8)
@given(
    st.sampled_from(["rnn", "lstm", "gru", "slstm"]),
    st.sampled_from(list(KERNELS)),
    st.booleans(),
    st.sampled_from([(), (1,), (3,), (2, 2), (0, 2)]),
    st.sampled_from([0, 1, 16, 17, 18, 50]),
    st.booleans(),
)
def test_any_shape(name, how, reverse, batch, T, flagged):
    assert_those_of_scan(name, how, reverse, batch, T, flagged)


@functools.partial(jax.jit, static_argnums=0)
def told(cell, params, carry, xs):
    """The largest Lyapunov exponent of the first row, and the report."""
    jacobians = diagnostics.jacobians(cell, params, xs[:, 0], jax.tree.map(lambda leaf: leaf[0], carry))
    return diagnostics.lyapunov_exponents(jacobians)[0], diagnostics.newton_report(cell, params, xs, carry)


@pytest.mark.parametrize("gain", [pytest.param(0.7, marks=pytest.mark.learn), 3.0], ids=["contracting", "chaotic"])
def test_the_largest_lyapunov_exponent_foretells_the_rounds(gain):
    """Below 0 a few are enough; above 0 it falls back and says so, and values and gradients are those of the loop."""
    cell, params, xs, carry = rnn(gain, 24, 150)
    exponent, report = told(cell, params, carry, 0.1 * xs)
    if gain < 1:
        assert float(exponent) < -0.1
        assert int(report.rounds) < 8
    else:
        assert float(exponent) > 0.1
        assert int(report.rounds) == 32
    assert bool(report.fell_back) == (gain > 1)
    assert 30 <= int(report.settled[0]) < 150 or gain < 1

    got, want = (values_and_gradients(cell, kernel, params, carry, 0.1 * xs) for kernel in BOTH)
    zoo.assert_close(got[0], want[0], 1e-12)
    for leaf, wanted in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1]), strict=True):
        scale = float(np.abs(wanted).max())
        assert (scale > 1e3) == (gain > 1)  # gradients explode
        np.testing.assert_allclose(np.asarray(leaf) / scale, np.asarray(wanted) / scale, rtol=0, atol=1e-9)


BOTH = kernels.newton(), kernels.scan


@functools.partial(jax.jit, static_argnums=(0, 1))
def values_and_gradients(cell, kernel, params, carry, xs):
    values, pull = jax.vjp(
        lambda *given: jaxseq.unroll(cell, given[0], given[2], given[1], kernel=kernel), params, carry, xs
    )
    return values, pull(values)


@pytest.mark.learn
def test_a_long_lstm_with_small_weights_takes_few_rounds():
    cell, T = jaxseq.lstm(6), 2000
    params = zoo.params_of(cell, 3, scale=0.2)
    xs = np.random.default_rng(1).normal(size=(T, 1, 3))
    exponent, report = told(cell, params, cell.carry(params, (1,)), xs)
    assert float(exponent) < -0.1
    assert not bool(report.fell_back)
    assert int(report.rounds) <= 6
    assert int(report.settled[0]) == T


def test_what_is_not_finite_is_the_loops():
    """NaN in one row stays in it, and an overflow of the rounds reaches nothing."""
    cell = jaxseq.rnn(3, activation=jax.nn.relu)
    params = jaxseq.RnnParams(np.eye(3), np.full((3, 3), 1e200), np.zeros(3))
    xs = np.zeros((6, 2, 3))
    xs[2, 0, 1] = np.nan
    report = diagnostics.newton_report(cell, params, xs)
    assert bool(report.fell_back)
    run = jax.jit(lambda kernel: jaxseq.unroll(cell, params, xs, kernel=kernel), static_argnums=0)
    got, want = run(kernels.newton()), run(kernels.scan)
    zoo.assert_close(got, want, 0)
    assert np.isnan(np.asarray(got[1])[:, 0]).any()
    assert not np.isnan(np.asarray(got[1])[:, 1]).any()


def test_a_report_of_each_cell_of_a_net():
    net = jaxseq.stack(jaxseq.rnn(3), jaxseq.bidirectional(jaxseq.rnn(2), jaxseq.rnn(2)))
    params = zoo.params_of(net, 3, scale=0.3)
    xs = np.random.default_rng(1).normal(size=(9, 2, 3))
    mask = np.ones((9, 2), bool)
    mask[5:, 1] = False
    reports = jax.jit(lambda xs: diagnostics.newton_report(net, params, xs, mask=mask, rounds=12))(xs)
    for report in (reports[0], *reports[1]):
        assert not bool(report.fell_back)
        assert report.residuals.shape == (12,)
        np.testing.assert_array_equal(report.settled, [9, 9])


@pytest.mark.learn
def test_forward_over_reverse_and_rows_of_vmap():
    """The Hessian of a diagonal kernel, whose derivatives take rounds too, in rows of `jax.vmap`."""
    cell = jaxseq.gru(2)
    params = zoo.params_of(cell, 3)
    xs = np.random.default_rng(1).normal(size=(2, 5, 3))

    @functools.partial(jax.jit, static_argnums=0)
    def hessian(kernel, b):
        def loss(b):
            run = lambda xs: jaxseq.unroll(cell, params._replace(b=b), xs, kernel=kernel)[1]
            return jnp.sum(jax.vmap(run)(xs) ** 2)

        return jax.hessian(loss)(b)

    zoo.assert_close(hessian(KERNELS["diagonal"], params.b), hessian(kernels.scan, params.b), 1e-10)


def across(cell):
    """A cell whose carry is centred over the batch."""

    def step(params, carry, u):
        carry, y = cell.step(params, carry, u)
        return carry - carry.mean(0), y

    return cell._replace(step=step, backward=None)


def counting(cell):
    """A cell that counts its steps."""

    def step(params, carry, u):
        h, y = cell.step(params, carry["h"], u)
        return {"h": h, "steps": carry["steps"] + 1}, y

    def carry(params, batch_shape=()):
        return {"h": cell.carry(params, batch_shape), "steps": jnp.zeros(batch_shape, int)}

    return cell._replace(carry=carry, step=step, backward=None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (across, r"run by kernels\.newton; .* does not: it looks across the rows of a batch, by `reduce_sum`"),
        (counting, r"`cell` must have a carry of floats .* does not: `carry\['steps'\]` is int64"),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_cells_that_it_cannot_run_are_refused(change, told, masked):
    cell = change(jaxseq.gru(4))
    params = cell.init(jax.random.key(0), 3)
    mask = np.ones((5, 2), bool) if masked else None
    for call in (
        lambda: jaxseq.unroll(cell, params, np.ones((5, 2, 3)), mask=mask, kernel=kernels.newton()),
        lambda: diagnostics.newton_report(cell, params, np.ones((5, 2, 3)), mask=mask),
        lambda: kernels.explain(cell, params, np.ones((5, 2, 3)), kernel=kernels.newton()),
    ):
        with pytest.raises(ValueError, match=told):
            call()


def test_errors_of_arguments():
    for make in (
        kernels.newton,
        lambda **given: diagnostics.newton_report(jaxseq.gru(4), None, untyped(None), **given),
    ):
        with pytest.raises(ValueError, match="`jacobian` must be 'full' or 'diagonal'; got 'dense'"):
            make(jacobian="dense")
        with pytest.raises(ValueError, match="`tolerance` must be a positive, finite number; got 0"):
            make(tolerance=0)
        with pytest.raises(ValueError, match="`rounds` must be a positive int; got 0"):
            make(rounds=0)
        with pytest.raises(ValueError, match=r"`damping` must be a number in \[0, 1\]; got 2"):
            make(damping=2)
    assert kernels.newton(rounds=8) is kernels.newton(rounds=untyped(np.int64(8)), damping=0)


def test_associative_names_newton():
    cell = jaxseq.gru(4)
    params = cell.init(jax.random.key(0), 3)
    with pytest.raises(ValueError, match=r"kernel=jaxseq\.kernels\.newton\(\), which solves for many steps"):
        jaxseq.unroll(cell, params, np.ones((5, 2, 3)), kernel=kernels.associative)


def test_it_tells_how_it_runs():
    cell = jaxseq.lstm(4)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 3))
    xs = jax.ShapeDtypeStruct((100, 2, 3), float)
    told = kernels.explain(cell, params, xs, kernel=kernels.newton(rounds=9))
    assert told.startswith(
        "lstm(4): kernels.newton, by the adjoint of the solution; T = 100, not cut: at most 9 rounds"
    )
    assert "Jacobians of 8 × 8" in told
    assert "diagonals of 8" in kernels.explain(cell, params, xs, kernel=KERNELS["diagonal"])


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="fitted to XLA:CPU")
@pytest.mark.learn
@pytest.mark.parametrize("how", ["full", "diagonal"])
@pytest.mark.parametrize(
    ("make", "size", "T", "B"), [(jaxseq.gru, 32, 1000, 4), (jaxseq.lstm, 16, 500, 8), (jaxseq.rnn, 64, 256, 8)]
)
def test_peak_bytes_is_within_a_third_of_what_is_measured(make, size, T, B, how):
    cell = make(size)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 8, jnp.float32))
    xs = jax.ShapeDtypeStruct((T, B, 8), jnp.float32)

    def loss(params, xs):
        return jnp.mean(jaxseq.unroll(cell, params, xs, kernel=KERNELS[how])[1] ** 2)

    memory = compiled.memory(jax.jit(jax.value_and_grad(loss)).lower(params, xs).compile())
    measured = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert 0.67 < kernels.peak_bytes(cell, params, xs, kernel=KERNELS[how]) / measured < 1.33


def test_a_number_of_steps_that_is_a_symbol_is_refused():
    cell = jaxseq.rnn(2)
    params = cell.init(jax.random.key(0), 3)
    (T,) = jax.export.symbolic_shape("T")
    run = jax.jit(lambda xs: jaxseq.unroll(cell, params, xs, kernel=kernels.newton())[1])
    with pytest.raises(ValueError, match="`xs` must have a fixed number of steps for an associative scan; got T"):
        jax.export.export(run)(jax.ShapeDtypeStruct((T, 2, 3), float))
