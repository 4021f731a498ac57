"""What sets the kernels apart: memory, forward mode, segments. That they agree is in test_contract."""

import functools
import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxseq
from jaxseq import kernels
from jaxseq._around import Augmented
from jaxseq.kernels import _bptt, _saved
from jaxseq.kernels._bptt_plan import plan_bptt
from jaxseq.kernels._wide import widened
from tests import compiled, zoo


def inputs(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


CELL = jaxseq.lstm(32)
PARAMS = zoo.params_of(CELL, 8, scale=0.2)


def temporary_bytes(kernel, loss, T=4096):
    def training_step(params, xs):
        return loss(*jaxseq.unroll(CELL, params, xs, kernel=kernel))

    xs = jax.ShapeDtypeStruct((T, 4, 8), jnp.float32)
    return compiled.memory(jax.jit(jax.grad(training_step)).lower(PARAMS, xs).compile()).temp_size_in_bytes


def test_remat_keeps_only_the_borders():
    def of_last_carry(carry, ys):
        return jnp.sum(carry.h)

    assert temporary_bytes(kernels.remat(64), of_last_carry) < temporary_bytes(kernels.bptt, of_last_carry) / 25


def test_remat_adds_little_to_the_outputs_and_their_cotangents():
    outputs = 2 * 4096 * 4 * 32 * 4
    assert temporary_bytes(kernels.remat(64), lambda carry, ys: jnp.mean(ys**2)) < outputs + 2**20


def test_weights_cost_one_matmul_each_after_the_loop():
    """The reverse loop of bptt holds one dot, that of δh; those of the weights stand outside."""
    xs = np.ones((5, 2, 8), np.float32)

    def dots(jaxpr, inside):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                yield inside
            for value in equation.params.values():
                if hasattr(value, "jaxpr"):
                    yield from dots(value.jaxpr, inside or equation.primitive.name == "scan")

    def count(kernel):
        step = jax.grad(lambda params: jaxseq.unroll(CELL, params, xs, kernel=kernel)[1].sum())
        places = list(dots(jax.make_jaxpr(step)(PARAMS).jaxpr, False))
        return places.count(True), places.count(False)

    # h w_h and δa w_hᵀ; xs w_x, δw_x, δw_h, and δxs, which XLA drops where nobody wants it
    assert count(kernels.bptt) == (2, 4)
    assert count(kernels.scan)[0] == 3  # the last one the gradient of w_h, at every step


@pytest.mark.learn
@settings(max_examples=8)
@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_segments_of_any_length_change_nothing(segment, T, reverse):
    cell = jaxseq.gru(3)

    def loss(params, xs, kernel):
        carry, ys = jaxseq.unroll(cell, params, xs, reverse=reverse, kernel=kernel)
        return jnp.sum(jnp.sin(ys)) + jnp.sum(carry)

    @jax.jit
    def both(params, xs):
        return [
            jax.value_and_grad(loss, (0, 1))(params, xs, kernel) for kernel in (kernels.remat(segment), kernels.scan)
        ]

    got, want = both(zoo.params_of(cell, 2), inputs(T, 2))
    zoo.assert_close(got, want, 1e-5)


@pytest.mark.some(1)
@pytest.mark.parametrize(
    ("name", "reverse"),
    [("lstm", False), ("lstm", True), ("gru", True), ("own", False), ("recurrent_dropout(lstm)", True)],
)
def test_bptt_in_segments_changes_nothing(name, reverse, x64, monkeypatch):
    """With masks, resets and noise; the last segment is short."""
    known = zoo.find(name).cell
    cell = known._replace(carry=lambda *args: known.carry(*args))  # a new one, whose programs nobody else gets
    T, B = 8, 3
    params = zoo.params_of(cell, 3)
    generator = np.random.default_rng(2)
    xs = generator.normal(size=(T, B, 3))
    flags = {"mask": generator.random((T, B)) < 0.7, "reset": generator.random((T, B)) < 0.3, "reverse": reverse}

    def loss(params, xs, kernel):
        carry, ys = jaxseq.unroll(cell, params, xs, **flags, key=jax.random.key(3), kernel=kernel)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((carry, ys)))

    monkeypatch.setattr(_bptt, "plan_bptt", lambda *sizes: plan_bptt(*sizes)._replace(segment=3))
    got = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=2)(params, xs, kernels.bptt)
    want = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=2)(params, xs, kernels.scan)
    zoo.assert_close(got, want, 1e-12)


@pytest.mark.learn
@pytest.mark.parametrize(
    ("name", "flagged"),
    [("lstm", False), ("learned_carry(lstm)", True), ("bidirectional(gru)", True)],
)
def test_rows_of_vmap_are_one_batch(name, flagged, x64):
    """Of any gradient: by shared params, by each row's own, and of second order; with jit within vmap, and without."""
    cell = zoo.find(name).cell
    T, N, B = 5, 3, 2
    params = zoo.params_of(cell, 3)
    generator = np.random.default_rng(2)
    xs = generator.normal(size=(N, T, B, 3))
    mask, reset = generator.random((N, T, B)) < 0.7, generator.random((T, B)) < 0.3

    @functools.partial(jax.jit, static_argnums=0)
    def losses(kernel, params, xs, mask, reset):
        def of_one(params, xs, mask):
            flags = {"mask": mask, "reset": reset} if flagged else {}
            carry, ys = jaxseq.unroll(cell, params, xs, **flags, kernel=kernel)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((carry, ys)))

        def of_all(params, xs):
            return jax.vmap(jax.jit(of_one), (None, 0, 0))(params, xs, mask).sum()

        def of_gradient(params):
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(jax.grad(of_all)(params, xs)))

        own = jax.vmap(jax.value_and_grad(of_one), (None, 0, 0))(params, xs, mask)
        ensemble = jax.vmap(of_one)(jax.tree.map(lambda leaf: jnp.stack([leaf] * N), params), xs, mask)
        return jax.value_and_grad(of_all, (0, 1))(params, xs), own, ensemble, jax.grad(of_gradient)(params)

    got, want = (losses(kernel, params, xs, mask, reset) for kernel in (kernels.bptt, kernels.scan))
    zoo.assert_close(got, want, 1e-10)


@pytest.mark.some(1)
@pytest.mark.parametrize("flagged", [False, True])
def test_rows_of_vmap_without_jit(flagged, x64):
    """An eager gradient over an eager vmap, by shared params."""
    params, generator = zoo.params_of(CELL, 8), np.random.default_rng(2)
    xs, mask = generator.normal(size=(3, 5, 2, 8)), generator.random((3, 5, 2)) < 0.7

    def loss(params, kernel):
        run = lambda xs, mask: jaxseq.unroll(CELL, params, xs, mask=mask if flagged else None, kernel=kernel)[1]
        return jax.vmap(run)(xs, mask).sum()

    got, want = (jax.value_and_grad(loss)(params, kernel) for kernel in (kernels.bptt, kernels.scan))
    zoo.assert_close(got, want, 1e-10)


def test_rows_of_vmap_form_no_gradient_each():
    """The largest array of a training step is not as large as a weight for every row."""
    rows, xs = 50, np.zeros((50, 5, 8), np.float32)

    def loss(params):
        return jax.vmap(lambda xs: jaxseq.unroll(CELL, params, xs)[1])(xs).sum()

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (result.aval.size for result in equation.outvars)
            for value in equation.params.values():
                if hasattr(value, "jaxpr"):
                    yield from sizes(value.jaxpr)

    assert max(sizes(jax.make_jaxpr(jax.grad(loss))(PARAMS).jaxpr)) < rows * PARAMS.w_h.size


def test_a_program_of_symbolic_sizes_is_exported():
    T, B = jax.export.symbolic_shape("T, B")
    exported = jax.export.export(jax.jit(jax.grad(lambda params, xs: jaxseq.unroll(CELL, params, xs)[1].sum())))(
        PARAMS, jax.ShapeDtypeStruct((T, B, 8), jnp.float32)
    )
    xs = inputs(5, 2, 8)
    want = jax.jit(jax.grad(lambda params: jaxseq.unroll(CELL, params, xs, kernel=kernels.scan)[1].sum()))(PARAMS)
    zoo.assert_close(exported.call(PARAMS, xs), want, 1e-5)


@pytest.mark.parametrize(
    ("B", "T", "D", "H", "steps"),
    [
        (32, 100, 64, 128, 25),  # us of 6.25 MiB; 32 steps are 2 MiB, 25 and 50 divide T
        (32, 101, 64, 128, 32),  # of a prime: the last segment is short
        (128, 512, 64, 64, 16),
        (4, 16384, 16, 64, 512),
        (64, 64, 512, 512, 64),  # the weights are 8 MiB: there would be two segments
        (256, 20, 16, 64, 20),
        (1, 1000, 8, 32, 1000),
        (3, 0, 8, 32, 0),
        (4096, 40, 2, 64, 1),  # the us of one step are 4 MiB
    ],
)
def test_segments_of_bptt(B, T, D, H, steps, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    cell = jaxseq.lstm(H)
    params = jax.eval_shape(lambda key: cell.init(key, D), jax.random.key(0))
    assert plan_bptt(cell, params, jax.ShapeDtypeStruct((T, B, D), jnp.float32)).segment == steps
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert plan_bptt(cell, params, jax.ShapeDtypeStruct((T, B, D), jnp.float32)).segment == T


@pytest.mark.parametrize(
    ("make", "alone", "masked"),
    [(jaxseq.rnn, 0, 2), (jaxseq.lstm, 6, 7), (jaxseq.gru, 4, 5), (jaxseq.layer_norm_lstm, 10, 11)],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_what_ys_tell_is_not_written_again(make, alone, masked, reverse):
    """Beside ys: an RNN writes nothing, an LSTM c_{t-1} and its gates; under a mask, h_{t-1} too."""
    T, B = 4, 2
    cell = make(3)
    backward = cell.backward
    assert backward is not None
    params, mask = zoo.params_of(cell, 5), np.ones((T, B), bool)
    carry = zoo.random_like(jax.eval_shape(lambda: cell.carry(params, (B,))), 2)

    @jax.jit
    def whole(params, carry, xs, mask):
        _, saved = _saved.run_and_save(backward.fwd, params, carry, cell.project(params, xs), reverse)
        assert len(saved.written) == alone
        inner, one = jaxseq.masking.masked(cell), Augmented(params, cell.carry(params, (B,)))
        assert inner.backward is not None
        us = inner.project(one, Augmented(xs, (mask, None)))
        _, under_mask = _saved.run_and_save(inner.backward.fwd, one, carry, us, reverse)
        assert len(under_mask.written) == masked + 1  # and the mask
        return under_mask.whole()[0], saved.whole()

    got, want = whole(params, carry, inputs(T, B, 5), mask)
    zoo.assert_close(got, want, 1e-6)


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("name", "segment", "reverse"),
    [
        ("lstm", 3, False),
        ("lstm", 3, True),
        ("lstm", 4, True),
        ("lstm", 7, False),
        ("gru", 20, True),
        ("deep(gru)", 3, True),
    ],
)
def test_truncated_stops_gradients_at_borders_and_changes_no_value(name, reverse, segment, x64):
    """Against chunks with the carry handed on as a constant: every gradient, the first carry's too."""
    cell = zoo.find(name).cell
    T, B = 8, 3
    params = zoo.params_of(cell, 3)
    carry = zoo.random_like(jax.eval_shape(lambda: cell.carry(params, (B,))), 1)
    generator = np.random.default_rng(2)
    xs, mask, reset = (
        generator.normal(size=(T, B, 3)),
        generator.random((T, B)) < 0.7,
        generator.random((T, B)) < 0.3,
    )
    borders = [*range(0, T, segment), T]
    chunks = [slice(*pair) for pair in itertools.pairwise(borders)]
    if reverse:
        chunks = [slice(T - chunk.stop, T - chunk.start) for chunk in chunks]

    def loss(carry, ys):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((carry, ys)))

    def truncated(params, carry, xs):
        flags = {"mask": mask, "reset": reset, "reverse": reverse}
        carry, ys = jaxseq.unroll(cell, params, xs, carry, **flags, kernel=kernels.truncated(segment))
        return loss(carry, ys), (carry, ys)

    def in_chunks(params, carry, xs):
        ys = jnp.zeros((T, B, cell.size))
        for place, chunk in enumerate(chunks):
            if place:
                carry = jax.lax.stop_gradient(carry)
            before = reset[chunk]
            if reverse and chunk.stop < T:  # the border between chunks is crossed by hand
                crossing = jnp.asarray(reset[chunk.stop])
                start = cell.carry(params, (B,))
                carry = jax.tree.map(lambda new, old: jnp.where(crossing[:, None], new, old), start, carry)  # noqa: B023
            flags = {"mask": mask[chunk], "reset": before, "reverse": reverse}
            carry, part = jaxseq.unroll(cell, params, xs[chunk], carry, **flags, kernel=kernels.scan)
            ys = ys.at[chunk].set(part)
        return loss(carry, ys), (carry, ys)

    got, want = (
        jax.jit(jax.value_and_grad(run, (0, 1, 2), has_aux=True))(params, carry, xs) for run in (truncated, in_chunks)
    )
    zoo.assert_close(got, want, 1e-12)


def test_truncated_to_the_whole_is_what_none_chooses(x64):
    """A segment as long as the sequence, or longer, cuts nothing."""
    params, xs = zoo.random_like(PARAMS, 0), inputs(6, 2, 8)

    def gradient(kernel):
        return jax.jit(jax.grad(lambda params: jaxseq.unroll(CELL, params, xs, kernel=kernel)[1].sum()))(params)

    want = gradient(None)
    for segment in (6, 100):
        zoo.assert_close(gradient(kernels.truncated(segment)), want, 0)


@pytest.mark.parametrize("kernel", [kernels.remat, kernels.truncated])
def test_segments_are_positive_ints(kernel):
    assert kernel(5) is kernel(segment=np.int64(5))
    with pytest.raises(ValueError, match=r"`segment` must be a positive int; got 0"):
        kernel(0)
    with pytest.raises(TypeError, match=r"`segment` must be a positive int; got 2.5"):
        kernel(2.5)


@pytest.mark.some(8)
@pytest.mark.parametrize(
    ("cell", "kernel"),
    [
        (CELL, None),
        (jaxseq.min_gru(4), kernels.bptt),
        (jaxseq.min_gru(4), kernels.associative),
        (jaxseq.lru(4), kernels.chunkwise(2)),
    ],
    ids=["native", "bptt", "associative", "chunkwise"],
)
@pytest.mark.parametrize(
    "push",
    [
        jax.jvp,
        lambda run, primals, tangents: jax.linearize(run, *primals)[1](*tangents),
        lambda *call: jax.jit(lambda: jax.jvp(*call))(),
        lambda run, primals, _: jax.jacfwd(run)(*primals),
        lambda run, primals, tangents: jax.vmap(lambda row: jax.jvp(run, primals, (row,)))(tangents[0][None]),
    ],
    ids=["eager", "linearize", "jit", "jacfwd", "vmap"],
)
def test_forward_mode_of_a_gradient_by_hand_names_scan(push, cell, kernel):
    xs, mask = inputs(3, 2, 8), np.ones((3, 2), bool)
    params = cell.init(jax.random.key(0), 8)
    with pytest.raises(TypeError, match=r"For forward mode .* unroll with kernel=jaxseq.kernels.scan"):
        push(lambda xs: jaxseq.unroll(cell, params, xs, mask=mask, kernel=kernel)[1], (xs,), (xs,))


@pytest.mark.some(1)
@pytest.mark.parametrize("kernel", [kernels.associative, kernels.chunkwise(2)])
def test_a_matrix_has_forward_mode_by_every_kernel(kernel):
    cell = jaxseq.gated_delta_net(4, heads=2, key_size=2)
    xs = inputs(5, 2)
    params = cell.init(jax.random.key(0), 2)

    @functools.partial(jax.jit, static_argnums=0)
    def tangent(kernel):
        return jax.jvp(lambda xs: jaxseq.unroll(cell, params, xs, kernel=kernel)[1], (xs,), (xs,))[1]

    zoo.assert_close(tangent(kernel), tangent(kernels.scan), 1e-5)


def test_forward_over_reverse_mode_of_bptt():
    def hessian(kernel):
        loss = lambda b: jnp.sum(jaxseq.unroll(CELL, PARAMS._replace(b=b), inputs(3, 8), kernel=kernel)[1] ** 2)
        return jax.jit(jax.hessian(loss))(PARAMS.b)

    zoo.assert_close(hessian(kernels.bptt), hessian(kernels.scan), 1e-5)


@pytest.mark.some(1)
@pytest.mark.parametrize(
    ("name", "kernel", "T"),
    [
        ("lstm", kernels.scan, 1024),  # XLA:CPU copies its 16-bit buffers at every step
        ("gru", kernels.remat(16), 16_384),
        ("rnn", kernels.truncated(64), 16_384),
        ("own", kernels.bptt, 16_384),
    ],
    ids=["scan", "remat", "truncated", "bptt"],
)
def test_gradients_of_16_bit_params_are_summed_in_float32(name, kernel, T):
    """Beside those in float32; summed in bfloat16 they were off by up to .83 of their norm."""
    cell = zoo.find(name).cell
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), zoo.params_of(cell, 3))
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(T, 2, 3)), jnp.bfloat16)

    @jax.jit
    def gradient(params, xs):
        def loss(params):
            return jnp.mean((jaxseq.unroll(cell, params, xs, kernel=kernel)[1].astype(jnp.float32) - 0.5) ** 2)

        return jax.grad(loss)(params)

    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, xs))
    for got, want in zip(jax.tree.leaves(gradient(params, xs)), jax.tree.leaves(gradient(*wide)), strict=True):
        assert got.dtype == jnp.bfloat16
        error = np.linalg.norm(got.astype(np.float32) - want) / np.linalg.norm(want)
        assert error < 0.04


def test_a_cell_without_backward_has_forward_mode_with_every_kernel():
    cell = zoo.own_lstm(3)
    params, xs, tangent = zoo.params_of(cell, 2), np.ones((5, 2), np.float32), np.full((5, 2), 0.5, np.float32)

    def push(kernel):
        return jax.jvp(lambda xs: jaxseq.unroll(cell, params, xs, kernel=kernel)[1], (xs,), (tangent,))[1]

    want, *pushed = jax.jit(lambda: list(map(push, (kernels.scan, None, kernels.bptt, kernels.remat(2)))))()
    for got in pushed:
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_program_does_not_grow_with_time():
    def operations(T, kernel):
        step = jax.grad(lambda params: jaxseq.unroll(CELL, params, inputs(T, 8), kernel=kernel)[1].sum())
        return count(jax.make_jaxpr(step)(PARAMS).jaxpr)

    def count(jaxpr):
        inside = (
            value.jaxpr for equation in jaxpr.eqns for value in equation.params.values() if hasattr(value, "jaxpr")
        )
        return len(jaxpr.eqns) + sum(map(count, inside))

    for kernel in (kernels.scan, kernels.bptt, kernels.remat(10), kernels.truncated(10)):
        assert operations(20, kernel) == operations(2000, kernel)


@pytest.mark.parametrize("make", [jaxseq.rnn, jaxseq.lstm])
def test_rows_of_vmap_are_reset_without_gradients(make):
    """With a carry of their own, and as many rows as features, which must not meet."""
    cell, N, T = make(4), 4, 6
    params = zoo.params_of(cell, 3)
    flags = np.random.default_rng(2).random((2, N, T)) < 0.4
    carry = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), jax.eval_shape(cell.carry, params))

    @functools.partial(jax.jit, static_argnums=0)
    def run(kernel, xs, reset, mask):
        def of_one(xs, reset, mask):
            return jaxseq.unroll(cell, params, xs, carry, reset=reset, mask=mask, kernel=kernel)

        return jax.vmap(of_one)(xs, reset, mask)

    got, want = (run(kernel, inputs(N, T, 3), *flags) for kernel in (None, kernels.scan))
    zoo.assert_close(got, want, 1e-5)


def test_a_spoilt_carry_of_an_empty_row_reaches_no_second_gradient():
    cell = jaxseq.rnn(4)
    mask, carry = np.array([[True, False]] * 5), np.array([[0.0] * 4, [np.nan] * 4], np.float32)

    def slope(params):
        total = jax.grad(lambda params: jaxseq.unroll(cell, params, jnp.ones((5, 2, 3)), carry, mask=mask)[1].sum())
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(total(params)))

    gradient = jax.jit(jax.grad(slope))(zoo.params_of(cell, 3))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_one_object_twice_in_a_carry_step_by_step():
    cell, zeros = jaxseq.lstm(4), jnp.zeros((2, 4))
    params, xs = zoo.params_of(cell, 3), jnp.asarray(inputs(3, 2, 3))

    def total(params, kernel):
        return jnp.sum(jaxseq.unroll(cell, params, xs, jaxseq.LstmCarry(zeros, zeros), kernel=kernel)[1] ** 2)

    want = jax.jit(jax.grad(total), static_argnums=1)(params, kernels.scan)
    with jax.disable_jit():
        zoo.assert_close(jax.grad(total)(params, kernels.bptt), want, 1e-5)


def exported_gradient(kernel, T, B):
    """The program of a net's gradient, under a mask; and its results beside those of `scan`, where T is fixed."""
    net = jaxseq.stack(jaxseq.lstm(3), jaxseq.gru(3))
    params = net.init(jax.random.key(0), 2)

    def run(params, xs, mask, kernel):
        return jax.grad(lambda params: jaxseq.unroll(net, params, xs, mask=mask, kernel=kernel)[1].sum())(params)

    like = params, jax.ShapeDtypeStruct((T, B, 2), jnp.float32), jax.ShapeDtypeStruct((T, B), bool)
    program = jax.export.export(jax.jit(functools.partial(run, kernel=kernel)))(*like)
    T = T if isinstance(T, int) else 8
    inputs = jnp.linspace(-1, 1, T * 6).reshape(T, 3, 2), jnp.arange(T)[:, None] < jnp.array([T, 2, 0])
    return program.call(params, *inputs), jax.jit(functools.partial(run, kernel=kernels.scan))(params, *inputs)


@pytest.mark.learn
def test_segments_of_symbolic_batches_are_exported():
    (B,) = jax.export.symbolic_shape("B")
    zoo.assert_close(*exported_gradient(kernels.remat(4), 9, B), 1e-5)
    n, B = jax.export.symbolic_shape("n, B", constraints=["n >= 2"])
    zoo.assert_close(*exported_gradient(kernels.remat(4), 4 * n, B), 1e-5)


@pytest.mark.parametrize(
    ("kernel", "T", "told"),
    [
        (
            kernels.remat(),
            9,
            r"`xs` must have fixed sizes, because remat\(\) .* got float32 \(9, B, 2\), .* Give remat\(n\)",
        ),
        (kernels.remat(4), "T", r"`xs` must have a fixed number of steps to be cut into segments of 4; got T"),
        (kernels.truncated(4), "T", r"`xs` must have a fixed number of steps to be cut into segments of 4; got T"),
    ],
)
def test_segments_of_unknown_sizes_are_refused(kernel, T, told):
    symbolic_T, B = jax.export.symbolic_shape("T, B", constraints=["T >= 8"])
    with pytest.raises(ValueError, match=told) as raised:
        exported_gradient(kernel, symbolic_T if T == "T" else T, B)
    assert len(str(raised.value)) < 400


def test_masks_of_symbolic_sizes_are_exported():
    cell = jaxseq.lstm(4)
    params = zoo.params_of(cell, 3)
    T, B = jax.export.symbolic_shape("T, B")
    shapes = jax.ShapeDtypeStruct((T, B, 3), jnp.float32), jax.ShapeDtypeStruct((T, B), bool)

    def run(params, xs, mask):
        return jaxseq.unroll(cell, params, xs, mask=mask, reset=~mask)[1]

    exported = jax.export.export(jax.jit(run))(params, *shapes)
    xs, mask = inputs(5, 2, 3), np.arange(10).reshape(5, 2) % 3 > 0
    zoo.assert_close(exported.call(params, xs, mask), jax.jit(run)(params, xs, mask), 1e-6)


def test_explain_names_no_direct_that_is_not_run():
    cell = jaxseq.lstm(4)._replace(backward=None)
    params = jax.eval_shape(lambda key: cell.init(key, 3), jax.random.key(0))
    assert "inference" not in kernels.explain(cell, params, jax.ShapeDtypeStruct((5, 2, 3), jnp.float32))


def test_keys_among_params_pass_through_the_loops_of_16_bits():
    """As a layer of one's own in `nn` may hold them."""
    params = {"w": jnp.ones(2, jnp.bfloat16), "key": jax.random.key(0), "flag": jnp.array([True])}
    wide, narrow = widened(params)
    assert wide["w"].dtype == jnp.float32
    back = narrow(wide)
    assert (back["w"].dtype, back["flag"].dtype) == (jnp.bfloat16, bool)
    assert back["key"] is params["key"]
