"""RNN, LSTM and GRU in their forms; their equations are those of tests/reference.py."""

import jax
import jax.numpy as jnp

import jaxseq
from tests import reference, reference_nets
from tests.forms.entry import SIZE, Entry, cell_entry


def tanh_tanh(a):
    return jnp.tanh(jnp.tanh(a))


def hard_sigmoid(a):
    """Keras 1's and 2's."""
    return jnp.clip(0.2 * a + 0.5, 0, 1)


def projected_lstm(projection, **options):
    form = reference.lstm(**options)
    cell = jaxseq.lstm(SIZE, projection=projection, **options)
    return Entry(cell, reference_nets.cell(form, [projection, SIZE]), form)


CELLS = {
    "rnn": cell_entry(jaxseq.rnn(SIZE), reference.rnn()),
    "lstm": cell_entry(jaxseq.lstm(SIZE), reference.lstm(), 2),
    "gru": cell_entry(jaxseq.gru(SIZE), reference.gru()),
    "gru_before": cell_entry(jaxseq.gru(SIZE, reset_after=False), reference.gru(False, False)),
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
    "lstm_hard": cell_entry(
        jaxseq.lstm(SIZE, peephole="new", gate=hard_sigmoid), reference.lstm("new", gate=reference.hard_sigmoid), 2
    ),
    "lstm_hard_coupled": cell_entry(
        jaxseq.lstm(SIZE, coupled=True, gate=hard_sigmoid, candidate=jax.nn.sigmoid),
        reference.lstm(candidate=reference.sigmoid, coupled=True, gate=reference.hard_sigmoid),
        2,
    ),
    "gru_hard": cell_entry(jaxseq.gru(SIZE, gate=hard_sigmoid), reference.gru(gate=reference.hard_sigmoid)),
    "gru_before_hard": cell_entry(
        jaxseq.gru(SIZE, reset_after=False, update_writes=True, gate=hard_sigmoid),
        reference.gru(False, True, gate=reference.hard_sigmoid),
    ),
    "gru_writes": cell_entry(jaxseq.gru(SIZE, update_writes=True), reference.gru(True, True)),
    "gru_before_writes": cell_entry(
        jaxseq.gru(SIZE, reset_after=False, update_writes=True, candidate=jax.nn.sigmoid),
        reference.gru(False, True, reference.sigmoid),
    ),
    "gru_tanh_tanh": cell_entry(
        jaxseq.gru(SIZE, reset_after=False, candidate=tanh_tanh), reference.gru(False, False, reference.tanh_tanh)
    ),
}
