import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxseq
from jaxseq import diagnostics
from tests import zoo
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

T, D, H = 5, 3, 4


def numbers_like(tree, seed):
    """As `zoo.random_like`, but NumPy arrays."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: generator.normal(0, 0.5, leaf.shape).astype(leaf.dtype), tree)


def made(net, seed=0):
    params = numbers_like(jax.eval_shape(lambda key: net.init(key, D), jax.random.key(0)), seed)
    xs = np.random.default_rng(seed + 1).normal(size=(T, D))
    return params, xs, numbers_like(jax.eval_shape(net.carry, params), seed + 2)


def random_matrices(steps=T, n=3):
    return np.random.default_rng(7).normal(size=(steps, n, n))


def test_the_rnn_has_slope_times_weight():
    """∂h'_i / ∂h_j = (1 - h'_i²) W_ji."""
    cell = jaxseq.rnn(H)
    params, xs, carry = made(cell)
    w_x, w_h, b = map(np.asarray, params)
    h, want = np.asarray(carry), []
    for x in np.asarray(xs):
        h = np.tanh(x @ w_x + b + h @ w_h)
        want.append(np.diag(1 - h**2) @ w_h.T)
    np.testing.assert_allclose(diagnostics.jacobians(cell, params, xs, carry), want, rtol=1e-12, atol=1e-14)


NETS = {
    "gru": jaxseq.gru(H),
    "own": zoo.own_lstm(H),
    "stack": jaxseq.stack(jaxseq.lstm(H, peephole="new"), jaxseq.residual(jaxseq.zoneout(jaxseq.gru(H), h=0.2))),
}


@pytest.mark.some(1)
@pytest.mark.parametrize("name", NETS)
def test_each_is_the_step_by_finite_differences(name):
    net = NETS[name]
    params, xs, carry = made(net)
    got = np.asarray(diagnostics.jacobians(net, params, xs, carry))
    flat, unravel = ravel_pytree(carry)
    steps = jax.jit(jax.vmap(lambda flat, x: ravel_pytree(jaxseq.step(net, params, unravel(flat), x)[0])[0], (0, None)))
    nudges = 1e-6 * np.concatenate([np.zeros((1, flat.size)), np.eye(flat.size), -np.eye(flat.size)])
    for t, x in enumerate(xs):
        after, *around = np.asarray(steps(flat + nudges, x))
        up, down = np.split(np.stack(around), 2)
        np.testing.assert_allclose(got[t], (up - down).T / 2e-6, atol=1e-9, err_msg=f"step {t}")
        flat = after


def test_their_product_is_the_gradient_through_the_whole_sequence():
    net = NETS["stack"]
    params, xs, carry = made(net)
    flat, unravel = ravel_pytree(carry)

    @jax.jit
    def run(flat):
        whole = jax.jacrev(lambda flat: ravel_pytree(jaxseq.unroll(net, params, xs, unravel(flat))[0])[0])(flat)
        return whole, diagnostics.jacobians(net, params, xs, unravel(flat))

    whole, each = map(np.asarray, run(flat))
    product = np.linalg.multi_dot(each[::-1])
    np.testing.assert_allclose(product, whole, rtol=1e-10, atol=1e-12)


def test_without_a_carry_a_sequence_starts_and_vmap_takes_a_batch():
    cell = jaxseq.lstm(H)
    params, xs, _ = made(cell)
    xs, start = np.stack([xs, -xs], axis=1), jax.tree.map(np.asarray, cell.carry(params))
    batch = jax.jit(jax.vmap(lambda xs: diagnostics.jacobians(cell, params, xs), in_axes=1))(xs)
    for row in range(2):
        one = diagnostics.jacobians(cell, params, xs[:, row], start)
        np.testing.assert_allclose(np.asarray(batch)[row], one, rtol=1e-12, atol=1e-14)


def test_singular_values_are_those_of_the_products():
    matrices = random_matrices()
    got = np.asarray(jax.jit(diagnostics.jacobian_singular_values)(matrices))
    for t in range(T):
        product = np.eye(3)
        for matrix in matrices[: t + 1]:
            product = matrix @ product
        np.testing.assert_allclose(got[t], np.linalg.svd(product, compute_uv=False), rtol=1e-10)


def test_exponents_add_up_to_the_mean_log_determinant():
    matrices = random_matrices()
    got = np.asarray(jax.jit(diagnostics.lyapunov_exponents)(matrices))
    np.testing.assert_allclose(np.sum(got), np.mean(np.log(np.abs(np.linalg.det(matrices)))), rtol=1e-12)
    assert np.all(np.diff(got) <= 0)


def test_exponents_of_one_matrix_are_the_logs_of_its_eigenvalues():
    """Exact for diagonal matrices; for others up to what the first steps add, a constant over T."""
    diagonal = np.tile(np.diag([0.5, 3.0, 0.0]), (4, 1, 1))
    np.testing.assert_allclose(diagnostics.lyapunov_exponents(diagonal), [np.log(3), np.log(0.5), -np.inf], rtol=1e-12)
    (vectors,) = random_matrices(1)
    matrix = vectors @ np.diag([1.2, 0.9, 0.3]) @ np.linalg.inv(vectors)
    errors = []
    for steps in (100, 1000):
        got = np.asarray(jax.jit(diagnostics.lyapunov_exponents)(np.tile(matrix, (steps, 1, 1))))
        errors.append(np.max(np.abs(got - np.log([1.2, 0.9, 0.3]))))
    assert errors[0] < 0.05
    np.testing.assert_allclose(errors[1], errors[0] / 10, rtol=0.05)


def test_exponents_neither_overflow_nor_underflow():
    matrices = np.tile(np.diag(np.array([10, 0.1], np.float32)), (2000, 1, 1))
    np.testing.assert_allclose(diagnostics.lyapunov_exponents(matrices), [np.log(10), -np.log(10)], rtol=1e-6)


def test_errors():
    cell = jaxseq.rnn(H)
    params, xs, carry = made(cell)
    with pytest.raises(ValueError, match=r"`xs` must be \[T, D\], one sequence without batch axes; got \(5, 1, 3\)"):
        diagnostics.jacobians(cell, params, xs[:, None])
    with pytest.raises(ValueError, match="of at least 2 axes"):
        diagnostics.jacobians(cell, params, xs[0])
    with pytest.raises(ValueError, match="for inputs of D = 2 features"):
        diagnostics.jacobians(cell, params, xs[:, :2])
    with pytest.raises(ValueError, match="`carry` must be"):
        diagnostics.jacobians(cell, params, xs, carry[:2])
    with pytest.raises(TypeError, match="Did you pass the factory itself"):
        diagnostics.jacobians(untyped(jaxseq.rnn), params, xs)
    net = jaxseq.bidirectional(cell)
    with pytest.raises(ValueError, match="not causal"):
        diagnostics.jacobians(net, net.init(jax.random.key(0), D), xs)
    for function in (diagnostics.jacobian_singular_values, diagnostics.lyapunov_exponents):
        with pytest.raises(ValueError, match=r"`jacobians` must be \[T, n, n\]; got \(5, 3\)"):
            function(xs)
        with pytest.raises(TypeError, match="`jacobians` must be an array"):
            function(untyped([1.0]))
    with pytest.raises(ValueError, match="at least one step"):
        diagnostics.lyapunov_exponents(jnp.zeros((0, 2, 2)))


def test_plot_draws_each_singular_value(plt):
    values = jnp.array([[1.0, 0.5, 0.1], [2.0, 0.25, 0.0]])
    ax = diagnostics.plot_singular_values(values)
    kept, *lines = ax.get_lines()
    assert np.asarray(kept.get_ydata()).tolist() == [1, 1]
    np.testing.assert_array_equal([line.get_ydata() for line in lines], [[1, 2], [0.5, 0.25], [0.1, np.nan]])
    assert [np.asarray(line.get_xdata()).tolist() for line in lines] == [[1, 2]] * 3
    assert ax.get_yscale() == "log"
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["norm kept", "largest", "smallest"]
    assert diagnostics.plot_singular_values(values[:, :1], ax=ax) is ax
    ax.figure.canvas.draw()


def test_narrow_jacobians_are_widened():
    narrow = np.stack([np.diag([0.5, 2.0])] * 3).astype(jnp.bfloat16)
    np.testing.assert_allclose(np.asarray(diagnostics.jacobian_singular_values(narrow))[-1], [8, 0.125], rtol=1e-6)
    np.testing.assert_allclose(diagnostics.lyapunov_exponents(narrow), [np.log(2), -np.log(2)], rtol=1e-6)
