"""Pairs of sequences, such as a word and its sounds: batches, training and decoding by `nn.Seq2Seq`."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxseq import data, decoding, nn, train
from jaxseq.train import metrics


class Pairs(NamedTuple):
    """Ids of both sides, a pair each, the targets without start and end."""

    sources: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]


def batches(pairs: Pairs, batch_size: int, *, multiple: int, seed: int | None = None) -> data.Loader:
    """Returns batches of pairs whose sources are of about one length: `"source"`, `"target"` and their masks."""

    def both(batch):
        targets = [pairs.targets[i] if real else [] for i, real in zip(batch["index"], batch["real"], strict=True)]
        target, target_mask = data.pad(targets, multiple=multiple)
        source = {"source": batch["xs"], "source_mask": batch["mask"]}
        return {**source, "target": target, "target_mask": target_mask, "real": batch["real"]}

    index = {"index": np.arange(len(pairs.sources))}
    return data.bucketed(pairs.sources, index, batch_size, multiple=multiple, seed=seed).map(both)


def make_loss(graph: nnx.GraphDef, smoothing: float = 0.0) -> Callable:
    """Returns the loss in nats an id of the target, its end among them; in training with label smoothing."""

    def loss_fn(params, batch, key):
        masks = {"source_mask": batch["source_mask"], "target_mask": batch["target_mask"]}
        model, smoothed = nnx.merge(graph, params), 0.0 if key is None else smoothing
        nats = model.loss(batch["source"], batch["target"], **masks, key=key, smoothing=smoothed)
        ids = batch["target_mask"].sum(axis=-1) + 1
        return metrics.Mean(jnp.sum(nats * batch["real"]), jnp.sum(ids * batch["real"])), {}

    return loss_fn


def fit(
    model: nn.Seq2Seq,
    training: data.Loader,
    validation: data.Loader,
    *,
    steps: int,
    rows: int,
    learning_rate: float,
    smoothing: float = 0.0,
    folder: Path,
    settings: object,
    seed: int = 0,
) -> tuple[nn.Seq2Seq, list[dict]]:
    """Trains for `steps` by Adam, and returns the model that was best by validation, and the history, `rows` of it."""
    graph, params = nnx.split(model, nnx.Param)
    rate = optax.warmup_cosine_decay_schedule(0, learning_rate, steps // 20, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.98))
    every = max(1, steps // rows)

    def tell(so_far):
        row = so_far.history[-1]
        nats = f"{row['loss']:.3f} nats an id, validation {row['validation/loss']:.3f}"
        print(f"step {row['step']}, epoch {row['epoch']:.1f}, {row['seconds']:.0f} s: {nats}", flush=True)
        return row["step"] >= rows * every

    result = train.fit(
        train.make_step(make_loss(graph, smoothing), optimizer),
        train.init(params, optimizer, jax.random.key(seed)),
        training,
        epochs=-(-rows * every // len(training)),
        every=every,
        validate=train.evaluator(make_loss(graph), validation),
        callbacks=[tell],
        checkpoints=train.Checkpoints(folder, keep=1, settings=settings),
        progress=True,
    )
    return nnx.merge(graph, result.params), result.history


@functools.partial(nnx.jit, static_argnames=("max_length", "size"))
def write(model: nn.Seq2Seq, source: jax.Array, mask: jax.Array, *, max_length: int, size: int):
    """Returns tokens `[B, max_length]` and lengths `[B]` of the best in a beam of `size`; of 1, greedily."""
    if size == 1:
        return model.generate(source, max_length, source_mask=mask)[:2]
    search = functools.partial(decoding.beam_search, size=size, length_penalty=1.0)
    tokens, lengths, *_ = model.generate(source, max_length, source_mask=mask, decode=search)
    return tokens[..., 0], lengths[..., 0]


def decode(
    model: nn.Seq2Seq,
    sources: Sequence[np.ndarray],
    max_length: int,
    *,
    size: int = 1,
    batch_size: int = 128,
    multiple: int = 8,
) -> list[np.ndarray]:
    """Returns the ids that the model writes for each source, without the end: the best of a beam of `size`."""
    written = [np.zeros(0, int)] * len(sources)
    loader = data.bucketed(sources, {"index": np.arange(len(sources))}, batch_size, multiple=multiple)
    for batch in loader.epoch(0):
        source, mask = jnp.asarray(batch["xs"]), jnp.asarray(batch["mask"])
        tokens, lengths = map(np.asarray, write(model, source, mask, max_length=max_length, size=size))
        for i in np.flatnonzero(batch["real"]):
            row = tokens[i, : lengths[i]]
            written[batch["index"][i]] = row[:-1] if len(row) and row[-1] == model.end else row
    return written
