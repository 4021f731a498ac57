from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import diagnostics
from tests import zoo
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

T, B, D, H = 4, 3, 2, 4


def numbers_like(tree, seed):
    """As `zoo.random_like`, but NumPy arrays."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: generator.normal(0, 0.5, leaf.shape).astype(leaf.dtype), tree)


def made(net, seed=0):
    params = numbers_like(jax.eval_shape(lambda key: net.init(key, D), jax.random.key(0)), seed)
    generator = np.random.default_rng(seed + 1)
    xs = generator.normal(size=(T, B, D))
    return params, xs, numbers_like(jax.eval_shape(lambda params: net.carry(params, (B,)), params), seed + 2)


def weighted(size, seed=9):
    """A loss that sees every step and feature otherwise, and is not linear."""
    weights = np.random.default_rng(seed).normal(size=(T, B, size))
    return lambda ys: jnp.sum(weights * ys + ys**2)


def flags(seed=5):
    generator = np.random.default_rng(seed)
    mask, reset = generator.random((T, B)) < 0.7, generator.random((T, B)) < 0.3
    reset[T // 2, 0] = mask[T // 2, 0] = True
    return mask, reset


@pytest.mark.some(1)
@pytest.mark.parametrize(
    "cell", [jaxseq.rnn(H), jaxseq.lstm(H, peephole="old"), zoo.own_lstm(H)], ids=["rnn", "lstm", "own"]
)
def test_entry_t_is_the_gradient_by_the_carry_that_enters_step_t(cell):
    params, xs, carry = made(cell)
    loss = weighted(H)

    @jax.jit
    def run(carry):
        step = jax.jit(lambda carry, x: jaxseq.step(cell, params, carry, x))
        found, before, want = diagnostics.carry_gradients(cell, params, xs, loss, carry), [], []
        for t in range(T):

            def loss_from(carry, t=t, before=tuple(before)):
                after = []
                for x in xs[t:]:
                    carry, y = step(carry, x)
                    after.append(y)
                return loss(jnp.stack([*before, *after]))

            want.append(jax.grad(loss_from)(carry))
            carry, y = step(carry, xs[t])
            before.append(y)
        return found, want

    got, want = jax.tree.map(np.asarray, run(carry))
    for t in range(T):
        zoo.assert_close(jax.tree.map(lambda leaf, t=t: leaf[t], got), want[t], 1e-12, f"step {t}")


def by_hand(cell, params, xs, carry, pushes, *, mask, reset, reverse=False):
    """A Python loop with masks and resets spelled out, whose carry is pushed before each step."""
    initial = cell.carry(params, (B,))
    ys: list[Any] = [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        border = t + 1 if reverse else t
        restart = reset[border][:, None] if border < T else np.zeros((B, 1), bool)
        real = mask[t][:, None]
        carry = jax.tree.map(lambda leaf, push, t=t: leaf + push[t], carry, pushes)
        carry = jax.tree.map(lambda new, old, restart=restart: jnp.where(restart, new, old), initial, carry)
        after, y = cell.step(params, carry, cell.project(params, xs[t]))
        carry = jax.tree.map(lambda new, old, real=real: jnp.where(real, new, old), after, carry)
        ys[t] = jnp.where(real, y, 0)
    return jnp.stack(ys)


def no_push(carry):
    return jax.tree.map(lambda leaf: np.zeros((T, *leaf.shape)), carry)


def test_stack_with_mask_and_reset():
    lower, upper = jaxseq.lstm(H), jaxseq.gru(H)
    net = jaxseq.stack(lower, upper)
    params, xs, carry = made(net)
    mask, reset = flags()
    loss = weighted(H)

    def pushed(pushes):
        ys = xs
        for cell, layer, start, push in zip((lower, upper), params, carry, pushes, strict=True):
            ys = by_hand(cell, layer, ys, start, push, mask=mask, reset=reset)
        return loss(ys)

    gradients = lambda carry: diagnostics.carry_gradients(net, params, xs, loss, carry, mask=mask, reset=reset)
    got = jax.tree.map(np.asarray, jax.jit(gradients)(carry))
    assert jax.tree.structure(got) == jax.tree.structure(carry)
    zoo.assert_close(got, jax.jit(jax.grad(pushed))(no_push(carry)), 1e-12)
    assert not np.any(got[1][reset])
    assert np.any(got[1][T - 1])


def test_bidirectional_with_mask_and_reset_from_the_last_step():
    ahead, back = jaxseq.rnn(H), jaxseq.lstm(H)
    net = jaxseq.bidirectional(ahead, back)
    params, xs, carry = made(net)
    mask, reset = flags()
    loss = weighted(2 * H)

    def pushed(pushes):
        both = [
            by_hand(cell, p, xs, c, push, mask=mask, reset=reset, reverse=direction)
            for cell, p, c, push, direction in zip((ahead, back), params, carry, pushes, (True, False), strict=True)
        ]
        return loss(jnp.concatenate(both, axis=-1))

    flagged = {"mask": mask, "reset": reset, "reverse": True}
    got = jax.jit(lambda carry: diagnostics.carry_gradients(net, params, xs, loss, carry, **flagged))(carry)
    assert isinstance(got, jaxseq.Bidirectional)
    zoo.assert_close(got, jax.jit(jax.grad(pushed))(no_push(carry)), 1e-12)


@pytest.mark.learn
def test_first_entries_of_a_deep_net_with_noise_are_the_gradient_by_its_carry():
    """Noise too is that of `unroll` with the key."""
    inner = jaxseq.bidirectional(jaxseq.zoneout(jaxseq.gru(H), h=0.3), jaxseq.learned_carry(jaxseq.rnn(H)), merge="sum")
    lower = jaxseq.dropout(jaxseq.lstm(H), inputs=0.2, recurrent=0.3, per_step=True)
    net = jaxseq.stack(lower, jaxseq.residual(inner))
    params, xs, carry = made(net)
    mask, reset = flags()
    reset[0] = False
    arguments = {"mask": mask, "reset": reset, "key": jax.random.key(3)}
    loss = weighted(H)

    @jax.jit
    def run(carry):
        of_loss = jax.grad(lambda carry: loss(jaxseq.unroll(net, params, xs, carry, **arguments)[1]))(carry)
        return diagnostics.carry_gradients(net, params, xs, loss, carry, **arguments), of_loss

    got, want = jax.tree.map(np.asarray, run(carry))
    zoo.assert_close(jax.tree.map(lambda leaf: leaf[0], (got[0], got[1].forward)), (want[0], want[1].forward), 1e-12)
    zoo.assert_close(got[1].backward[-1], want[1].backward, 1e-12)
    assert np.any(want[1].backward)


def test_norms_are_those_over_the_features():
    net = jaxseq.stack(jaxseq.lstm(H), jaxseq.gru(H))
    params, xs, carry = made(net)
    mask, reset = flags()
    arguments = (net, params, xs, weighted(H))

    @jax.jit
    def run(carry):
        both = diagnostics.carry_gradients, diagnostics.gradient_norms
        return [function(*arguments, carry, mask=mask, reset=reset) for function in both]

    gradients, norms = run(carry)
    zoo.assert_close(norms, jax.tree.map(lambda leaf: np.linalg.norm(leaf, axis=-1), gradients), 1e-14)


def test_norms_do_not_underflow_where_the_squares_do():
    cell = jaxseq.rnn(H, activation=jax.nn.relu)
    arrays = (np.zeros((D, H)), 1e-3 * np.eye(H), np.ones(H), np.zeros((10, D)))
    *params, xs = (array.astype(np.float32) for array in arrays)
    norms = jax.jit(
        lambda xs: diagnostics.gradient_norms(cell, jaxseq.RnnParams(*params), xs, lambda ys: ys[-1].sum())
    )(xs)
    np.testing.assert_allclose(norms, 2 * 1e-3 ** np.arange(10.0, 0, -1), rtol=1e-6)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_number_of_batch_axes(batch):
    cell = jaxseq.lstm(H)
    params, _, _ = made(cell)

    @jax.jit
    def run(xs):
        return [f(cell, params, xs, jnp.sum) for f in (diagnostics.carry_gradients, diagnostics.gradient_norms)]

    gradients, norms = run(np.ones((T, *batch, D)))
    zoo.assert_close(norms, jax.tree.map(lambda leaf: np.linalg.norm(leaf, axis=-1), gradients), 1e-14)
    assert norms.h.shape == (T, *batch)


def test_a_sequence_without_steps_has_no_entries():
    cell = jaxseq.gru(H)
    params, xs, _ = made(cell)
    assert diagnostics.gradient_norms(cell, params, xs[:0], jnp.sum).shape == (0, B)


def test_under_jit_and_without_compiling_twice(count_compilations):
    net = jaxseq.stack(jaxseq.lstm(H), jaxseq.gru(H))
    params, xs, _ = made(net)
    loss = weighted(H)

    def norms(xs):
        return diagnostics.gradient_norms(net, params, xs, loss)

    zoo.assert_close(jax.jit(norms)(xs), norms(xs), 1e-12)
    assert count_compilations(lambda: norms(xs)) == 0


def test_arguments_are_checked_as_by_unroll():
    cell = jaxseq.gru(H)
    params, xs, _ = made(cell)
    with pytest.raises(ValueError, match="`mask` must be bool"):
        diagnostics.gradient_norms(cell, params, xs, jnp.sum, mask=np.ones((B, T), bool))
    with pytest.raises(TypeError, match="Did you pass the factory itself"):
        diagnostics.carry_gradients(untyped(jaxseq.gru), params, xs, jnp.sum)
    with pytest.raises(TypeError, match="scalar-output"):
        diagnostics.carry_gradients(cell, params, xs, lambda ys: ys)


def test_plot_draws_each_leaf(plt):
    norms = {"lstm": jaxseq.LstmCarry(jnp.array([[1.0, 3.0], [0.0, 2.0]]), jnp.array([[0.5], [0.0]]))}
    ax = diagnostics.plot_gradient_norms(norms)
    h, c = ax.get_lines()
    np.testing.assert_array_equal(h.get_ydata(), [2, 1])
    np.testing.assert_array_equal(c.get_ydata(), [0.5, np.nan])
    assert ax.get_yscale() == "log"
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["lstm.h", "lstm.c"]
    band = np.asarray(ax.collections[0].get_paths()[0].vertices)
    assert {tuple(vertex) for vertex in band} == {(0, 1), (0, 3), (1, 2)}
    ax.figure.canvas.draw()


def test_plot_takes_axes_and_gradients_that_are_all_zero(plt):
    _, ax = plt.subplots()
    assert diagnostics.plot_gradient_norms(jnp.zeros((4, 2)), ax=ax) is ax
    assert ax.get_legend().get_texts()[0].get_text() == "carry"
    ax.figure.canvas.draw()
