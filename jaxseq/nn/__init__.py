"""Flax NNX modules: the recurrent layer, and ready models made of it and of Flax's own layers.

    layer = nn.Recurrent(jaxseq.lstm(256), 64, rngs=nnx.Rngs(0))
    ys = layer(xs, mask=mask)                          # batch-major: xs [B, T, 64], mask [B, T] -> ys [B, T, 256]
    carry, ys = layer.unroll(xs, carry)
    carry, y = layer.step(carry, x)

All of them take any jaxseq cell or net, any number of batch axes, a `mask` of any pattern, a `reset`, and a `key`,
without which there is no noise.
"""

from jaxseq.nn._layer import Layer as Layer
from jaxseq.nn.attention import *
from jaxseq.nn.attention._attention import Attended as Attended
from jaxseq.nn.attention._attention import Attention as Attention
from jaxseq.nn.attention._attention import Memory as Memory
from jaxseq.nn.convolution import *
from jaxseq.nn.decoders import *
from jaxseq.nn.decoders._decoders import Seq2SeqCarry as Seq2SeqCarry
from jaxseq.nn.models import *
from jaxseq.nn.models._autoregressive import AutoregressiveForecaster as AutoregressiveForecaster
from jaxseq.nn.models._classifier import SequenceClassifier as SequenceClassifier
from jaxseq.nn.models._crf import CRF as CRF
from jaxseq.nn.models._ctc_recognizer import CTCRecognizer as CTCRecognizer
from jaxseq.nn.models._forecaster import Forecaster as Forecaster
from jaxseq.nn.models._heads import Gaussian as Gaussian
from jaxseq.nn.models._heads import Head as Head
from jaxseq.nn.models._heads import Point as Point
from jaxseq.nn.models._heads import Quantiles as Quantiles
from jaxseq.nn.models._language_model import LanguageCarry as LanguageCarry
from jaxseq.nn.models._language_model import LanguageModel as LanguageModel
from jaxseq.nn.recurrent import *
