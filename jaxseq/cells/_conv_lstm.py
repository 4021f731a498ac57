"""Convolutional LSTM (Shi et al. 2015): x, h and c are images, and convolutions stand for the matrix products.

    a_t = W_x * x_t + b + W_h * h_{t-1}           gates in the order  i f g o
    i_t = σ(a_i [+ w_i ⊙ c_{t-1}])
    f_t = σ(a_f [+ w_f ⊙ c_{t-1}])
    g_t = tanh(a_g)
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
    o_t = σ(a_o [+ w_o ⊙ c_t])                    the paper's peepholes, one weight a pixel and channel
    h_t = o_t ⊙ tanh(c_t)                         y_t = h_t

Convolutions keep the size of the image (zero padding, stride 1). Everything outside the cell sees flat features, so
that masks, batches and wrappers are those of any other cell. Backward: the LSTM's, with the convolution's transposes,
which JAX derives from the convolution.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check, initializers
from jaxseq._promote import beside
from jaxseq.cells import _lstm_gates as gates
from jaxseq.cells._lstm import LstmCarry
from jaxseq.typing import Backward, Cell, Initializer


class ConvLstmParams(NamedTuple):
    """`w_x [*window, channels of x, 4C]`, `w_h [*window, C, 4C]`, `b [4C]`, gates i f g o.

    `w_c [3, *shape, C]`, the peepholes of i f o, or None.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array
    w_c: jax.Array | None = None


class _Saved(NamedTuple):
    h: jax.Array  # h_{t-1}, flat
    c: jax.Array  # c_{t-1}, an image, as the rest
    i: jax.Array | None
    f: jax.Array
    g: jax.Array
    o: jax.Array
    tanh_c: jax.Array  # of c_t


def conv_lstm(
    shape: Sequence[int],
    channels: int,
    *,
    window: int | Sequence[int] = 3,
    peephole: bool = False,
    forget_bias: float | Initializer | None = 1.0,
    input_init: Initializer = initializers.glorot_uniform(),
    recurrent_init: Initializer = initializers.glorot_uniform(),
    bias_init: Initializer = jax.nn.initializers.zeros,
) -> Cell:
    """Returns the convolutional LSTM cell for images of `shape`; its carry is `LstmCarry(h, c)`.

    Inputs and outputs are flat: xs `[T, B, height, width, 3]` go in as `xs.reshape(T, B, -1)`, and the outputs are
    `ys.reshape(T, B, height, width, channels)`. `cell.size` is height · width · channels. In both directions add the
    outputs, `bidirectional(cell, merge="sum")`: "concat" puts one whole image behind the other, not channel by channel.

    Args:
      shape: (height, width), or the sizes of one to three spatial axes.
      channels: C.
      window: the sizes of the convolutions' windows, or one for all axes.
      peephole: True: the gates see the memory, the output gate c_t.
      forget_bias: what `init` writes into the forget gate's part of `b`, as for `jaxseq.lstm`.
      input_init, recurrent_init, bias_init: the initialisers of `w_x`, `w_h` and `b`, each gate drawn apart;
        Glorot-uniform, Glorot-uniform, zeros. `w_c` starts at zero.

    Raises:
      TypeError, ValueError: sizes that are not positive ints, or not one to three; an initialiser that is not a
        function. `init` and `unroll` raise ValueError where the features are not whole images.

    >>> cell = conv_lstm((8, 8), 4)
    >>> params = cell.init(jax.random.key(0), 8 * 8 * 3)
    >>> carry, ys = jaxseq.unroll(cell, params, jnp.ones([5, 2, 8, 8, 3]).reshape(5, 2, -1))
    >>> ys.reshape(5, 2, 8, 8, 4).shape
    (5, 2, 8, 8, 4)
    """
    shape = tuple(check.positive_int("shape", side) for side in check.sequence("shape", shape))
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"`shape` must have one to three sizes, such as (height, width); got {shape}")
    sides = (window,) * len(shape) if isinstance(window, int | np.integer) else check.sequence("window", window)
    if len(sides) != len(shape):
        raise ValueError(f"`window` must be an int or have a size for each of the {len(shape)} axes; got {window}")
    window = tuple(check.positive_int("window", side) for side in sides)
    check.one_of("peephole", peephole, (True, False))
    inits = check.initializers(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    channels = check.positive_int("channels", channels)
    return _conv_lstm(shape, channels, window, bool(peephole), check.bias("forget_bias", forget_bias), inits)


@functools.cache
def _conv_lstm(shape, channels, window, peephole, forget_bias, inits):
    input_init, recurrent_init, bias_init = (initializers.per_gate(initializer, 4) for initializer in inits)
    form = gates.GateForm("new" if peephole else None, jnp.tanh, coupled=False, clip=None)
    pixels = math.prod(shape)
    size = pixels * channels
    axes = "DHW"[-len(shape) :]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")

    def init(key, in_size, dtype=None):
        in_channels, rest = divmod(check.positive_int("in_size", in_size), pixels)
        if rest or not in_channels:
            raise ValueError(
                f"inputs must be whole images of {shape}, flat: a multiple of {pixels} features; got {in_size}. "
                "Flatten them: xs.reshape(T, B, -1)."
            )
        key_x, key_h, key_b, key_f = jax.random.split(key, 4)
        return ConvLstmParams(
            w_x=input_init(key_x, (*window, in_channels, 4 * channels), dtype),
            w_h=recurrent_init(key_h, (*window, channels, 4 * channels), dtype),
            b=initializers.with_forget_bias(forget_bias, key_f, bias_init(key_b, (4 * channels,), dtype), channels),
            w_c=jnp.zeros((3, *shape, channels), dtype) if peephole else None,
        )

    def carry(params, batch_shape=()):
        h, c = (jnp.zeros((*batch_shape, size), params.w_h.dtype) for _ in range(2))
        return LstmCarry(h, c)

    def image(x):
        return x.reshape(*x.shape[:-1], *shape, x.shape[-1] // pixels)

    def flat(x):
        return x.reshape(*x.shape[: -1 - len(shape)], pixels * x.shape[-1])

    def convolve(x, w):
        """`[..., pixels · in]`, `[*window, in, out]` -> `[..., *shape, out]`."""
        lead = x.shape[:-1]
        images = x.reshape(math.prod(lead), *shape, x.shape[-1] // pixels)
        ones = (1,) * len(shape)
        convolved = jax.lax.conv_general_dilated(images, w, ones, "SAME", dimension_numbers=layout)
        return convolved.reshape(*lead, *convolved.shape[1:])

    def project(params, xs):
        a = convolve(xs, params.w_x)
        return a + beside(params.b, a)

    def fwd(params, carry, u):
        h, c = carry
        c_new, (c, i, f, g, o, _) = gates.forward(form, params.w_c, u + convolve(h, params.w_h), image(c))
        tanh_c = jnp.tanh(c_new)
        h_new = flat(o * tanh_c)
        return LstmCarry(h_new, flat(c_new)), h_new, _Saved(h, c, i, f, g, o, tanh_c)

    def step(params, carry, u):
        carry, y, _ = fwd(params, carry, u)
        return carry, y

    def bwd(params, saved, d_carry, d_y):
        h, c, i, f, g, o, tanh_c = saved
        d_h = image(d_carry.h + d_y)
        d_c = image(d_carry.c) + d_h * o * (1 - tanh_c * tanh_c)
        d_a, d_c = gates.backward(form, params.w_c, gates.GatesSaved(c, i, f, g, o, None), d_h * tanh_c, d_c)
        (d_h,) = jax.linear_transpose(lambda h: convolve(h, params.w_h), h)(d_a)
        return LstmCarry(d_h, flat(d_c)), d_a

    def collect(params, saved, d_us):
        h, c, i, f, g, o, _ = saved
        (w_h,) = jax.linear_transpose(lambda w: convolve(h, w), params.w_h)(d_us)
        w_c = None
        if peephole:
            gates_saved = gates.GatesSaved(c, i, f, g, o, None)
            w_c = gates.peephole_gradient(form, gates_saved, d_us, features=1 + len(shape))
        return ConvLstmParams(jnp.zeros_like(params.w_x), w_h, jnp.zeros_like(params.b), w_c)

    return Cell(size, init, carry, project, step, Backward(fwd, bwd, collect))
