"""check_bptt passes right cells and names the leaf of wrong ones."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import Backward, recurrences
from tests import zoo
from tests.forms.own import leaking
from tests.untyped import untyped

XS = jax.random.normal(jax.random.key(1), (5, 2, 3))
CELL = jaxseq.gru(4)
PARAMS = zoo.params_of(CELL, 3)
BY_HAND = {
    name: entry.cell
    for name, entry in zoo.CELLS.items()
    if isinstance(entry.cell, jaxseq.Cell) and (entry.cell.backward is not None or entry.cell.linear is not None)
}
# Finite differences once for each piece of code; the rest differ by an activation, and test_contract has them all.
DIFFERENT = [
    name for name in BY_HAND if name.split("_")[-1] not in ("relu", "sigmoid", "writes", "tanh", "exponential")
]
EACH = [
    name if name in ("rnn", "lstm", "gru", "own", "lru") else pytest.param(name, marks=pytest.mark.learn)
    for name in DIFFERENT
]


@pytest.mark.some(2, learn=10)
@pytest.mark.parametrize("name", EACH)
def test_the_stock_cells_pass(name):
    params = zoo.params_of(BY_HAND[name], 3)
    shapes = jax.eval_shape(lambda params: BY_HAND[name].carry(params, (2,)), params)
    carry = zoo.random_like(shapes, 2)
    if name.startswith("slstm"):
        carry = jax.tree.map(np.abs, carry)  # its n is not negative
    mask = jaxseq.lengths_to_mask([5, 3], 5)
    reset = np.arange(5)[:, None] == np.array([2, 2])
    jaxseq.check_bptt(BY_HAND[name], params, XS, carry, mask=mask, reset=reset, reverse=name != "rnn")


@pytest.mark.some(1)
@pytest.mark.parametrize(
    "cell",
    [jaxseq.slstm(4), jaxseq.learned_carry(jaxseq.slstm(4)), leaking(jaxseq.slstm(4, forget="exponential"))],
    ids=["default carry", "learned", "leaking"],
)
def test_from_the_kink_of_an_slstm_without_memory(cell):
    """At n = 0 a step does not depend on n, above it it does; an rnn of relu at zero has such kinks too."""
    jaxseq.check_bptt(cell, cell.init(jax.random.key(0), 3), XS)


def test_a_kink_hides_no_wrong_slope():
    @jax.custom_jvp
    def lying_relu(a):
        return jnp.maximum(a, 0)

    lying_relu.defjvp(lambda primals, tangents: (jnp.maximum(primals[0], 0), 2 * (primals[0] > 0) * tangents[0]))
    right, lying = (jaxseq.rnn(4, activation=activation) for activation in (jax.nn.relu, lying_relu))
    params = jax.tree.map(jnp.abs, right.init(jax.random.key(0), 3))
    jaxseq.check_bptt(right, params, jnp.zeros_like(XS))
    with pytest.raises(AssertionError, match=r"differs from finite differences in .*xs"):
        jaxseq.check_bptt(lying, params, jnp.zeros_like(XS))


BACKWARD = cast("jaxseq.Backward", CELL.backward)


def broken(**parts):
    return CELL._replace(backward=BACKWARD._replace(**parts))


def wrong_fwd(params, carry, u):
    carry, y, saved = BACKWARD.fwd(params, carry, u)
    return carry, y * 1.001, saved


def wrong_bwd(params, saved, d_carry, d_y):
    d_carry, d_u = BACKWARD.bwd(params, saved, d_carry, d_y)
    return d_carry * 1.001, d_u


def wrong_collect(params, saved, d_us):
    return BACKWARD.collect(params, saved, d_us)._replace(b_hn=jnp.zeros_like(params.b_hn))


def collect_counts_twice(params, saved, d_us):
    return BACKWARD.collect(params, saved, d_us)._replace(b=jnp.concatenate([d.sum((0, 1)) for d in d_us]))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"fwd": wrong_fwd}, r"`fwd` differs from `step` in ys, whose largest error is 0.\d+"),
        ({"bwd": wrong_bwd}, r"differs from autodiff's in .*carry"),
        ({"collect": wrong_collect}, r"differs from autodiff's in params.b_hn, whose largest error is \d"),
        ({"collect": collect_counts_twice}, r"differs from autodiff's in params.b, whose largest error is \d"),
    ],
    ids=["fwd", "bwd", "collect", "collect_twice"],
)
def test_a_wrong_part_is_named(parts, message):
    with pytest.raises(AssertionError, match=message):
        jaxseq.check_bptt(broken(**parts), PARAMS, XS)


def wrong_where_it_hears(params, saved, d_carry, d_y):
    d_carry, d_u = BACKWARD.bwd(params, saved, d_carry, d_y)
    return jaxseq.Heard(d_carry.carry, 3 * d_carry.h) if isinstance(d_carry, jaxseq.Heard) else d_carry, d_u


@pytest.mark.some(1)
@pytest.mark.parametrize(
    ("wrapper", "case"),
    [
        (lambda cell: cell, "with a `Heard` carry"),
        (lambda cell: jaxseq.dropout(cell, recurrent=0.3), "with noise and a `Heard` carry"),
        (lambda cell: jaxseq.zoneout(cell, h=0.1), "with noise and a `Heard` carry"),
    ],
    ids=["alone", "dropout", "zoneout"],
)
def test_what_is_wrong_under_heard_alone_is_found(wrapper, case):
    cell = wrapper(broken(bwd=wrong_where_it_hears))
    with pytest.raises(AssertionError, match=f"^{case}, the hand-written gradient differs from autodiff's in .*carry"):
        jaxseq.check_bptt(cell, PARAMS, XS)


def test_the_drawn_path_is_checked():
    """A gradient that is wrong where noise is drawn alone, and a wrapper that is not linear there."""
    dropped = jaxseq.dropout(jaxseq.lstm(4), recurrent=0.3)
    params, backward = dropped.init(jax.random.key(0), 3), dropped.backward
    assert backward is not None

    def bwd(params, saved, d_carry, d_y):
        d_carry, d_u = backward.bwd(params, saved, d_carry, d_y)
        return jax.tree.map(lambda d: 2 * d, d_carry) if isinstance(params, jaxseq.Augmented) else d_carry, d_u

    wrong = dropped._replace(backward=backward._replace(bwd=bwd))
    for key in (None, jax.random.key(5)):
        with pytest.raises(AssertionError, match=r"^with noise, the hand-written gradient .* in .*carry"):
            jaxseq.check_bptt(wrong, params, XS, key=key)

    def leave(drawn, u, before, new, y):
        return new if drawn is None else jnp.where(drawn[..., None], new * new, new), y

    cell = jaxseq.around(CELL, draw=lambda key, params, xs: jax.random.bernoulli(key, 0.5, xs.shape[:-1]), leave=leave)
    with pytest.raises(ValueError, match="`leave` must be linear in floats"):
        jaxseq.check_bptt(cell, PARAMS, XS)
    with pytest.raises(TypeError, match=r"`key` must be a jax.random.key"):
        jaxseq.check_bptt(cell, PARAMS, XS, key=untyped(0))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda element: element._replace(b=1.001 * element.b), r"^`linear`, by kernels.bptt, differs from `step` in"),
        (lambda element: OneByOne(*element), r"^`linear`, by kernels.chunkwise\(2\), differs from `step` in .*ys"),
        (
            lambda element: Twice(*element),
            r"^the hand-written gradient, by kernels.associative, differs .* carry, whose",
        ),
    ],
    ids=["element", "chunks", "gradient"],
)
def test_a_linear_cell_is_checked_by_each_kernel_that_runs_it(broken, message):
    right = jaxseq.min_gru(4)
    linear = right.linear
    assert linear is not None
    cell = right._replace(linear=linear._replace(element=lambda params, us: broken(linear.element(params, us))))
    with pytest.raises(AssertionError, match=message):
        jaxseq.check_bptt(cell, right.init(jax.random.key(0), 3), XS)


class OneByOne(recurrences.Diagonal):
    """In chunks, the second step of each is lost."""

    def in_chunks(self, carry, steps):
        return super().hold(jnp.arange(self.b.shape[0]) % 2 == 0).in_chunks(carry, steps)


class Twice(recurrences.Diagonal):
    """All at once, the gradient of the carry counts twice."""

    def at_once(self, carry):
        return super().at_once(2 * carry - jax.lax.stop_gradient(carry))


def test_finite_differences_catch_what_autodiff_repeats():
    """A step whose own derivative is a lie to JAX, with a backward that repeats the lie, fails against differences."""

    @jax.custom_jvp
    def lying_tanh(a):
        return jnp.tanh(a)

    lying_tanh.defjvp(lambda primals, tangents: (jnp.tanh(primals[0]), tangents[0]))
    cell = jaxseq.rnn(4, activation=lying_tanh)
    with pytest.raises(AssertionError, match=r"along a random direction, differs from finite differences in .*params"):
        jaxseq.check_bptt(cell, cell.init(jax.random.key(0), 3), XS)


def test_a_users_own_backward():
    """A leaky integrator h' = a h + (1 - a) u with its gradient by hand."""

    def fwd(params, h, u):
        new = params["a"] * h + (1 - params["a"]) * u
        return new, new, (h, u)

    def bwd(params, saved, d_carry, d_y):
        d_h = d_carry + d_y
        return params["a"] * d_h, (1 - params["a"]) * d_h

    def collect(params, saved, d_us):
        h, u = saved
        d_h = d_us / (1 - params["a"])
        return {"a": (d_h * (h - u)).sum(tuple(range(d_h.ndim - 1))), "w": jnp.zeros_like(params["w"])}

    cell = jaxseq.Cell(
        2,
        lambda key, in_size, dtype=None: {
            "a": jnp.full(2, 0.7, dtype),
            "w": jax.random.normal(key, (in_size, 2), dtype),
        },
        lambda params, batch_shape=(): jnp.zeros((*batch_shape, 2), params["w"].dtype),
        lambda params, xs: xs @ params["w"],
        lambda params, carry, u: fwd(params, carry, u)[:2],
        Backward(fwd, bwd, collect),
    )
    params = cell.init(jax.random.key(0), 3, jnp.float32)
    jaxseq.check_bptt(cell, params, XS)
    with pytest.raises(AssertionError, match="params"):
        jaxseq.check_bptt(
            cell._replace(backward=Backward(fwd, bwd, lambda *a: jax.tree.map(jnp.negative, collect(*a)))), params, XS
        )


def test_a_cell_without_backward_is_refused():
    cell = zoo.own_lstm(4)
    with pytest.raises(ValueError, match="no hand-written gradient"):
        jaxseq.check_bptt(cell, cell.init(jax.random.key(0), 3), XS)


@pytest.mark.parametrize(
    ("xs", "options"),
    [
        (XS[:1], {}),
        (XS[:, :0], {}),
        (XS, {"mask": jnp.zeros((5, 2), bool)}),
    ],
    ids=["one step", "no rows", "all masked"],
)
def test_a_check_of_nothing_is_refused(xs, options):
    with pytest.raises(ValueError, match="nothing to check"):
        jaxseq.check_bptt(CELL, PARAMS, xs, **options)


def test_a_list_is_refused_as_unroll_does():
    with pytest.raises(TypeError, match=r"`xs` must be an array \[T, B, D\]; got list"):
        jaxseq.check_bptt(CELL, PARAMS, untyped([[1.0]]))


def test_integer_leaves_are_refused():
    with pytest.raises(ValueError, match="must be floating or complex"):
        jaxseq.check_bptt(CELL, PARAMS._replace(b=jnp.zeros(12, int)), XS)


def test_activations_need_not_be_elementwise_or_differentiable_forwards():
    """The backward of an activation is its vjp: softmax, and a straight-through sign that has a custom one."""

    @jax.custom_vjp
    def sign(a):
        return jnp.sign(a)

    sign.defvjp(lambda a: (jnp.sign(a), None), lambda _, d: (d,))
    for activation in (jax.nn.softmax, sign):
        cell = jaxseq.rnn(4, activation=activation)
        params = cell.init(jax.random.key(0), 3)

        def loss(params, kernel, cell=cell):
            return jnp.sum(jnp.sin(jaxseq.unroll(cell, params, XS, kernel=kernel)[1]))

        got, want = (jax.grad(loss)(params, kernel) for kernel in (jaxseq.kernels.bptt, jaxseq.kernels.scan))
        zoo.assert_close(got, want, 1e-5)
