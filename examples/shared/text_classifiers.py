"""How nets are taught to classify texts: some words of a text are dropped, and labels smoothed, in training alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from examples.data.reviews import Reviews
from jaxseq import data
from jaxseq.train import losses, metrics

UNKNOWN = 1  # the id of a word that is dropped


def batches(
    vocabulary: data.Vocabulary, part: Reviews, batch_size: int, words: int, seed: int | None = None
) -> data.Loader:
    """Returns batches of the first words of texts, with their labels: one shape for all."""
    ids = [vocabulary.encode(data.words(text)[:words]) for text in part.texts]
    return data.bucketed(ids, {"labels": part.labels}, batch_size, multiple=words, seed=seed)


def read(model: Callable[..., jax.Array], batch: Mapping[str, Any], key: jax.Array | None, dropped: float) -> jax.Array:
    """Returns the model's logits `[B, K]`; with a key, a share `dropped` of the words is unknown to it."""
    words_key, net_key = (None, None) if key is None else jax.random.split(key)
    ids = data.token_dropout(words_key, batch["xs"], dropped, UNKNOWN, mask=batch["mask"])
    return model(ids, mask=batch["mask"], key=net_key)


def score(logits: jax.Array, batch: Mapping[str, Any], smoothing: float = 0.0) -> tuple[metrics.Mean, dict]:
    """Returns the cross-entropy, and the accuracy, of the rows that are real."""
    loss = losses.cross_entropy(logits, batch["labels"], smoothing=smoothing, mask=batch["real"])
    accuracy = metrics.accuracy(logits.argmax(-1), batch["labels"], mask=batch["real"])
    return metrics.mean(loss, mask=batch["real"]), {"accuracy": accuracy}


def of_each(loss_fn: Callable, count: int) -> Callable:
    """Returns the loss of `count` nets whose params lead with an axis of nets: the means, and the accuracy of each."""

    def losses_fn(members, batch, key):
        loss, aux = jax.vmap(lambda params: loss_fn(params, batch, key))(members)
        mean_loss, mean_accuracy = jax.tree.map(lambda x: x.sum(0), (loss, aux["accuracy"]))
        each = {f"{i}": jax.tree.map(lambda x, i=i: x[i], aux["accuracy"]) for i in range(count)}
        return mean_loss, {"accuracy": mean_accuracy, "each": each}

    return losses_fn


def spread(values: dict[str, float]) -> tuple[float, float]:
    """Returns mean and standard deviation of the accuracies, of what an evaluator of `of_each` returns."""
    each = [value for name, value in values.items() if name.startswith("each/")]
    return float(np.mean(each)), float(np.std(each))


def classify(vote: Callable, members: nnx.State, ids: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """Returns the probabilities `[N, K]` of N texts: what `vote`, of params and a batch, says of their ids."""
    found = []
    for batch in data.bucketed(ids, {"index": np.arange(len(ids))}, batch_size).epoch(0):
        index = batch.pop("index")[batch["real"]]
        found.append((index, np.asarray(vote(members, batch))[batch["real"]]))
    rows = np.concatenate([rows for _, rows in found])
    return rows[np.argsort(np.concatenate([index for index, _ in found]))]
