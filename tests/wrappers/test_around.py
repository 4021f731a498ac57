"""`around`: every fact of a cell reaches the cell around it, and every function of a wrapper has its gradient."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import Augmented, around, kernels
from tests import zoo
from tests.forms import own
from tests.untyped import untyped

T, B, D, H = 6, 3, 4, 4
XS = np.random.default_rng(0).normal(size=(T, B, D))
MASK = np.random.default_rng(1).random((T, B)) < 0.7
RESET = np.random.default_rng(2).random((T, B)) < 0.3

FACTS = ("backward", "noise", "hears", "linear")
CELLS = {"lstm": jaxseq.lstm(H), "gru": jaxseq.gru(H), "noisy": jaxseq.dropout(jaxseq.lstm(H), recurrent=0.2)}
CELLS["linear"] = jaxseq.min_gru(H)
WRAPPERS = {
    "masked": jaxseq.masking.masked,
    "zoneout": lambda cell: jaxseq.zoneout(cell, h=0.2),
    "dropout": lambda cell: jaxseq.dropout(cell, recurrent=0.2),
    "learned_carry": jaxseq.learned_carry,
    "own": own.leaking,
}


def test_every_fact_of_a_cell_is_known_here():
    """A new fact is one that `around` hands on, and has a law of its own."""
    assert jaxseq.Cell._fields == ("size", "init", "carry", "project", "step", *FACTS)


@pytest.mark.parametrize(("wrapper", "cell", "fact"), list(itertools.product(WRAPPERS, CELLS, FACTS)))
def test_every_wrapper_hands_on_every_fact(wrapper, cell, fact):
    cell = CELLS[cell]
    if wrapper == "masked" and fact == "noise":
        return  # `unroll` draws it before it masks
    if wrapper == "own" and fact == "linear":
        return  # it does something to the carry, and does not say what that is to the steps of a linear cell
    if getattr(cell, fact) is not None:
        assert getattr(WRAPPERS[wrapper](cell), fact) is not None


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_backward_that_a_cell_has_not_is_not_made_up(wrapper):
    assert WRAPPERS[wrapper](CELLS["lstm"]._replace(backward=None)).backward is None


def test_a_backward_without_a_project_has_jaxs(x64):
    cell = CELLS["gru"]
    assert cell.backward is not None
    bare = cell._replace(backward=cell.backward._replace(project=None))
    for wrapper in ("own", "learned_carry"):
        assert WRAPPERS[wrapper](bare).backward.project is None
        check(WRAPPERS[wrapper](bare))


def params_of(cell):
    return zoo.params_of(cell, D, seed=1)


def check(cell):
    """By hand against autodiff, with masks and resets, without a key and with one."""
    params = params_of(cell)

    def losses(kernel):
        def loss(params, xs, key):
            carry, ys = jaxseq.unroll(cell, params, xs, mask=MASK, reset=RESET, kernel=kernel, key=key)
            return sum(jnp.sum(jnp.sin(leaf + 1)) for leaf in jax.tree.leaves((carry, ys)))

        of_key = lambda key: jax.value_and_grad(loss, (0, 1))(params, XS, key)
        return jax.jit(lambda: [of_key(key) for key in (None, jax.random.key(3))])()

    zoo.assert_close(losses(kernels.bptt), losses(kernels.scan), 1e-10)


class Shifted(NamedTuple):
    """Params of the cell, and of the wrapper below."""

    params: object
    shift: jax.Array
    w: jax.Array


def everything(cell, given):
    """A wrapper with all functions: inputs scaled, h dropped, a learned shift of h, and of y by the inputs."""

    def draw(key, params, xs):
        shape = (H,) if given == "params" else (*xs.shape[:-1], H)
        return jax.random.bernoulli(key, 0.5, (xs.shape[1], H) if given == "params" else shape)

    def init(key, in_size, dtype=None):
        return Shifted(cell.init(key, in_size, dtype), jnp.zeros(H, dtype), jnp.ones((in_size, H), dtype))

    def carry(params, batch_shape=()):
        return jax.tree.map(lambda leaf: leaf + 0.5, cell.carry(params.params, batch_shape))

    def extra(drawn, params, xs):
        return {"shift": jnp.broadcast_to(params.shift**2, (*xs.shape[:-1], H)), "y": jnp.tanh(xs @ params.w)}

    def enter(drawn, u, carry):
        return jax.tree.map(lambda leaf: 0.9 * leaf + u["shift"], carry)

    def hear(drawn, u, h):
        return None if drawn is None else jnp.where(drawn, h, 0) + 0.1 * u["y"]

    def leave(drawn, u, before, new, y):
        held = jax.tree.map(lambda old, new: 0.3 * old + 0.7 * new, before, new)
        return held, y + u["y"] if drawn is None else jnp.where(drawn, y, u["y"])

    functions = {"draw": draw, "init": init, "carry": carry, "extra": extra, "enter": enter, "hear": hear}
    return around(cell, given=given, leave=leave, inputs=lambda drawn, xs: 2 * xs, hears=True, **functions)


@pytest.mark.some(1)
@pytest.mark.parametrize(("make", "given"), [(jaxseq.lstm, "xs"), (jaxseq.gru, "params")])
def test_all_functions_together(make, given, x64):
    """Around a cell, around one with noise of its own, and inside another that drops what is heard."""
    cell = everything(jaxseq.dropout(make(H), recurrent=0.3, per_step=given == "params"), given)
    check(cell)
    check(jaxseq.dropout(jaxseq.zoneout(cell, h=0.2), recurrent=0.3))


def test_functions_are_called_as_they_say(x64):
    """The leak in NumPy, step by step; towards a learned carry its gradient is that of autodiff."""
    cell = own.leaking(jaxseq.learned_carry(jaxseq.gru(H)), 0.25)
    params = params_of(cell)
    last, ys = jax.tree.map(np.asarray, jaxseq.unroll(cell, params, XS))
    step = jax.jit(functools.partial(jaxseq.step, jaxseq.gru(H)))
    h = np.broadcast_to(params.carry, (B, H))
    for x, y in zip(XS, ys, strict=True):
        new, _ = jax.tree.map(np.asarray, step(params.params, h, x))
        np.testing.assert_allclose(y, 0.75 * new, rtol=1e-12)
        h = 0.75 * new + 0.25 * np.asarray(params.carry)
    np.testing.assert_allclose(last, h, rtol=1e-12)
    check(cell)
    check(own.leaking(jaxseq.dropout(jaxseq.lstm(H), recurrent=0.2, per_step=True)))


@jaxseq.factory
def with_memory(cell):
    """The memory of every step beside the output, as in docs/recipes.md."""

    def leave(given, u, before, new, y):
        return new, jnp.concatenate([y, new.c], axis=-1)

    return around(cell, leave=leave, size=2 * cell.size)


@pytest.mark.learn
def test_outputs_of_another_size_are_the_carries_of_every_step(x64):
    cell, plain = with_memory(jaxseq.lstm(H)), jaxseq.lstm(H)
    params = params_of(cell)
    assert cell.size == 2 * H
    run = jax.jit(lambda: jaxseq.unroll(cell, params, XS, mask=MASK, reset=RESET))
    ys, cs = np.split(np.asarray(run()[1]), 2, axis=-1)
    step, carry = jax.jit(functools.partial(jaxseq.step, plain, params)), plain.carry(params, (B,))
    for t, (x, mask, reset) in enumerate(zip(XS, MASK, RESET, strict=True)):
        start = jax.tree.map(lambda c, reset=reset: jnp.where(reset[:, None], 0, c), carry)
        new, y = step(start, x)
        carry = jax.tree.map(lambda new, old, mask=mask: jnp.where(mask[:, None], new, old), new, start)
        zoo.assert_close((ys[t], cs[t]), (mask[:, None] * y, mask[:, None] * new.c), 1e-12)
    zoo.assert_close(run()[0], carry, 1e-12)
    check(cell)
    check(with_memory(jaxseq.zoneout(jaxseq.dropout(plain, recurrent=0.3), c=0.2)))
    check(own.leaking(jaxseq.dropout(cell, recurrent=0.2, per_step=True)))


def test_what_is_given_without_a_draw_stands_beside_xs(x64):
    """As masks do: here a push of the carry at every step."""
    cell = around(jaxseq.gru(H), given="xs", enter=lambda push, u, h: h + jnp.where(push, 1.0, 0.0)[..., None])
    params, step = params_of(jaxseq.gru(H)), jax.jit(functools.partial(jaxseq.step, jaxseq.gru(H)))
    for kernel in (kernels.scan, kernels.bptt):
        _, ys = jax.jit(lambda *given: kernel(cell, *given))(params, np.zeros((B, H)), Augmented(XS, MASK))  # noqa: B023
        h = np.zeros((B, H))
        for x, push, y in zip(XS, MASK, np.asarray(ys), strict=True):
            h, want = jax.tree.map(np.asarray, step(params, h + push[:, None], x))
            np.testing.assert_allclose(y, want, rtol=1e-12)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ({"enter": lambda given, u, carry: jax.tree.map(jnp.tanh, carry)}, "`enter` must be linear in floats"),
        ({"enter": lambda given, u, carry: jax.tree.map(lambda x: x * x, carry)}, "`enter` must be linear in floats"),
        (
            {"leave": lambda given, u, before, new, y: (jax.tree.map(jnp.multiply, before, new), y)},
            "`leave` must be linear in floats",
        ),
        (
            {"extra": lambda given, params, xs: xs[..., :1], "hear": lambda given, u, h: u * h},
            "`hear` must be linear in floats",
        ),
    ],
)
def test_what_is_not_linear_is_refused_and_left_to_jax_where_that_is_asked_for(functions, message, x64):
    def gradient(cell):
        return jax.jit(jax.grad(lambda params: jaxseq.unroll(cell, params, XS)[1].sum()))(params_of(cell))

    cell = around(jaxseq.lstm(H), **functions)
    with pytest.raises(ValueError, match=message):
        gradient(cell)
    cell = around(jaxseq.lstm(H)._replace(backward=None), **functions)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient(cell)))


@pytest.mark.parametrize(
    ("functions", "error", "message"),
    [
        ({"enter": 3}, TypeError, r"`enter` must be a function of 3 arguments by position; got 3"),
        ({"leave": lambda new, y: (new, y)}, TypeError, r"`leave` must be a function of 5 .* takes \(new, y\)"),
        ({"size": 3}, ValueError, "`size` is the size of the outputs that `leave` returns, and there is no `leave`"),
        ({"size": 0, "leave": lambda given, u, before, new, y: (new, y)}, ValueError, "`size` must be a positive int"),
        ({"given": "carry"}, ValueError, r"`given` must be None or 'xs' or 'params'; got 'carry'"),
    ],
)
def test_wrong_arguments(functions, error, message):
    with pytest.raises(error, match=message):
        around(jaxseq.lstm(H), **functions)


@pytest.mark.parametrize(
    "functions",
    [
        {"leave": lambda given, u, before, new, y: new},
        {"leave": lambda given, u, before, new, y: (new, y[..., :1])},
        {"leave": lambda given, u, before, new, y: (jax.tree.map(lambda x: x.astype(jnp.bfloat16), new), y)},
        {"enter": lambda given, u, carry: carry.h},
        {"hear": lambda given, u, h: h[..., :1]},
    ],
)
def test_other_shapes_than_the_cells_are_named(functions):
    cell = around(jaxseq.lstm(H), **functions)
    (name,) = functions
    with pytest.raises(TypeError, match=f"`{name}` must return the shapes and dtypes of the cell's own step"):
        jaxseq.unroll(cell, params_of(cell), XS.astype(jnp.float32))


def test_only_a_cell_has_something_around_it():
    with pytest.raises(TypeError, match="Apply `around` to the cells inside it"):
        around(untyped(jaxseq.stack(jaxseq.lstm(H))))


def draws(function, given=None):
    def leave(drawn, u, before, new, y):
        return (new if drawn is None else jnp.where(drawn, new, before)), y

    return around(CELLS["gru"], draw=lambda key, params, xs: function(key), leave=leave, given=given)


class Reversed(NamedTuple):
    shift: jax.Array
    params: object


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: draws(lambda key: jax.random.bernoulli(key, 0.5, (T - 2, B, H))),
            ValueError,
            r"`draw` must return arrays that lead with the steps \[T, B\], \(6, 3\); got bool \(4, 3, 4\)",
        ),
        (
            lambda: draws(lambda key: jax.random.bernoulli(key, 0.5, (T, B, H)), given="params"),
            ValueError,
            r"`draw` must return arrays that lead with the batch \[B\], .*\(3,\); got bool \(6, 3, 4\)",
        ),
        (
            lambda: draws(lambda key: jax.random.uniform(key, (T, B, H))),
            TypeError,
            r"`draw` must return bools or ints, which have no gradient; got float",
        ),
        (
            lambda: around(CELLS["gru"], extra=lambda given, params, xs: jnp.ones((B, 1), xs.dtype)),
            ValueError,
            r"`extra` must return arrays that lead with the steps and the batch of xs, \(6, 3\); got float.* \(3, 1\)",
        ),
        (
            lambda: around(CELLS["gru"], extra=lambda given, params, xs: xs > 0),
            TypeError,
            r"`extra` must return floats; got bool",
        ),
        (
            lambda: around(CELLS["gru"], init=lambda key, in_size, dtype=None: {"a": 1.0}),
            TypeError,
            "`init` must return a NamedTuple whose first field holds what the inner cell's `init` returned; got dict",
        ),
        (
            lambda: around(
                CELLS["gru"],
                init=lambda key, in_size, dtype=None: Reversed(jnp.ones(H), CELLS["gru"].init(key, in_size, dtype)),
            ),
            TypeError,
            r"`init` must return a NamedTuple whose first .*GruParams.*; got Reversed whose `shift` is",
        ),
    ],
    ids=[
        "draw's steps",
        "draw's batch",
        "draw's floats",
        "extra's steps",
        "extra's bools",
        "init's dict",
        "init's order",
    ],
)
def test_the_function_that_returns_something_else_is_named(make, error, message):
    for cell in (make(), make()._replace(backward=None)):
        with pytest.raises(error, match=message):
            jaxseq.unroll(cell, cell.init(jax.random.key(0), D), XS.astype(np.float32), key=jax.random.key(1))


def test_an_error_inside_a_function_says_in_which_and_that_nothing_was_drawn():
    def leave(drawn, u, before, new, y):
        return jnp.where(drawn, new, before), y

    cell = around(CELLS["gru"], draw=lambda key, params, xs: jax.random.bernoulli(key, 0.5, (T, B, H)), leave=leave)
    params, xs = cell.init(jax.random.key(0), D), XS.astype(np.float32)
    jaxseq.unroll(cell, params, xs, key=jax.random.key(1))
    with pytest.raises(TypeError) as raised:
        jaxseq.unroll(cell, params, xs)
    assert "raised in the `leave` of jaxseq.around; `given` was None, as it is where `unroll` has no key" in (
        raised.value.__notes__
    )


@pytest.mark.some(3)
@pytest.mark.parametrize("wrapper", ["masked", "zoneout", "learned_carry"])
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.bfloat16])
def test_the_steps_of_a_linear_cell_are_what_its_step_does(wrapper, dtype, x64):
    """Without noise and with it, of all steps at once."""
    cell = WRAPPERS[wrapper](jaxseq.min_gru(H))
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), D, dtype))
    params, xs = zoo.random_like(shapes, 1), jnp.asarray(XS, dtype)
    if wrapper == "masked":
        params = params._replace(extra=jnp.broadcast_to(params.extra, (B, H)))
        xs = Augmented(xs, (jnp.asarray(MASK), jnp.asarray(RESET)))
    noises = [(params, xs)] if cell.noise is None else [(params, xs), cell.noise(jax.random.key(1), params, xs)]
    for noisy, inputs in noises:
        us, carry = cell.project(noisy, inputs), cell.carry(noisy, (B,))
        steps = cell.linear.element(noisy, us)
        for t in range(T):
            u, of_step = jax.tree.map(lambda leaf, t=t: leaf[t], (us, steps.whole()))
            _, observed = of_step.step(carry)
            carry, y = cell.step(noisy, carry, u)
            got = cell.linear.read(noisy, observed, u)
            assert got.dtype == y.dtype == dtype
            np.testing.assert_allclose(got, y, rtol=1e-12 if dtype == jnp.float64 else 1e-2)
