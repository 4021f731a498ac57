"""Flax modules: what reads sequences, and the models made of it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import jaxseq
from jaxseq import linen, nn
from tests.modes.inputs import B, D, H, K, T, V, floats, ids, key, mask
from tests.modes.table import of
from tests.nn.blocks import BLOCKS, all_blocks
from tests.nn.drawn import drawn

CELL = jaxseq.gru(H)


def _rows() -> tuple[Any, dict[str, Any]]:
    return floats(B, T, D), {"mask": mask(B), "reset": jnp.zeros((B, T), bool).at[0, 1].set(True)}


def _of_layer(layer):
    xs, flags = _rows()
    carry, ys = layer.unroll(xs, **flags, key=key())
    return ys, carry if carry is None else layer.step(carry, xs[:, 0])


_in_one_program = nnx.jit(_of_layer)


@of("nn.Recurrent")
def recurrent():
    return _of_layer(drawn(nn.Recurrent, CELL, D))


@of("nn.TCN")
def tcn():
    return _of_layer(drawn(nn.TCN, D, [H, H], width=2, dropout=0.1))


@of("nn.Transformer")
def transformer():
    sizes = {"layers": 1, "heads": 2, "causal": True, "max_length": T + 1, "dropout": 0.1}
    layers = [
        drawn(nn.Transformer, D, H, **sizes, positions="rotary", kv_heads=1),
        drawn(nn.Transformer, D, H, **sizes, norm="post"),
        drawn(nn.Transformer, D, H, **sizes, positions="learned", remat=True),
    ]
    return [_of_layer(layer) for layer in layers]


@of(*(f"nn.{entry.make.func.__name__}" for entry in BLOCKS.values()), "nn.Blocks")
def blocks():
    made = drawn(lambda rngs: nn.Blocks(all_blocks(rngs, dropout=0.1), in_features=D, rngs=rngs))
    return _in_one_program(made)  # each of many operations would be one


@of("nn.Attention")
def attention():
    found = []
    for score in ("additive", "general", "dot"):
        layer = drawn(nn.Attention, H, H, score=score)
        found.append(layer(floats(B, T, H), layer.remember(floats(B, T, H, seed=1), mask=mask(B))))
    return found


@of(
    "nn.last_pool",
    "nn.ends_pool",
    "nn.mean_pool",
    "nn.max_pool",
    "nn.mean_max_pool",
    "nn.attention_pool",
    "nn.AttentionPool",
)
def pools():
    ys, flags = floats(B, T, H), mask(B)
    plain = [pool(ys, flags) for pool in (nn.last_pool, nn.ends_pool, nn.mean_pool, nn.max_pool, nn.mean_max_pool)]
    return plain, nn.attention_pool(ys, floats(B, T), flags), drawn(nn.AttentionPool, H)(ys, flags)


@of("nn.SequenceClassifier", "nn.SequenceTagger", "nn.TextCNN")
def classifiers():
    texts, flags = ids(B, T), mask(B)
    poolings = ("last", "mean", "max", "mean_max", "attention")
    models: list[Any] = [
        drawn(nn.SequenceClassifier, CELL, D, 2, pooling=pooling, vocabulary=V) for pooling in poolings
    ]
    models.append(drawn(nn.SequenceTagger, CELL, D, K, vocabulary=V))
    steps = [model.step(model.unroll(texts, mask=flags)[0], texts[:, 0])[1] for model in models[-3:]]
    models.append(drawn(nn.TextCNN, D, 2, widths=(2,), filters=H, vocabulary=V))
    return [model(texts, mask=flags) for model in models], steps


@of("nn.CRF")
def field():
    head, scores, flags = drawn(nn.CRF, K), floats(B, T, K), mask(B)
    found = head.decode(scores, mask=flags), head.k_best(scores, 2, mask=flags), head.marginals(scores, mask=flags)
    drawn_tags = head.sample(key(), scores, mask=flags)
    return found, drawn_tags, head.log_likelihood(scores, ids(B, T, below=K), mask=flags)


@of("nn.CTCRecognizer")
def recognizer():
    model, (xs, _) = drawn(nn.CTCRecognizer, CELL, D, V), _rows()
    found = model.greedy(xs, mask=mask(B)), model.beam_search(xs, 2, mask=mask(B))
    return found, model.loss(xs, ids(B, 1) % 4 + 1, mask=mask(B))


@of("nn.Forecaster", "nn.AutoregressiveForecaster", "nn.Point", "nn.Gaussian", "nn.Quantiles")
def forecasters():
    xs, flags, found = floats(B, T, 2), mask(B), []
    for head in (nn.Point(), nn.Gaussian(), nn.Quantiles((0.1, 0.5, 0.9))):
        parameters = drawn(nn.Forecaster, CELL, 2, 2, head=head)(xs, mask=flags)
        found += [parameters, head.point(parameters)]
        if head.size > 1:
            found += [head.interval(parameters, 0.8), head.sample(key(), parameters)]
    model = drawn(nn.AutoregressiveForecaster, CELL, 2, head=nn.Gaussian())
    paths = model.sample_paths(xs, 2, key=key(), paths=2, mask=flags)
    return found, model(xs, mask=flags), model.forecast(xs, 2, mask=flags), paths


@of("nn.LanguageModel")
def language_model():
    texts, flags = ids(B, T), mask(B)
    models = [
        drawn(nn.LanguageModel, CELL, V, D, ngrams=nn.NGrams((2, 3), buckets=7, features=2)),
        drawn(
            nn.LanguageModel,
            drawn(nn.Transformer, H, H, layers=1, heads=2, causal=True, max_length=2 * T),
            V,
            H,
            tied=True,
        ),
    ]
    return [(m(texts, mask=flags), m.generate(texts, 2, key=key(), mask=flags)) for m in models]


@of("nn.Seq2Seq")
def seq2seq():
    sizes = {"source_vocabulary": V, "target_vocabulary": V, "start": 0, "end": 1}
    reader = drawn(nn.Transformer, H, H, layers=1, heads=2, causal=False)
    writer = drawn(nn.Transformer, H, H, layers=1, heads=2, causal=True, max_length=T + 1, memory_features=H)
    models = [
        drawn(nn.Seq2Seq, CELL, CELL, features=D, input_feeding=True, **sizes),
        drawn(nn.Seq2Seq, reader, writer, features=H, **sizes),
    ]
    source, target, flags = ids(B, T), ids(B, T, seed=1), mask(B)
    options: dict[str, Any] = {"source_mask": flags, "target_mask": flags}
    found = [(m.loss(source, target, **options), m.generate(source, 2, source_mask=flags)) for m in models]
    return (
        found,
        models[0].loss(source, target, sampled=0.5, key=key(), **options),
        models[0].alignments(source, target, **options),
    )


@of("linen.Recurrent")
def in_linen():
    layer, (xs, flags) = linen.Recurrent(CELL), _rows()
    variables = layer.init(key(), xs)
    return layer.apply(variables, xs, **flags), layer.apply(variables, None, xs[:, 0], method="step")


@nnx.jit
def _total(model, xs):
    return jnp.sum(model(xs) ** 2)


@of("nn.Recurrent", "nn.TCN", "nn.Transformer")
def trained():
    layers = [
        drawn(nn.Recurrent, CELL, D),
        drawn(nn.TCN, D, [H]),
        drawn(nn.Transformer, D, H, layers=1, heads=2, causal=False),
    ]
    return [jax.tree.leaves(nnx.grad(_total)(layer, floats(B, T, D))) for layer in layers]
