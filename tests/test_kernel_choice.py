"""What kernels tell of themselves: explain, peak_bytes, and the segment of remat."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import kernels
from jaxseq.kernels._plan import plan_cell
from tests import compiled, zoo
from tests.untyped import untyped


def shapes(cell, T, B, D, dtype=jnp.float32):
    params = jax.eval_shape(lambda key: cell.init(key, D, dtype), jax.random.key(0))
    return params, jax.ShapeDtypeStruct((T, B, D), dtype)


@pytest.fixture
def on_a_cpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")


def test_explain_has_a_line_for_each_cell(on_a_cpu):
    net = jaxseq.stack(jaxseq.lstm(128), jaxseq.bidirectional(jaxseq.gru(8)), zoo.own_lstm(16))
    lines = kernels.explain(net, *shapes(net, 100, 32, 64), kernel=kernels.bptt).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "[0] lstm(128)",
        "[1].forward gru(8)",
        "[1].backward gru(8)",
        "[2] Cell(size=16, init=own_lstm.init, carry=own_lstm.carry, project=own_lstm.project, step=own_lstm.step)",
    ]
    assert "by its hand-written backward; 4 segments of 25 steps: 2.0 MiB of projected inputs at a time" in lines[0]
    assert (
        "by its hand-written backward; T = 100, not cut: the projected inputs are 0.3 MiB, too few to cut" in lines[1]
    )
    assert "by JAX's gradient, for it has no backward; T = 100, not cut" in lines[3]


def test_explain_knows_accelerators_and_16_bits(monkeypatch):
    cell = jaxseq.gru(32)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    told = kernels.explain(cell, *shapes(cell, 900, 32, 64))
    assert "kernels.bptt, by its hand-written backward; T = 900, not cut: short loops cost launches" in told
    assert told.endswith("; not native: native loops are for a CPU")
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    halves = kernels.explain(cell, *shapes(cell, 900, 1, 8, jnp.bfloat16), kernel=kernels.bptt)
    assert ("30 segments of 30 steps" in halves) == (jax.__version_info__ < (0, 11))


def training_step(cell, params, xs, **options):
    """The program of a gradient, as text."""
    loss = jax.grad(lambda params, xs: jaxseq.unroll(cell, params, xs, **options)[1].sum())
    return str(jax.make_jaxpr(loss)(params, xs))


def test_explain_says_what_unroll_runs(on_a_cpu):
    """The segments of the explanation are the loops of the program."""
    cell = jaxseq.lstm(64)
    params, xs = shapes(cell, 512, 128, 64)
    program = training_step(cell, params, xs, kernel=kernels.bptt)
    assert "32 segments of 16 steps" in kernels.explain(cell, params, xs, kernel=kernels.bptt)
    assert "length=32" in program
    assert "length=16" in program


def looks_across_rows(cell):
    """A cell whose carry is centred over the batch at every step."""

    def step(params, carry, u):
        carry, y = cell.step(params, carry, u)
        return jax.tree.map(lambda leaf: leaf - leaf.mean(0), carry), y

    return cell._replace(step=step, backward=None)


@pytest.mark.parametrize(
    ("cell", "B", "loops", "told"),
    [
        (
            jaxseq.lstm(16),
            3,
            2,
            "kernels.native, by its hand-written backward; T = 20, not cut: its loops write neither",
        ),
        (jaxseq.zoneout(jaxseq.gru(16), h=0.1), 3, 2, "kernels.native, by its hand-written backward"),
        (zoo.own_lstm(16), 3, 0, "kernels.native, by JAX's gradient of XLA's loop"),
        (
            jaxseq.lstm(512),
            3,
            0,
            "not native: its weights are larger than a core's cache, and reading them is most of the work",
        ),
        (jaxseq.lstm(512), 8, 2, "kernels.native, by its hand-written backward"),
        (jaxseq.conv_lstm((4, 4), 2), 3, 0, "kernels.bptt, by its hand-written backward; T = 20, not cut"),
        (
            looks_across_rows(jaxseq.gru(4)),
            3,
            0,
            "not native: it looks across the rows of a batch, by `reduce_sum`",
        ),
    ],
    ids=["lstm", "zoneout", "own", "few rows", "some rows", "conv", "across rows"],
)
def test_none_chooses_and_explain_says_what(on_a_cpu, cell, B, loops, told):
    params, xs = shapes(cell, 20, B, 32)
    assert told in kernels.explain(cell, params, xs)
    assert training_step(cell, params, xs).count("native_loop[") == loops


def test_none_is_bptt_where_native_loops_are_turned_off(on_a_cpu, monkeypatch):
    monkeypatch.setenv("JAXSEQ_NATIVE", "0")
    cell = jaxseq.lstm(16)
    params, xs = shapes(cell, 20, 3, 4)
    assert kernels.explain(cell, params, xs).endswith("; not native: the environment has JAXSEQ_NATIVE=0")
    assert "native_loop[" not in training_step(cell, params, xs)
    with pytest.raises(ValueError, match=r"`kernels.native` does not run lstm\(16\) here: the environment has"):
        kernels.explain(cell, params, xs, kernel=kernels.native)


@pytest.mark.parametrize("segmented", [kernels.remat(4), kernels.truncated(4)])
def test_segments_are_run_by_what_none_chooses(on_a_cpu, segmented):
    cell = jaxseq.lstm(16)
    params, xs = shapes(cell, 20, 3, 4)
    assert "native_loop[" in training_step(cell, params, xs, kernel=segmented)


def test_own_cells_keep_every_mode_of_jaxs():
    """Forward mode, and a batch by `jax.vmap`, where the loop is native without a derivative."""
    cell = zoo.own_lstm(4)
    params, xs = zoo.random_like(shapes(cell, 5, 2, 3)[0], 0), np.ones((5, 2, 3), np.float32)

    def values(kernel):
        def run(xs):
            return jaxseq.unroll(cell, params, xs, kernel=kernel)[1]

        return (
            run(xs),
            jax.jvp(run, (xs,), (xs,))[1],
            jax.hessian(lambda xs: run(xs).sum())(xs),
            jax.vmap(run)(xs[None]),
        )

    zoo.assert_close(values(None), values(kernels.scan), 1e-5)


@pytest.mark.some(5)
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="fitted to XLA:CPU")
@pytest.mark.parametrize(
    ("place", "size"),
    [*enumerate([(32, 100, 64, 128), (1, 1000, 8, 32), (256, 20, 16, 64), (128, 512, 64, 64), (64, 64, 512, 512)])],
)
@pytest.mark.parametrize(
    ("turn", "kernel"),
    [*enumerate([kernels.bptt, kernels.scan, kernels.remat(), kernels.remat(20), kernels.native])],
    ids=["bptt", "scan", "remat()", "remat(20)", "native"],
)
def test_peak_bytes_is_within_a_fifth_of_what_is_measured(place, size, turn, kernel):
    """The cells take turns, so that each meets every size and every kernel."""
    B, T, D, H = size
    cell = (jaxseq.lstm, jaxseq.gru, jaxseq.rnn)[(place + turn) % 3](H)
    params, xs = shapes(cell, T, B, D)

    def loss(params, xs):
        return jnp.mean(jaxseq.unroll(cell, params, xs, kernel=kernel)[1] ** 2)

    memory = compiled.memory(jax.jit(jax.value_and_grad(loss)).lower(params, xs).compile())
    measured = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert 0.8 < kernels.peak_bytes(cell, params, xs, kernel=kernel) / measured < 1.2


def test_peak_bytes_of_no_kernel_is_that_of_the_chosen_one(on_a_cpu):
    for cell, kernel in (
        (jaxseq.gru(8), kernels.native),
        (zoo.own_lstm(8), kernels.scan),
        (jaxseq.lstm(512), kernels.bptt),
    ):
        params, xs = shapes(cell, 20, 4, 3)
        assert kernels.peak_bytes(cell, params, xs) == kernels.peak_bytes(cell, params, xs, kernel=kernel)


@pytest.mark.some(1)
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="fitted to XLA:CPU")
@pytest.mark.parametrize(
    ("net", "kernel", "T"),
    [
        (jaxseq.stack(jaxseq.lstm(128), jaxseq.gru(128)), kernels.bptt, 100),
        (jaxseq.stack(jaxseq.rnn(64), jaxseq.bidirectional(jaxseq.gru(64)), jaxseq.lstm(32)), None, 100),
        (jaxseq.bidirectional(jaxseq.lstm(64)), kernels.scan, 100),
        (jaxseq.residual(jaxseq.gru(64)), kernels.remat(), 100),
        (jaxseq.lstm(128), kernels.truncated(50), 100),
        (jaxseq.gru(64), zoo.by_hand, 10),  # a Python loop
    ],
)
def test_peak_bytes_of_nets_and_other_kernels_is_within_a_quarter(net, kernel, T):
    params, xs = shapes(net, T, 32, 64)

    def loss(params, xs):
        return jnp.mean(jaxseq.unroll(net, params, xs, kernel=kernel)[1] ** 2)

    memory = compiled.memory(jax.jit(jax.value_and_grad(loss)).lower(params, xs).compile())
    measured = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert 0.75 < kernels.peak_bytes(net, params, xs, kernel=kernel) / measured < 1.25


def test_a_kernel_of_ones_own_explains_itself_or_registers_a_plan():
    cell = jaxseq.gru(4)
    sizes = shapes(cell, 5, 2, 3)
    assert "by_hand, by its own gradient; T = 5, not cut: a kernel of your own" in kernels.explain(
        cell, *sizes, kernel=zoo.by_hand
    )

    def by_halves(cell, params, carry, xs, *, reverse=False):
        return kernels.scan(cell, params, carry, xs, reverse=reverse)

    plan = kernels.Plan("by_halves", "JAX's gradient", 5, 3, "two of them", lambda: 1000)
    kernels.register(by_halves, lambda cell, params, xs: plan)
    line = kernels.explain(cell, *sizes, kernel=by_halves)
    assert line == "gru(4): by_halves, by JAX's gradient; 2 segments of 3 steps: two of them"
    arguments = 4 * (5 * 2 * 3 + 2 * sum(leaf.size for leaf in sizes[0] if leaf is not None))
    assert kernels.peak_bytes(cell, *sizes, kernel=by_halves) == arguments + 1000


def test_truncated_says_where_nothing_is():
    cell = jaxseq.gru(4)
    told = [kernels.explain(cell, *shapes(cell, T, 2, 3), kernel=kernels.truncated(100)) for T in (64, 200)]
    assert told[0].endswith("T = 64, not cut: not truncated, as a segment has 100 steps")
    assert told[1].endswith("2 segments of 100 steps: no gradient crosses a border")


def test_what_is_told_of_a_kernel_takes_what_unroll_takes():
    cell = jaxseq.rnn(4)
    for told in (kernels.explain, kernels.peak_bytes):
        with pytest.raises(TypeError, match=r"A factory is called first: kernels\.remat"):
            told(cell, *shapes(cell, 5, 2, 3), kernel=untyped(kernels.remat))
        with pytest.raises(TypeError, match=r"`cell` must be a jaxseq\.Cell or a jaxseq\.Composite"):
            told(untyped(jaxseq.rnn), *shapes(cell, 5, 2, 3))
        params, xs = shapes(cell, 5, 2, 3)
        with pytest.raises(ValueError, match=r"`params.w_x` must be \(6, 4\) for inputs of D = 6 features"):
            told(cell, params, jax.ShapeDtypeStruct((5, 2, 6), jnp.float32))
        with pytest.raises(TypeError, match=r"`xs` must be an array \[T, B, D\], or its shape and dtype; got tuple"):
            told(cell, params, xs.shape)
        with pytest.raises(TypeError, match=r"`xs` must be floating \[T, B, D\]"):
            told(cell, params, jax.ShapeDtypeStruct((5, 2, 3), jnp.int32))


def test_remat_takes_the_segment_that_holds_the_least():
    """No other power of two is predicted to hold a tenth less, and the gradient is the same."""
    cell = jaxseq.lstm(32)
    params, xs = shapes(cell, 4096, 4, 8)
    chosen = plan_cell(kernels.remat(), cell, params, xs).segment
    assert 4 < chosen < 64
    least = min(kernels.peak_bytes(cell, params, xs, kernel=kernels.remat(2**n)) for n in range(1, 12))
    assert kernels.peak_bytes(cell, params, xs, kernel=kernels.remat()) < 1.1 * least

    params = zoo.random_like(params, 0, 0.2)
    xs = np.random.default_rng(1).normal(size=(50, 2, 8)).astype(np.float32)

    def gradient(kernel):
        return jax.jit(jax.grad(lambda params: jaxseq.unroll(cell, params, xs, kernel=kernel)[1].sum()))(params)

    zoo.assert_close(gradient(kernels.remat()), gradient(kernels.scan), 1e-5)
