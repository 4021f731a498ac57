"""Every cell and kernel that the laws are proved for, each cell beside its NumPy form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxseq
from jaxseq import Backward, Cell, kernels
from tests import reference

SIZE = 4


class Entry(NamedTuple):
    cell: Cell
    form: reference.Form


def tanh_tanh(a):
    return jnp.tanh(jnp.tanh(a))


def own_lstm(size):
    """A user's own cell: the LSTM whose output gate sees tanh(c_t)."""

    def init(key, in_size, dtype=None):
        key_x, key_h, key_o = jax.random.split(key, 3)
        draw = jax.nn.initializers.glorot_uniform()
        return {
            "w_x": draw(key_x, (in_size, 3 * size), dtype),
            "w_h": draw(key_h, (size, 3 * size), dtype),
            "b": jnp.zeros(3 * size, dtype),
            "w_o": draw(key_o, (size, size), dtype),
            "b_o": jnp.zeros(size, dtype),
        }

    def carry(params, batch_shape=()):
        return tuple(jnp.zeros((*batch_shape, size), params["w_h"].dtype) for _ in range(2))

    def project(params, xs):
        return xs @ params["w_x"] + params["b"]

    def step(params, carry, u):
        h, c = carry
        i, f, g = jnp.split(u + h @ params["w_h"], 3, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(jnp.tanh(c) @ params["w_o"] + params["b_o"]) * jnp.tanh(c)
        return (h, c), h

    return Cell(size, init, carry, project, step)


CELLS = {
    "rnn": Entry(jaxseq.rnn(SIZE), reference.rnn()),
    "rnn_sigmoid": Entry(jaxseq.rnn(SIZE, activation=jax.nn.sigmoid), reference.rnn(reference.sigmoid)),
    "rnn_relu": Entry(jaxseq.rnn(SIZE, activation=jax.nn.relu), reference.rnn(reference.relu)),
    "rnn_sine": Entry(jaxseq.rnn(SIZE, activation=jnp.sin), reference.rnn(reference.sine)),
    "lstm": Entry(jaxseq.lstm(SIZE), reference.lstm()),
    "lstm_sigmoid": Entry(jaxseq.lstm(SIZE, candidate=jax.nn.sigmoid), reference.lstm(candidate=reference.sigmoid)),
    "lstm_new": Entry(jaxseq.lstm(SIZE, peephole="new"), reference.lstm("new")),
    "lstm_old": Entry(jaxseq.lstm(SIZE, peephole="old"), reference.lstm("old")),
    "gru": Entry(jaxseq.gru(SIZE), reference.gru()),
    "gru_writes": Entry(jaxseq.gru(SIZE, update_writes=True), reference.gru(True, True)),
    "gru_before": Entry(jaxseq.gru(SIZE, reset_after=False), reference.gru(False, False)),
    "gru_before_writes": Entry(
        jaxseq.gru(SIZE, reset_after=False, update_writes=True, candidate=jax.nn.sigmoid),
        reference.gru(False, True, reference.sigmoid),
    ),
    "gru_tanh_tanh": Entry(
        jaxseq.gru(SIZE, reset_after=False, candidate=tanh_tanh), reference.gru(False, False, reference.tanh_tanh)
    ),
    "own": Entry(own_lstm(SIZE), reference.lstm_output_gate_sees_memory()),
}


def by_hand(cell, params, carry, xs, *, reverse=False):
    """A user's own kernel: a Python loop that projects each step apart."""
    T = jax.tree.leaves(xs)[0].shape[0]
    ys = [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        x = jax.tree.map(lambda x, t=t: x[t], xs)
        carry, ys[t] = cell.step(params, carry, cell.project(params, x))
    return carry, jnp.stack(ys)


KERNELS = {"scan": kernels.scan, "bptt": kernels.bptt, "remat": kernels.remat(3), "by_hand": by_hand}


def learned_carry(cell):
    """The cell with an initial carry that is a parameter: params `(params, carry of one row)`."""

    def init(key, in_size, dtype=None):
        params = cell.init(key, in_size, dtype)
        return params, cell.carry(params)

    def carry(params, batch_shape=()):
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), params[1])

    def collect(params, saved, d_us):
        return cell.backward.collect(params[0], saved, d_us), jax.tree.map(jnp.zeros_like, params[1])

    backward = cell.backward and Backward(
        lambda params, carry, u: cell.backward.fwd(params[0], carry, u),
        lambda params, saved, d_carry, d_y: cell.backward.bwd(params[0], saved, d_carry, d_y),
        collect,
    )
    return Cell(
        cell.size,
        init,
        carry,
        lambda params, xs: cell.project(params[0], xs),
        lambda params, carry, u: cell.step(params[0], carry, u),
        backward,
    )


def random_like(tree, seed, scale=0.5):
    """A tree of the same shapes and dtypes with normal entries; biases too, so that no gradient hides behind a zero."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(0, scale, leaf.shape), leaf.dtype), tree)


def as_dict(params):
    """Stock and own params as the reference takes them: a dict of NumPy arrays without Nones."""
    entries = params if isinstance(params, dict) else params._asdict()
    return {name: np.asarray(value) for name, value in entries.items() if value is not None}


def assert_close(got, want, tolerance, what=""):
    """Holds two pytrees of the same leaves together; the message names the leaf."""
    got_leaves, want_leaves = jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want)
    assert len(got_leaves) == len(want_leaves), what
    for (path, got_leaf), want_leaf in zip(got_leaves, want_leaves, strict=True):
        name = f"{what}{jax.tree_util.keystr(path)}"
        got_array, want_array = np.asarray(got_leaf, np.float64), np.asarray(want_leaf, np.float64)
        assert got_array.shape == want_array.shape, name
        np.testing.assert_allclose(got_array, want_array, rtol=tolerance, atol=tolerance, err_msg=name)
