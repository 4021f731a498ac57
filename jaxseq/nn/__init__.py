"""Flax NNX modules: recurrent, convolutional and attention layers, and ready models built from them.

    layer = nn.Recurrent(jaxseq.lstm(256), 64, rngs=nnx.Rngs(0))
    ys = layer(xs, mask=mask)                          # batch-major: xs [B, T, 64], mask [B, T] -> ys [B, T, 256]
    carry, ys = layer.unroll(xs, carry)
    carry, y = layer.step(carry, x)

The layers take any jaxseq cell or net, any number of batch axes, a `mask` of any pattern, a `reset`, and a random
`key`. Without a key there is no noise, such as dropout.
"""

from jaxseq._serialise import register as _register
from jaxseq.nn._layer import Layer as Layer
from jaxseq.nn.attention import *
from jaxseq.nn.attention._block import KeyValues as _KeyValues
from jaxseq.nn.blocks import *
from jaxseq.nn.convolution import *
from jaxseq.nn.decoders import *
from jaxseq.nn.models import *
from jaxseq.nn.recurrent import *

_register(__name__, parts=(_KeyValues,))
