"""A net that classifies series, and how it is taught: noise is added to what it reads, in training only."""

from collections.abc import Callable

import jax
import optax
from flax import nnx

import jaxseq
from jaxseq import data, nn, train


def make_model(features: int, classes: int, size: int, key: jax.Array) -> nn.SequenceClassifier:
    """Returns a GRU in both directions whose outputs are averaged over time."""
    net = jaxseq.dropout(jaxseq.bidirectional(jaxseq.gru(size)), outputs=0.5)
    return nn.SequenceClassifier(net, features, classes, pooling="mean", rngs=nnx.Rngs(key))


def make_optimizer(steps: int) -> optax.GradientTransformation:
    """Returns AdamW with a rate that falls to zero in so many steps."""
    adam = optax.adamw(optax.cosine_decay_schedule(4e-3, steps), weight_decay=1e-2)
    return optax.chain(optax.clip_by_global_norm(1.0), adam)


def make_loss(graph: nnx.GraphDef, noise: float) -> Callable:
    """Returns the loss function of a sequence classifier; `noise` is in deviations of each feature."""

    def loss_fn(params, batch, key):
        key_noise, key_dropout = (None, None) if key is None else jax.random.split(key)
        xs = data.jitter(key_noise, batch["xs"], noise, mask=batch["mask"])
        logits = nnx.merge(graph, params)(xs, mask=batch["mask"], key=key_dropout)
        nll = train.losses.cross_entropy(logits, batch["labels"])
        return train.metrics.mean(nll), {"accuracy": train.metrics.accuracy(logits.argmax(-1), batch["labels"])}

    return loss_fn
