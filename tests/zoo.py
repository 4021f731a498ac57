"""Every cell, wrapper and kernel that the laws are proved for, each cell and net beside its NumPy form."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxseq
from jaxseq import Cell, Composite, kernels
from tests import reference, reference_forms, reference_nets

SIZE = 4


class Entry(NamedTuple):
    cell: Cell | Composite
    net: reference_nets.Net
    form: reference.Form | None = None  # of a cell


def cell_entry(cell, form, parts=1):
    """A cell whose carry has `parts` of its outputs' size."""
    return Entry(cell, reference_nets.cell(form, [cell.size] * parts), form)


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


def projected_lstm(projection, **options):
    form = reference.lstm(**options)
    cell = jaxseq.lstm(SIZE, projection=projection, **options)
    return Entry(cell, reference_nets.cell(form, [projection, SIZE]), form)


CELLS = {
    "rnn": cell_entry(jaxseq.rnn(SIZE), reference.rnn()),
    "lstm": cell_entry(jaxseq.lstm(SIZE), reference.lstm(), 2),
    "gru": cell_entry(jaxseq.gru(SIZE), reference.gru()),
    "gru_before": cell_entry(jaxseq.gru(SIZE, reset_after=False), reference.gru(False, False)),
    "own": cell_entry(own_lstm(SIZE), reference.lstm_output_gate_sees_memory(), 2),
    "rnn_sigmoid": cell_entry(jaxseq.rnn(SIZE, activation=jax.nn.sigmoid), reference.rnn(reference.sigmoid)),
    "rnn_relu": cell_entry(jaxseq.rnn(SIZE, activation=jax.nn.relu), reference.rnn(reference.relu)),
    "rnn_sine": cell_entry(jaxseq.rnn(SIZE, activation=jnp.sin), reference.rnn(reference.sine)),
    "lstm_sigmoid": cell_entry(
        jaxseq.lstm(SIZE, candidate=jax.nn.sigmoid), reference.lstm(candidate=reference.sigmoid), 2
    ),
    "lstm_new": cell_entry(jaxseq.lstm(SIZE, peephole="new"), reference.lstm("new"), 2),
    "lstm_old": cell_entry(jaxseq.lstm(SIZE, peephole="old"), reference.lstm("old"), 2),
    "lstm_projected": projected_lstm(3),
    "lstm_coupled": cell_entry(jaxseq.lstm(SIZE, coupled=True), reference.lstm(coupled=True), 2),
    "lstm_coupled_old": cell_entry(
        jaxseq.lstm(SIZE, coupled=True, peephole="old"), reference.lstm("old", coupled=True), 2
    ),
    "lstm_everything": projected_lstm(3, coupled=True, peephole="new", clip=0.4),
    "gru_writes": cell_entry(jaxseq.gru(SIZE, update_writes=True), reference.gru(True, True)),
    "gru_before_writes": cell_entry(
        jaxseq.gru(SIZE, reset_after=False, update_writes=True, candidate=jax.nn.sigmoid),
        reference.gru(False, True, reference.sigmoid),
    ),
    "gru_tanh_tanh": cell_entry(
        jaxseq.gru(SIZE, reset_after=False, candidate=tanh_tanh), reference.gru(False, False, reference.tanh_tanh)
    ),
    "layer_norm_lstm": cell_entry(jaxseq.layer_norm_lstm(SIZE), reference_forms.layer_norm_lstm(), 2),
    "layer_norm_gru": cell_entry(jaxseq.layer_norm_gru(SIZE), reference_forms.layer_norm_gru()),
    "conv_lstm": cell_entry(jaxseq.conv_lstm((3,), 2, peephole=True), reference_forms.conv_lstm(3, 2, 3), 2),
    "slstm": cell_entry(jaxseq.slstm(SIZE, heads=2), reference_forms.slstm(), 4),
    "slstm_exponential": cell_entry(jaxseq.slstm(SIZE, forget="exponential"), reference_forms.slstm(True), 4),
}


def below(entry):
    """A layer that gives the entry's cell inputs of its own size."""
    return cell_entry(jaxseq.rnn(entry.cell.size), reference.rnn())


def stacked(entry):
    first = below(entry)
    return Entry(jaxseq.stack(first.cell, entry.cell), reference_nets.stack(first.net, entry.net))


def residual(entry):
    first = below(entry)
    net = jaxseq.stack(first.cell, jaxseq.residual(entry.cell))
    return Entry(net, reference_nets.stack(first.net, reference_nets.residual(entry.net)))


def bidirectional(entry):
    return Entry(jaxseq.bidirectional(entry.cell), reference_nets.bidirectional(entry.net, entry.net))


def bidirectional_sum(entry):
    other = below(entry)
    net = jaxseq.bidirectional(entry.cell, other.cell, merge="sum")
    return Entry(net, reference_nets.bidirectional(entry.net, other.net, "sum"))


def dropped(entry):
    """Dropout of inputs and outputs, which is nothing without a key."""
    return entry._replace(cell=jaxseq.dropout(entry.cell, inputs=0.3, outputs=0.3))


def recurrently_dropped(entry):
    return entry._replace(cell=jaxseq.dropout(entry.cell, recurrent=0.3))


def zoned(entry):
    """The mean of zoneout, of the parts h and c; of h where the other parts are scaled by one another."""
    sizes = [part.shape[-1] for part in entry.net.start(None, 1)]
    rates = {"h": 0.2, "c": 0.3} if len(sizes) == 2 else {"h": 0.2}
    form = reference_forms.zoneout(entry.form, *[*rates.values(), 0.0, 0.0, 0.0][: len(sizes)])
    return Entry(jaxseq.zoneout(entry.cell, **rates), reference_nets.cell(form, sizes), form)


def learned(entry):
    return Entry(jaxseq.learned_carry(entry.cell), reference_nets.learned_carry(entry.form), entry.form)


def deep(entry):
    """Three deep, causal: dropout around a stack of a residual stack."""
    first = below(entry)
    inner = jaxseq.residual(jaxseq.stack(entry.cell, jaxseq.residual(first.cell)))
    inner_net = reference_nets.residual(reference_nets.stack(entry.net, reference_nets.residual(first.net)))
    net = jaxseq.dropout(jaxseq.stack(first.cell, inner), inputs=0.2)
    return Entry(net, reference_nets.stack(first.net, inner_net))


def deep_bidirectional(entry):
    """Three deep, in both directions: bidirectional around a stack of a bidirectional and a learned carry."""
    inner, top = bidirectional_sum(entry), learned(below(entry))
    return bidirectional(Entry(jaxseq.stack(inner.cell, top.cell), reference_nets.stack(inner.net, top.net)))


WRAPPERS = {
    "stack": stacked,
    "residual": residual,
    "bidirectional": bidirectional,
    "bidirectional_sum": bidirectional_sum,
    "dropout": dropped,
    "recurrent_dropout": recurrently_dropped,
    "zoneout": zoned,
    "learned_carry": learned,
    "deep": deep,
    "deep_bidirectional": deep_bidirectional,
}
BY_NAME = ("zoneout", "recurrent_dropout")  # they act on parts of the carry by name, which a plain tuple has not


@functools.cache
def find(name):
    """The entry of a cell, or of a wrapped one, `wrapper(cell)`."""
    if name in CELLS:
        return CELLS[name]
    wrapper, cell = name.removesuffix(")").split("(")
    return WRAPPERS[wrapper](CELLS[cell])


def wrapped(wrapper):
    """The names of all cells in a wrapper."""
    return [f"{wrapper}({cell})" for cell in CELLS if not (wrapper in BY_NAME and cell == "own")]


def by_hand(cell, params, carry, xs, *, reverse=False):
    """A user's own kernel: a Python loop that projects each step apart."""
    T = jax.tree.leaves(xs)[0].shape[0]
    ys = [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        x = jax.tree.map(lambda x, t=t: x[t], xs)
        carry, ys[t] = cell.step(params, carry, cell.project(params, x))
    return carry, jnp.stack(ys)


KERNELS = {"scan": kernels.scan, "bptt": kernels.bptt, "remat": kernels.remat(3), "by_hand": by_hand}


def random_like(tree, seed, scale=0.5):
    """A tree of the same shapes and dtypes with normal entries; biases too, so that no gradient hides behind a zero."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(0, scale, leaf.shape), leaf.dtype), tree)


def as_reference(params):
    """Params as the reference takes them: dicts of NumPy arrays without Nones, in tuples where nets are nested."""
    if isinstance(params, jaxseq.LearnedCarry):
        return as_reference(params.params), tuple(map(np.asarray, jax.tree.leaves(params.carry)))
    if isinstance(params, jaxseq.Bidirectional) or type(params) is tuple:
        return tuple(map(as_reference, params))
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
