"""What `pos_tagging` and `address_parsing` have in common: a tagger's loss, its decisions, and how they are shown.

A model gives scores of the tags `[B, T, K]` for a batch and a key, and has a field `crf`, None where each tag is chosen
by itself.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseq import data
from jaxseq.train import losses, metrics


def make_loss(graph: nnx.GraphDef) -> Callable:
    """Returns the loss function: nats a word, of the path or of each tag."""

    def loss_fn(params, batch, key):
        model, tags, mask = nnx.merge(graph, params), batch["tags"], batch["mask"]
        scores = model(batch, key)
        if model.crf is None:
            return metrics.mean(losses.cross_entropy(scores, tags, mask=mask), mask=mask), {}
        nats = -model.crf.log_likelihood(scores, tags, mask=mask)
        return metrics.Mean(jnp.sum(nats), jnp.sum(mask)), {}

    return loss_fn


@functools.cache
def make_decode(graph: nnx.GraphDef) -> Callable:
    """Returns the jitted function from params and a batch to tags `[B, T]`, the same one for equal graphs."""

    @jax.jit
    def decode(params, batch):
        model = nnx.merge(graph, params)
        scores = model(batch)
        return scores.argmax(-1) if model.crf is None else model.crf.decode(scores, mask=batch["mask"])

    return decode


def predict(decode: Callable, params: Any, sequences: dict[str, list[np.ndarray]]) -> list[np.ndarray]:
    """Returns the tags of each sequence, `[T_i]`."""
    count = len(next(iter(sequences.values())))
    found = [np.zeros(0, int)] * count
    for batch in data.bucketed(sequences, {"index": np.arange(count)}, 64).epoch(0):
        tags = np.asarray(decode(params, batch))
        for row in np.flatnonzero(batch["real"]):
            found[batch["index"][row]] = tags[row, batch["mask"][row]]
    return found


def timed(function: Callable[[], list[np.ndarray]]) -> tuple[list[np.ndarray], float]:
    """Returns what a tagger finds, and how many words a second, once it is compiled."""
    function()
    started = time.perf_counter()
    found = function()
    return found, sum(map(len, found)) / (time.perf_counter() - started)
