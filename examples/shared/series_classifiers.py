"""How nets are taught to classify series: noise is added to what they read, in training alone."""

from collections.abc import Callable

import jax
from flax import nnx

from jaxseq import data, train


def make_loss(graph: nnx.GraphDef, noise: float) -> Callable:
    """Returns the loss function of a sequence classifier; `noise` is in deviations of each feature."""

    def loss_fn(params, batch, key):
        key_noise, key_dropout = (None, None) if key is None else jax.random.split(key)
        xs = data.jitter(key_noise, batch["xs"], noise, mask=batch["mask"])
        logits = nnx.merge(graph, params)(xs, mask=batch["mask"], key=key_dropout)
        nll = train.losses.cross_entropy(logits, batch["labels"])
        return train.metrics.mean(nll), {"accuracy": train.metrics.accuracy(logits.argmax(-1), batch["labels"])}

    return loss_fn
