"""Language models of characters: what they are trained on, and how many bits they need for a text."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseq import data, nn
from jaxseq.train import losses, metrics


def shuffled_pieces(documents: list[np.ndarray], length: int = 2000) -> list[np.ndarray]:
    """Returns the documents cut into pieces and mixed: what is read one after the other is of many works.

    Read from beginning to end, a few works at a time, the model may adapt to those and forget the others.
    """
    pieces = [document[i : i + length + 1] for document in documents for i in range(0, len(document) - 1, length)]
    return [pieces[i] for i in np.random.default_rng(0).permutation(len(pieces))]


@nnx.jit
def read_on(model: nn.LanguageModel, carry, xs: jax.Array, targets: jax.Array, mask: jax.Array):
    """Returns the carry after `xs [B, T]`, and the bits `[B, T]` of what came next."""
    carry, logits = model.unroll(xs, carry, mask=mask)
    return carry, losses.cross_entropy(logits, targets, mask=mask) / math.log(2)


def bits_by_id(model: nn.LanguageModel, documents: list[np.ndarray]) -> np.ndarray:
    """Returns the bits `[N]` of each id but the first ones, a document after the other, each read from its start."""
    xs, mask = data.pad([document[:-1] for document in documents], multiple=250)
    targets = data.pad([document[1:] for document in documents], multiple=250).xs
    carry, bits = model.initial_carry((len(documents),)), []
    for start in range(0, xs.shape[1], 250):
        batch = [jnp.asarray(array[:, start : start + 250]) for array in (xs, targets, mask)]
        carry, more = read_on(model, carry, *batch)
        bits.append(more)
    return np.concatenate(bits, axis=1)[mask]


def make_loss(graph: nnx.GraphDef, *, carried: bool = True) -> Callable:
    """Returns the loss, nats a character, and the bits; `carried`: the model's carry is handed on from batch to batch.

    Where a batch has `"scored"`, the loss is of those characters alone.
    """

    def loss_fn(params, batch, key, carry):
        model, scored = nnx.merge(graph, params), batch.get("scored", batch["mask"])
        carry, logits = model.unroll(batch["xs"], carry, mask=batch["mask"], reset=batch["reset"], key=key)
        nats = losses.cross_entropy(logits, batch["targets"], mask=scored)
        return metrics.mean(nats, mask=scored), {"bits": metrics.mean(nats / math.log(2), mask=scored)}, carry

    return loss_fn if carried else lambda params, batch, key: loss_fn(params, batch, key, None)[:2]
