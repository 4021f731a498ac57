"""Layouts, defaults and identity of the stock cells; their numbers are in test_contract and test_equations."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from tests import reference, zoo
from tests.forms.conv_lstm import conv_lstm
from tests.forms.stock import hard_sigmoid
from tests.reference import sigma
from tests.untyped import untyped

KEY = jax.random.key(0)


def params_of(cell, in_size=3, dtype=None):
    return zoo.params_of(cell, in_size, dtype)


def drawn(cell, in_size=3):
    """What init gives, in one program."""
    return jax.tree.map(np.asarray, jax.jit(lambda: cell.init(KEY, in_size))())


def zeros(key, shape, dtype=None):
    return jnp.zeros(shape, dtype)


NO_WEIGHTS: dict[str, Any] = {"input_init": zeros, "recurrent_init": zeros}  # where biases are all that is looked at


def logistic(a):
    return 1 / (1 + jnp.exp(-a))


def numbers(*shape):
    return np.random.default_rng(1).normal(size=shape)


def test_same_options_same_object():
    assert jaxseq.lstm(7) is jaxseq.lstm(size=7, peephole=None)
    assert jaxseq.lstm(7, forget_bias=1) is jaxseq.lstm(untyped(np.int64(7)), candidate=jnp.tanh)
    assert jaxseq.gru(7) is jaxseq.gru(7, reset_after=True, update_writes=untyped(np.False_))
    assert jaxseq.rnn(7) is jaxseq.rnn(7, activation=jnp.tanh)
    assert jaxseq.kernels.remat(5) is jaxseq.kernels.remat(segment=5)
    assert jaxseq.lstm(7, projection=3, clip=1) is jaxseq.lstm(7, clip=1.0, projection=3, coupled=False)
    assert jaxseq.conv_lstm((2, 3), 4) is jaxseq.conv_lstm([2, 3], 4, window=[3, 3])
    assert jaxseq.slstm(4) is jaxseq.slstm(4, heads=1, forget="sigmoid")
    orthogonal, chrono = jaxseq.initializers.orthogonal, jaxseq.initializers.chrono
    assert jaxseq.gru(7) is jaxseq.gru(7, recurrent_init=orthogonal())
    assert jaxseq.lstm(7, forget_bias=chrono(50)) is jaxseq.lstm(7, forget_bias=chrono(50))
    assert jaxseq.lstm(7) is not jaxseq.lstm(8)
    assert jaxseq.lstm(7) != jaxseq.lstm(7, peephole="new")


@pytest.mark.parametrize(
    ("cell", "shapes"),
    [
        (jaxseq.rnn(4), {"w_x": (3, 4), "w_h": (4, 4), "b": (4,)}),
        (jaxseq.lstm(4), {"w_x": (3, 16), "w_h": (4, 16), "b": (16,), "w_c": None, "w_p": None}),
        (jaxseq.lstm(4, peephole="new"), {"w_x": (3, 16), "w_h": (4, 16), "b": (16,), "w_c": (3, 4), "w_p": None}),
        (jaxseq.gru(4), {"w_x": (3, 12), "w_h": (4, 12), "b": (12,), "b_hn": (4,)}),
        (jaxseq.gru(4, reset_after=False), {"w_x": (3, 12), "w_h": (4, 12), "b": (12,), "b_hn": None}),
        (
            jaxseq.lstm(4, projection=2, coupled=True, peephole="old"),
            {"w_x": (3, 12), "w_h": (2, 12), "b": (12,), "w_c": (2, 4), "w_p": (4, 2)},
        ),
        (
            jaxseq.layer_norm_lstm(4),
            {"w_x": (3, 16), "w_h": (4, 16), "b": (16,), "s_x": (16,), "s_h": (16,), "s_c": (4,), "b_c": (4,)},
        ),
        (
            jaxseq.layer_norm_gru(4),
            {"w_x": (3, 12), "w_h": (4, 12), "b": (12,), "b_hn": (4,), "s_x": (12,), "s_h": (12,)},
        ),
        (jaxseq.conv_lstm((3,), 4), {"w_x": (3, 1, 16), "w_h": (3, 4, 16), "b": (16,), "w_c": None}),
        (
            jaxseq.conv_lstm((3,), 4, window=5, peephole=True),
            {"w_x": (5, 1, 16), "w_h": (5, 4, 16), "b": (16,), "w_c": (3, 3, 4)},
        ),
        (jaxseq.slstm(4, heads=2), {"w_x": (3, 16), "w_h": (2, 2, 8), "b": (16,)}),
    ],
    ids=[
        "rnn",
        "lstm",
        "lstm_new",
        "gru",
        "gru_before",
        "lstm_all",
        "norm_lstm",
        "norm_gru",
        "conv",
        "conv_c",
        "slstm",
    ],
)
def test_params_layout(cell, shapes):
    params = jax.eval_shape(lambda: cell.init(KEY, 3))
    assert {name: None if value is None else value.shape for name, value in params._asdict().items()} == shapes


def test_the_forget_bias_is_written_by_init_and_added_by_nothing():
    params = params_of(jaxseq.lstm(2))._replace(b=drawn(jaxseq.lstm(2, forget_bias=3, **NO_WEIGHTS)).b)
    np.testing.assert_array_equal(params.b, [0, 0, 3, 3, 0, 0, 0, 0])
    xs = np.ones((4, 1, 3), np.float32)
    with_bias = jaxseq.unroll(jaxseq.lstm(2, forget_bias=3), params, xs)
    without = jaxseq.unroll(jaxseq.lstm(2, forget_bias=0), params, xs)
    jax.tree.map(np.testing.assert_array_equal, with_bias, without)


def test_the_initial_carry_is_zero_in_the_dtype_of_the_params():
    params = params_of(jaxseq.lstm(2), dtype=jnp.bfloat16)
    carry = jaxseq.lstm(2).carry(params, (5, 6))
    assert isinstance(carry, jaxseq.LstmCarry)
    assert carry.h.shape == carry.c.shape == (5, 6, 2)
    assert carry.c.dtype == jnp.bfloat16
    assert not np.any(np.asarray(carry.h))


def test_a_cell_is_static_under_jit():
    assert jax.tree.leaves(jaxseq.lstm(4)) == []
    cell = jaxseq.gru(4)
    params, xs = params_of(cell), np.ones((5, 2, 3), np.float32)
    _, ys = jax.jit(jaxseq.unroll)(cell, params, xs)
    _, want = jaxseq.unroll(cell, params, xs)
    np.testing.assert_allclose(ys, want, rtol=1e-6)


FACTORIES = {
    "rnn": jaxseq.rnn,
    "lstm": jaxseq.lstm,
    "gru": jaxseq.gru,
    "layer_norm_lstm": jaxseq.layer_norm_lstm,
    "layer_norm_gru": jaxseq.layer_norm_gru,
    "conv_lstm": lambda channels, **options: jaxseq.conv_lstm((3,), channels, **options),
    "slstm": jaxseq.slstm,
}


@pytest.mark.parametrize("name", FACTORIES)
def test_every_role_has_its_initialiser(name):
    """Constants that tell the roles apart; the forget bias is told apart by `test_forget_biases`."""

    def constant(value):
        return lambda key, shape, dtype=None: jnp.full(shape, value, dtype)

    roles = {"input_init": constant(1.0), "recurrent_init": constant(2.0), "bias_init": constant(3.0)}
    bias = {} if name == "rnn" else {"forget_bias": None}
    params = drawn(FACTORIES[name](4, **roles, **bias))
    assert np.all(params.w_x == 1)
    assert np.all(params.w_h == 2)
    assert np.all(params.b == 3)
    assert np.all(getattr(params, "b_hn", 3) == 3)


@pytest.mark.parametrize("name", [name for name in FACTORIES if name != "rnn"])
def test_forget_biases(name):
    """A number, an initialiser, which the gate that writes gets negated, or what the bias's own initialiser gave."""
    gates = 3 if "gru" in name else 4
    keep, write = (1, None) if gates == 3 else (1, 0)
    for start in (2.5, jaxseq.initializers.chrono(50)):
        b = np.split(drawn(FACTORIES[name](4, forget_bias=start, **NO_WEIGHTS)).b, gates)
        if start == 2.5:
            assert np.all(b[keep] == 2.5)
            assert all(np.all(part == 0) for gate, part in enumerate(b) if gate != keep)
        else:
            assert np.all((b[keep] >= 0) & (b[keep] <= np.log(49)))
            assert np.unique(b[keep]).size == 4
            assert write is None or np.all(b[write] == -b[keep])
            assert all(np.all(part == 0) for gate, part in enumerate(b) if gate not in (keep, write))


@pytest.mark.some(1)
@pytest.mark.parametrize("name", [name for name in FACTORIES if name not in ("rnn", "slstm")])
def test_a_gate_of_any_function(name, x64):
    """The sigmoid by another name gives the default's numbers; a hard one has its own gradient, by hand as by JAX."""
    cell, other, hard = (FACTORIES[name](4, **options) for options in ({}, {"gate": logistic}, {"gate": hard_sigmoid}))
    params = zoo.params_of(cell, 3, scale=2)
    xs = numbers(5, 2, 3)

    def run(cell):
        def loss(params, xs):
            carry, ys = jaxseq.unroll(cell, params, xs)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(carry)) + jnp.sum(ys**2)

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, xs)

    zoo.assert_close(run(other), run(cell), 1e-12)
    jaxseq.check_bptt(hard, params, xs)


def test_the_forget_bias_of_other_conventions():
    b = drawn(jaxseq.gru(2, update_writes=True, forget_bias=1.5, **NO_WEIGHTS)).b
    np.testing.assert_array_equal(b, [0, 0, -1.5, -1.5, 0, 0])  # where z writes, a small z keeps
    b = drawn(jaxseq.lstm(2, coupled=True, forget_bias=1.5, **NO_WEIGHTS)).b
    np.testing.assert_array_equal(b, [1.5, 1.5, 0, 0, 0, 0])
    chrono = jaxseq.initializers.chrono(9)
    f = np.split(drawn(jaxseq.lstm(2, coupled=True, forget_bias=chrono, **NO_WEIGHTS)).b, 3)
    assert np.all(f[0] > 0)
    assert not np.any(f[1:])


def test_clipping_bounds_the_memory():
    cell = jaxseq.lstm(4, clip=0.5)
    params = params_of(cell)._replace(b=np.full(16, 9.0, np.float32))
    carry, _ = jaxseq.unroll(cell, params, np.ones((6, 2, 3), np.float32))
    np.testing.assert_array_equal(carry.c, np.full((2, 4), 0.5, np.float32))


def test_exponential_gates_do_not_overflow():
    """Gates of ±500, whose exponentials are beyond float32, give the plain ratio and finite gradients."""
    for forget in ("sigmoid", "exponential"):
        cell = jaxseq.slstm(1, forget=forget)

        @jax.jit
        def run(params, cell=cell):
            (_, ys), pull = jax.vjp(lambda params: jaxseq.unroll(cell, params, jnp.ones((5, 1))), params)
            return ys, pull((cell.carry(params), jnp.ones_like(ys)))

        for i, f in ((500.0, 500.0), (-500.0, -500.0), (500.0, -500.0), (-500.0, 500.0)):
            weights = np.zeros((1, 4)), np.zeros((1, 1, 4)), np.array([i, f, 0.3, 0.2])
            ys, gradients = run(jaxseq.SlstmParams(*(weight.astype(np.float32) for weight in weights)))
            # All writes are alike, so c / n is g whatever the gates do.
            np.testing.assert_allclose(ys, np.full((5, 1), sigma(0.2) * np.tanh(0.3)), rtol=1e-6)
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


def test_slstm_is_its_equations_without_the_stabiliser(x64):
    cell = jaxseq.slstm(4, heads=2)
    params, xs = params_of(cell), numbers(9, 3)
    _, ys = jaxseq.unroll(cell, params, xs)
    params = jax.tree.map(np.asarray, params)
    h, c, n = np.zeros(4), np.zeros(4), np.zeros(4)
    for x, y in zip(xs, np.asarray(ys), strict=True):
        recurrent = [(part @ w).reshape(4, 2) for part, w in zip(h.reshape(2, 2), params.w_h, strict=True)]
        a = x @ params.w_x + params.b + np.concatenate(recurrent, axis=1).ravel()
        i, f, g, o = np.split(a, 4)
        c = sigma(f) * c + np.exp(i) * np.tanh(g)
        n = sigma(f) * n + np.exp(i)
        h = sigma(o) * c / n
        np.testing.assert_allclose(y, h, rtol=1e-12)


def test_convolution_with_a_window_of_one_is_an_lstm_at_every_pixel(x64):
    conv, plain = jaxseq.conv_lstm((2, 3), 4, window=1), jaxseq.lstm(4)
    params, xs = params_of(conv, 2 * 3 * 5), numbers(7, 2, 3, 5)
    _, ys = jaxseq.unroll(conv, params, xs.reshape(7, -1))
    params = jax.tree.map(np.asarray, params)
    pixel = jaxseq.LstmParams(params.w_x[0, 0], params.w_h[0, 0], params.b)
    _, want = jaxseq.unroll(plain, pixel, xs)
    np.testing.assert_allclose(np.asarray(ys).reshape(7, 2, 3, 4), want, rtol=1e-12)


def test_convolutions_are_those_of_scipy(x64):
    """One step in two dimensions from a carry, each channel by scipy's own correlation."""
    from scipy.signal import correlate

    cell = jaxseq.conv_lstm((4, 5), 2, window=(3, 5))
    params = jax.tree.map(np.asarray, params_of(cell, 4 * 5 * 3))
    x, h = numbers(4, 5, 3), numbers(4, 5, 2)

    def convolve(image, w):
        return sum(
            np.stack([correlate(image[..., i], w[..., i, o], mode="same") for o in range(w.shape[-1])], axis=-1)
            for i in range(w.shape[-2])
        )

    i, _f, g, o = np.split(convolve(x, params.w_x) + params.b + convolve(h, params.w_h), 4, axis=-1)
    want = sigma(o) * np.tanh(sigma(i) * np.tanh(g))
    _, y = jax.jit(lambda *given: jaxseq.step(cell, *given))(
        params, jaxseq.LstmCarry(h.ravel(), np.zeros(40)), x.ravel()
    )
    np.testing.assert_allclose(np.asarray(y).reshape(4, 5, 2), want, rtol=1e-10, atol=1e-12)


@functools.partial(jax.jit, static_argnums=0)
def values_and_gradients(cell, params, carry, xs, d_carry, d_ys):
    results, pull = jax.vjp(lambda *given: jaxseq.unroll(cell, given[0], given[2], given[1]), params, carry, xs)
    return results, pull((d_carry, d_ys))


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("pixels", "window", "stride", "dilation", "padding"),
    [(7, 3, 2, 1, "same"), (8, 3, 3, 2, "same"), (5, 2, 2, 2, "valid"), (9, 3, 3, 2, "valid"), (4, 1, 4, 1, "same")],
)
def test_strided_and_dilated_convolutions_are_plain_loops(pixels, window, stride, dilation, padding, x64):
    """Sequences of images of one axis, values and gradients, against the loops of tests/forms."""
    options = {"window": window, "strides": stride, "dilation": [dilation], "padding": padding, "peephole": True}
    cell = jaxseq.conv_lstm((pixels,), 2, **options)
    form = conv_lstm(pixels, 2, window, stride, dilation, padding)
    params = params_of(cell, 2 * pixels)
    carry, d_carry = (zoo.random_like(jax.eval_shape(lambda: cell.carry(params, (2,))), seed) for seed in (3, 4))
    xs, d_ys = numbers(3, 2, 2 * pixels), numbers(3, 2, cell.size)
    results, (d_params, d_first, d_xs) = values_and_gradients(cell, params, carry, xs, d_carry, d_ys)
    given = zoo.as_reference(params), xs, tuple(map(np.asarray, carry))
    want = reference.bptt(form, *given, tuple(map(np.asarray, d_carry)), d_ys)
    zoo.assert_close(tuple(results), tuple(reference.unroll(form, *given)), 1e-12)
    zoo.assert_close(zoo.as_reference(d_params), want.params, 1e-12)
    zoo.assert_close((tuple(d_first), d_xs), (want.carry, want.xs), 1e-12)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 2, 2)], ids=str)
def test_images_of_one_to_three_axes(shape):
    cell = jaxseq.conv_lstm(shape, 2, peephole=True)
    in_size = 3 * int(np.prod(shape))
    carry, ys = jaxseq.unroll(cell, params_of(cell, in_size), np.ones((4, 2, in_size), np.float32))
    assert cell.size == 2 * np.prod(shape)
    assert ys.shape == (4, 2, cell.size)
    np.testing.assert_array_equal(carry.h, np.asarray(ys)[-1])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: jaxseq.lstm(4, projection=0), ValueError, "`projection` must be a positive int; got 0"),
        (lambda: jaxseq.lstm(4, projection=untyped(2.0)), TypeError, "`projection` must be a positive int; got 2.0"),
        (lambda: jaxseq.lstm(4, coupled=untyped("yes")), ValueError, "`coupled` must be True or False; got 'yes'"),
        (lambda: jaxseq.lstm(4, clip=0), ValueError, "`clip` must be a positive number; got 0"),
        (
            lambda: jaxseq.lstm(4, gate=untyped("hard")),
            TypeError,
            "`gate` must be an elementwise function .* got 'hard'",
        ),
        (lambda: jaxseq.layer_norm_gru(4, gate=untyped(None)), TypeError, "`gate` must be an elementwise function"),
        (lambda: jaxseq.lstm(4, clip=untyped("1")), TypeError, "`clip` must be a positive number; got '1'"),
        (lambda: jaxseq.lstm(4, forget_bias=untyped("1")), TypeError, "`forget_bias` must be a number, an initialiser"),
        (lambda: jaxseq.gru(4, forget_bias=True), TypeError, "`forget_bias` must be a number, an initialiser"),
        (
            lambda: jaxseq.rnn(4, input_init=untyped("glorot")),
            TypeError,
            "`input_init` must be an initialiser .* got 'glorot'",
        ),
        (
            lambda: jaxseq.gru(4, recurrent_init=untyped(jaxseq.initializers.orthogonal)),
            TypeError,
            "`recurrent_init` must take .key, shape, dtype.; orthogonal takes .*A factory is called first",
        ),
        (lambda: jaxseq.layer_norm_lstm(0), ValueError, "`size` must be a positive int"),
        (lambda: jaxseq.layer_norm_gru(4, bias_init=untyped(0)), TypeError, "`bias_init` must be an initialiser"),
        (lambda: jaxseq.slstm(4, heads=3), ValueError, "`heads` must divide `size`; got 3 heads of 4 features"),
        (lambda: jaxseq.slstm(4, forget="exp"), ValueError, "`forget` must be 'sigmoid' or 'exponential'; got 'exp'"),
        (lambda: jaxseq.conv_lstm(untyped(8), 4), TypeError, "`shape` must be a sequence of ints; got 8"),
        (lambda: jaxseq.conv_lstm((8, 0), 4), ValueError, "`shape` must be a positive int; got 0"),
        (lambda: jaxseq.conv_lstm((2, 2, 2, 2), 4), ValueError, "`shape` must have one to three sizes"),
        (lambda: jaxseq.conv_lstm((8, 8), 4, window=(3,)), ValueError, "have a size for each of 2 axes"),
        (lambda: jaxseq.conv_lstm((8, 8), 4, strides=0), ValueError, "`strides` must be a positive int; got 0"),
        (lambda: jaxseq.conv_lstm((8, 8), 4, dilation=(1,)), ValueError, "`dilation` must be an int or have a size"),
        (lambda: jaxseq.conv_lstm((8, 8), 4, padding="full"), ValueError, "`padding` must be 'same' or 'valid'"),
        (
            lambda: jaxseq.conv_lstm((4, 8), 4, padding="valid", dilation=2),
            ValueError,
            "`padding` 'valid' leaves no pixel of .4, 8.: `window` 3, `dilation` 2",
        ),
        (lambda: jaxseq.conv_lstm((8, 8), 4, peephole=untyped("new")), ValueError, "`peephole` must be True or False"),
        (lambda: jaxseq.conv_lstm((8, 8), 4).init(KEY, 65), ValueError, "a multiple of 64 features; got 65"),
    ],
)
def test_errors_of_the_factories(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_the_initial_carry_can_be_donated(factory):
    cell = factory(4)
    params = params_of(cell)
    step = jax.jit(lambda carry, x: jaxseq.step(cell, params, carry, x), donate_argnums=0)
    _, y = step(cell.carry(params, (2,)), np.ones((2, 3), np.float32))
    assert np.all(np.isfinite(y))


@pytest.mark.parametrize("shape", [(0, 2, 6), (3, 0, 6)], ids=["no steps", "no rows"])
@pytest.mark.parametrize("cell", [jaxseq.conv_lstm((2, 3), 2), jaxseq.slstm(4), jaxseq.layer_norm_gru(4)])
def test_nothing_to_do(cell, shape):
    carry, ys = jaxseq.unroll(cell, params_of(cell, 6), np.zeros(shape, np.float32))
    assert ys.shape == (*shape[:2], cell.size)
    assert jax.tree.leaves(carry)[0].shape == (shape[1], cell.size)


def test_a_memory_that_stands_on_its_bound(x64):
    """There JAX's clip passes half of the gradient; by hand it is the same half."""
    cell = jaxseq.lstm(1, clip=1.0)
    params = jaxseq.LstmParams(np.zeros((1, 4)), np.zeros((1, 4)), np.array([-800.0, 800.0, 0.0, 0.0]))

    def gradient(kernel):
        def last(start):
            return jaxseq.unroll(cell, params, jnp.ones((3, 1)), start, kernel=kernel)[0].c[0]

        return jax.jit(jax.grad(last))(jaxseq.LstmCarry(np.zeros(1), np.ones(1)))

    np.testing.assert_array_equal(gradient(jaxseq.kernels.scan).c, [0.125])
    np.testing.assert_array_equal(gradient(jaxseq.kernels.bptt).c, [0.125])


def test_what_a_cell_is_made_of_has_a_hash():
    """A callable without one is refused by name; one whose signature is its own affair is taken."""

    class Unhashable(list):
        def __call__(self, key, shape, dtype=None):
            return jnp.zeros(shape, dtype)

    for make in (
        lambda: jaxseq.lstm(4, input_init=Unhashable()),
        lambda: jaxseq.gru(4, forget_bias=Unhashable()),
        lambda: jaxseq.rnn(4, activation=untyped(Unhashable())),
    ):
        with pytest.raises(TypeError, match=r"`(input_init|forget_bias|activation)` must be hashable"):
            make()
    for uncalled in (jaxseq.initializers.glorot_uniform, jaxseq.initializers.he_normal):
        with pytest.raises(TypeError, match="A factory is called first"):
            jaxseq.lstm(4, input_init=untyped(uncalled))
    assert jaxseq.lstm(4, recurrent_init=jaxseq.initializers.orthogonal(1)) is jaxseq.lstm(4)
    assert jaxseq.initializers.chrono(50) is jaxseq.initializers.chrono(max_length=50)


def test_numpy_sizes_of_images():
    assert jaxseq.conv_lstm(untyped(np.array([4, 5])), 2, window=untyped(np.int64(3))) is jaxseq.conv_lstm((4, 5), 2)


def test_of_a_learned_carry_donated_the_params_stay():
    cell = jaxseq.learned_carry(jaxseq.gru(4))
    params = params_of(cell)
    step = jax.jit(lambda params, carry, x: jaxseq.step(cell, params, carry, x), donate_argnums=1)
    step(params, cell.carry(params), jnp.ones(3))
    assert np.all(np.isfinite(params.carry))
