"""The stock layers and models of `jaxseq.nn`, each small, as functions of their random numbers.

All but attention, pools, fields and what writes sequences is called with `xs [B, T, D]` or ids `[B, T]`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxseq
from jaxseq import nn
from jaxseq.structured import crf
from tests.nn.blocks import BLOCKS

D, V = 3, 7
ONE_WAY = jaxseq.stack(jaxseq.lstm(4), jaxseq.learned_carry(jaxseq.gru(3)))
BOTH_WAYS = jaxseq.stack(jaxseq.bidirectional(jaxseq.lstm(4)), jaxseq.dropout(jaxseq.gru(4), outputs=0.1))


def transformer(rngs, **options):
    return nn.Transformer(D, 4, layers=2, heads=2, rngs=rngs, **{"causal": True, "max_length": 9, **options})


def blocks(rngs):
    attention = nn.Transformer(4, 4, layers=1, heads=2, causal=True, max_length=9, rngs=rngs)
    return nn.Blocks([BLOCKS["mamba"].make(rngs=rngs), attention], in_features=D, rngs=rngs)


LAYERS: dict[str, Callable[..., Any]] = {
    "recurrent": lambda rngs: nn.Recurrent(ONE_WAY, D, kernel=jaxseq.kernels.bptt, rngs=rngs),
    "tcn": lambda rngs: nn.TCN(D, [4, 4], width=2, rngs=rngs),
    "decoder": transformer,
    "encoder": functools.partial(transformer, causal=False, max_length=None, activation=jax.nn.relu),
    "blocks": blocks,
    **{name: entry.make for name, entry in BLOCKS.items()},
}
MODELS: dict[str, Callable[..., Any]] = {
    "classifier": lambda rngs: nn.SequenceClassifier(BOTH_WAYS, D, 2, vocabulary=V, pooling="attention", rngs=rngs),
    "tagger": lambda rngs: nn.SequenceTagger(BOTH_WAYS, D, 4, dtype="float32", rngs=rngs),
    "forecaster": lambda rngs: nn.Forecaster(jaxseq.lstm(4), D, 6, head=nn.Quantiles((0.25, 0.5)), rngs=rngs),
    "autoregressive": lambda rngs: nn.AutoregressiveForecaster(jaxseq.gru(4), D, head=nn.Gaussian(), rngs=rngs),
    "classifier_of_streams": lambda rngs: nn.SequenceClassifier(ONE_WAY, D, 2, pooling="attention", rngs=rngs),
    "tagger_of_streams": lambda rngs: nn.SequenceTagger(ONE_WAY, D, 4, vocabulary=V, rngs=rngs),
    "text_cnn": lambda rngs: nn.TextCNN(D, 2, vocabulary=V, widths=(2, 3), filters=4, rngs=rngs),
    "recognizer": lambda rngs: nn.CTCRecognizer(BOTH_WAYS, D, V, rngs=rngs),
    "language": lambda rngs: nn.LanguageModel(ONE_WAY, V, D, tied=True, ngrams=nn.NGrams([2, 3], 16, 2), rngs=rngs),
    "language_transformer": lambda rngs: nn.LanguageModel(transformer(rngs), V, D, rngs=rngs),
}


def translation(rngs):
    encoder = transformer(rngs, causal=False)
    decoder = transformer(rngs, memory_features=4)
    sizes: dict[str, Any] = {"source_vocabulary": V, "target_vocabulary": V, "features": D, "start": 1, "end": 2}
    return nn.Seq2Seq(encoder, decoder, **sizes, rngs=rngs)


def field(rngs):
    flags = np.random.default_rng(0).random((5, 4)) < 0.8
    return nn.CRF(4, allowed=crf.Allowed(flags[:4] | np.eye(4, dtype=bool), *np.ones((2, 4), bool)), rngs=rngs)


OTHERS: dict[str, Callable[..., Any]] = {
    "attention": lambda rngs: nn.Attention(4, 3, score="general", rngs=rngs),
    "pool": lambda rngs: nn.AttentionPool(4, rngs=rngs),
    "field": field,
    "sequences": lambda rngs: nn.Seq2Seq(
        BOTH_WAYS,
        ONE_WAY,
        source_vocabulary=V,
        target_vocabulary=V,
        features=D,
        start=1,
        end=2,
        attention="general",
        input_feeding=True,
        rngs=rngs,
    ),
    "translation": translation,
}
