"""Flax NNX modules: the recurrent layer, and ready models made of it and of Flax's own layers.

    layer = nn.Recurrent(jaxseq.lstm(256), 64, rngs=nnx.Rngs(0))
    ys = layer(xs, mask=mask)                          # batch-major: xs [B, T, 64], mask [B, T] -> ys [B, T, 256]
    carry, ys = layer.unroll(xs, carry)
    carry, y = layer.step(carry, x)

All of them take any jaxseq cell or net, any number of batch axes, a `mask` of any pattern, a `reset`, and a `key`,
without which there is no noise.
"""

from jaxseq.nn._attention import Attended as Attended
from jaxseq.nn._attention import Attention as Attention
from jaxseq.nn._attention import Memory as Memory
from jaxseq.nn._autoregressive import AutoregressiveForecaster as AutoregressiveForecaster
from jaxseq.nn._classifier import SequenceClassifier as SequenceClassifier
from jaxseq.nn._crf import CRF as CRF
from jaxseq.nn._ctc_recognizer import CTCRecognizer as CTCRecognizer
from jaxseq.nn._decoders import Seq2SeqCarry as Seq2SeqCarry
from jaxseq.nn._forecaster import Forecaster as Forecaster
from jaxseq.nn._heads import Gaussian as Gaussian
from jaxseq.nn._heads import Head as Head
from jaxseq.nn._heads import Point as Point
from jaxseq.nn._heads import Quantiles as Quantiles
from jaxseq.nn._language_model import LanguageCarry as LanguageCarry
from jaxseq.nn._language_model import LanguageModel as LanguageModel
from jaxseq.nn._layers import Layer as Layer
from jaxseq.nn._ngrams import NGrams as NGrams
from jaxseq.nn._pooling import AttentionPool as AttentionPool
from jaxseq.nn._pooling import attention_pool as attention_pool
from jaxseq.nn._pooling import ends_pool as ends_pool
from jaxseq.nn._pooling import last_pool as last_pool
from jaxseq.nn._pooling import max_pool as max_pool
from jaxseq.nn._pooling import mean_max_pool as mean_max_pool
from jaxseq.nn._pooling import mean_pool as mean_pool
from jaxseq.nn._recurrent import Recurrent as Recurrent
from jaxseq.nn._seq2seq import Seq2Seq as Seq2Seq
from jaxseq.nn._tagger import SequenceTagger as SequenceTagger
from jaxseq.nn._tcn import TCN as TCN
from jaxseq.nn._text_cnn import TextCNN as TextCNN
from jaxseq.nn._transformer import CrossMemory as CrossMemory
from jaxseq.nn._transformer import Transformer as Transformer
from jaxseq.nn._transformer_carry import TransformerCarry as TransformerCarry

__all__ = [
    "CRF",
    "TCN",
    "Attended",
    "Attention",
    "AttentionPool",
    "AutoregressiveForecaster",
    "CTCRecognizer",
    "CrossMemory",
    "Forecaster",
    "Gaussian",
    "Head",
    "LanguageCarry",
    "LanguageModel",
    "Layer",
    "Memory",
    "NGrams",
    "Point",
    "Quantiles",
    "Recurrent",
    "Seq2Seq",
    "Seq2SeqCarry",
    "SequenceClassifier",
    "SequenceTagger",
    "TextCNN",
    "Transformer",
    "TransformerCarry",
    "attention_pool",
    "ends_pool",
    "last_pool",
    "max_pool",
    "mean_max_pool",
    "mean_pool",
]
