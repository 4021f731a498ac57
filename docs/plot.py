"""Trains two small nets and draws what goes on in them, into docs/static: `python docs/plot.py`, in about a minute.

Gates: an LSTM is shown one of two symbols, then noise, and is asked at the end. Alignment: a sequence to sequence model
with attention writes a row of digits backwards.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import optax
from flax import nnx

import jaxseq
from jaxseq import diagnostics, nn

STATIC = Path(__file__).parent / "static"


def fit(loss, params, steps, rate):
    """Returns the params after so many steps of Adam; `loss(params, key)` draws its batch from the key."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    @jax.jit
    def step(params, state, key):
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    for key in jax.random.split(jax.random.key(0), steps):
        params, state, value = step(params, state, key)
    print(f"loss {value:.4f}")
    return params


def gates(path, T=30, B=64):
    """Draws the gates of an LSTM that remembers the symbol of the first step to the last."""
    cell = jaxseq.lstm(8)

    def batch(key):
        cue, noise = jax.random.split(key)
        labels = jax.random.randint(cue, (B,), 0, 2)
        xs = jax.random.normal(noise, (T, B, 3)).at[:, :, :2].set(0).at[0, :, :2].set(jax.nn.one_hot(labels, 2))
        return xs, labels

    def loss(params, key):
        xs, labels = batch(key)
        logits = jaxseq.unroll(cell, params["cell"], xs)[1][-1] @ params["head"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    keys = jax.random.split(jax.random.key(1))
    start = {"cell": cell.init(keys[0], 3), "head": jax.random.normal(keys[1], (8, 2)) / 3}
    params = fit(loss, start, 1000, 0.01)
    traces = diagnostics.gate_traces(cell, params["cell"], batch(keys[0])[0])
    names = {"input gate i": "i", "forget gate f": "f", "memory c that enters": "c"}
    axes = diagnostics.plot_gates({title: traces[name][:, 0] for title, name in names.items()})
    axes[0].figure.savefig(path, dpi=110)


def alignment(path, length=8, B=64):
    """Draws where a model that writes digits backwards looks."""
    ids = {"source_vocabulary": 12, "target_vocabulary": 12, "features": 16, "start": 10, "end": 11}
    encoder, decoder = jaxseq.bidirectional(jaxseq.gru(24)), jaxseq.gru(32)
    graph, params = nnx.split(nn.Seq2Seq(encoder, decoder, **ids, rngs=nnx.Rngs(0)), nnx.Param)

    def loss(params, key):
        source = jax.random.randint(key, (B, length), 0, 10)
        return nnx.merge(graph, params).loss(source, source[:, ::-1]).mean()

    model = nnx.merge(graph, fit(loss, params, 1500, 0.005))
    source = jnp.array([[3, 1, 4, 1, 5, 9, 2, 6]])
    digits = [str(digit) for digit in source[0].tolist()]
    weights = model.alignments(source, source[:, ::-1])[0]
    axes = diagnostics.plot_alignment(weights, source=digits, target=[*digits[::-1], "end"])
    axes.figure.savefig(path, dpi=110)


if __name__ == "__main__":
    mpl.use("agg")
    gates(STATIC / "gates.png")
    alignment(STATIC / "alignment.png")
