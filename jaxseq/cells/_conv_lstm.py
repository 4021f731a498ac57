"""Convolutional LSTM (Shi et al. 2015): x, h and c are images; convolutions replace the matrix products.

    a_t = W_x * x_t + b + W_h * h_{t-1}           gates in the order  i f g o
    i_t = σ(a_i [+ w_i ⊙ c_{t-1}])
    f_t = σ(a_f [+ w_f ⊙ c_{t-1}])
    g_t = tanh(a_g)
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
    o_t = σ(a_o [+ w_o ⊙ c_t])                    the paper's peepholes, one weight per pixel and channel
    h_t = o_t ⊙ tanh(c_t)                         y_t = h_t                     σ: the sigmoid, or another gate

W_h * h keeps the size of the image (zero padding, stride 1). W_x * x may shrink it by strides, dilation and padding, as
Keras's ConvLSTM2D does; h and c then have the smaller size. Outside the cell, features are flat, so masks, batches and
wrappers work as for any other cell. The backward is that of the LSTM, with the transposes of the convolutions, which
JAX derives.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.cells import _lstm_gates as gates
from jaxseq.cells._activation import Activation
from jaxseq.cells._lstm import LstmCarry
from jaxseq.typing import AnyArray, Backward, Cell, Initializer


class ConvLstmParams(NamedTuple):
    """`w_x [*window, channels of x, 4C]`, `w_h [*window, C, 4C]`, `b [4C]`, gates i f g o.

    `w_c [3, *shape of h, C]` are the peepholes of i f o, or None.
    """

    w_x: AnyArray
    w_h: AnyArray
    b: AnyArray
    w_c: AnyArray | None = None


class _Saved(NamedTuple):
    h: jax.Array  # h_{t-1}, flat
    c: jax.Array  # c_{t-1}, an image, like the fields below
    i: jax.Array | None
    f: jax.Array
    g: jax.Array
    o: jax.Array
    tanh_c: jax.Array  # of c_t
    a_gates: jax.Array | None


def conv_lstm(
    shape: Sequence[int],
    channels: int,
    *,
    window: int | Sequence[int] = 3,
    strides: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    padding: str = "same",
    peephole: bool = False,
    gate: Activation = jax.nn.sigmoid,
    forget_bias: float | Initializer | None = 1.0,
    input_init: Initializer = initializers.glorot_uniform(),
    recurrent_init: Initializer = initializers.glorot_uniform(),
    bias_init: Initializer = jax.nn.initializers.zeros,
) -> Cell:
    """Returns the convolutional LSTM cell for images of `shape`. Its carry is `LstmCarry(h, c)`.

    Inputs and outputs are flat: pass xs `[T, B, height, width, 3]` as `xs.reshape(T, B, -1)`, and read the outputs as
    `ys.reshape(T, B, height, width, channels)`. `cell.size` is height · width · channels. To run it in both directions,
    add the outputs with `bidirectional(cell, merge="sum")`: "concat" appends whole images, not channels.

    For an input of n pixels along an axis, outputs, h and c have n / stride pixels, rounded up. With the padding
    "valid", n - (window - 1) · dilation replaces n.

    Args:
      shape: (height, width) of the inputs, or the sizes of one to three spatial axes.
      channels: C.
      window: the sizes of the convolution windows, or one size for all axes.
      strides, dilation: of the convolution of the inputs, one for each axis or one for all axes. The convolution of h
        has neither.
      padding: of the convolution of the inputs: "same" (padded with zeros) or "valid" (not padded).
      peephole: True: the gates see the memory; the output gate sees c_t.
      gate: the activation of the gates i f o, any elementwise function. For old Keras models see `jaxseq.lstm`.
      forget_bias: the value that `init` writes into the forget gate's part of `b`, as for `jaxseq.lstm`.
      input_init, recurrent_init, bias_init: the initialisers of `w_x`, `w_h` and `b`, drawn separately for each gate.
        Defaults: Glorot-uniform, Glorot-uniform, zeros. `w_c` starts at zero.

    Raises:
      TypeError, ValueError: sizes are not positive ints, or not one to three; `padding` is unknown, or "valid" and
        leaves no pixel; a `gate` or an initialiser is not a function. `init` and `unroll` raise ValueError if the
        features are not whole images.

    >>> cell = conv_lstm((8, 8), 4)
    >>> params = cell.init(jax.random.key(0), 8 * 8 * 3)
    >>> carry, ys = jaxseq.unroll(cell, params, jnp.ones([5, 2, 8, 8, 3]).reshape(5, 2, -1))
    >>> ys.reshape(5, 2, 8, 8, 4).shape
    (5, 2, 8, 8, 4)
    >>> conv_lstm((8, 8), 4, strides=2).size == 4 * 4 * 4
    True
    """
    shape = tuple(check.positive_int("shape", side) for side in check.sequence("shape", shape))
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"`shape` must have one to three sizes, such as (height, width); got {len(shape)}")
    window, strides = _for_axes("window", window, shape), _for_axes("strides", strides, shape)
    dilation = _for_axes("dilation", dilation, shape)
    check.one_of("padding", padding, ("same", "valid"))
    if padding == "valid" and any(side < 1 for side in _shrunk(shape, window, dilation)):
        raise ValueError(f"`padding` 'valid' leaves no pixel of {shape}: `window` {window}, `dilation` {dilation}")
    check.one_of("peephole", peephole, (True, False))
    check.function("gate", gate)
    inits = check.initializers(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    channels = check.positive_int("channels", channels)
    forget_bias = check.bias("forget_bias", forget_bias)
    convolution = window, strides, dilation, padding
    return _conv_lstm(shape, channels, *convolution, bool(peephole), gate, forget_bias, *inits)


def _for_axes(name, value, shape):
    """Returns a tuple with one int per axis, from an int or a tuple."""
    sides = (value,) * len(shape) if isinstance(value, int | np.integer) else check.sequence(name, value)
    if len(sides) != len(shape):
        raise ValueError(f"`{name}` must be an int or have a size for each of {len(shape)} axes; got {len(sides)}")
    sides = tuple(check.positive_int(name, side) for side in sides)
    return sides[0] if len(set(sides)) == 1 else sides


def _each(value, axes):
    return (value,) * axes if isinstance(value, int) else value


def _shrunk(shape, window, dilation):
    """Returns the shape without the pixels whose windows would cross the border."""
    sides = zip(shape, _each(window, len(shape)), _each(dilation, len(shape)), strict=True)
    return tuple(side - (width - 1) * step for side, width, step in sides)


@factory
def _conv_lstm(
    shape,
    channels,
    window,
    strides,
    dilation,
    padding,
    peephole,
    gate,
    forget_bias,
    input_init,
    recurrent_init,
    bias_init,
):
    inits = input_init, recurrent_init, bias_init
    input_init, recurrent_init, bias_init = (initializers.per_gate(initializer, 4) for initializer in inits)
    form = gates.GateForm("new" if peephole else None, jnp.tanh, coupled=False, clip=None, gate=gate)
    whole = _shrunk(shape, window, dilation) if padding == "valid" else shape
    window, strides, dilation = (_each(value, len(shape)) for value in (window, strides, dilation))
    inputs, shape = shape, tuple(-(-side // stride) for side, stride in zip(whole, strides, strict=True))
    pixels = math.prod(shape)
    size = pixels * channels
    axes = "DHW"[-len(shape) :]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")

    def init(key, in_size, dtype=None):
        in_channels, rest = divmod(check.positive_int("in_size", in_size), math.prod(inputs))
        if rest or not in_channels:
            raise ValueError(
                f"inputs must be whole images of {inputs}, flat: a multiple of {math.prod(inputs)} features; "
                f"got {in_size}. "
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

    ones = (1,) * len(shape)

    def convolve(x, w, shape=shape, strides=ones, padding="same", dilation=ones):
        """Convolves `[..., pixels · in]` with `[*window, in, out]`; returns `[..., *shape, out]`."""
        lead = x.shape[:-1]
        images = x.reshape(math.prod(lead), *shape, x.shape[-1] // math.prod(shape))
        convolved = jax.lax.conv_general_dilated(
            images, w, strides, padding.upper(), rhs_dilation=dilation, dimension_numbers=layout
        )
        return convolved.reshape(*lead, *convolved.shape[1:])

    def project(params, xs):
        a = convolve(xs, params.w_x, inputs, strides, padding, dilation)
        return a + expand_rank(params.b, a)

    def fwd(params, carry, u):
        h, c = carry
        c_new, (c, i, f, g, o, _, a_gates) = gates.forward(form, params.w_c, u + convolve(h, params.w_h), image(c))
        tanh_c = jnp.tanh(c_new)
        h_new = flat(o * tanh_c)
        return LstmCarry(h_new, flat(c_new)), h_new, _Saved(h, c, i, f, g, o, tanh_c, a_gates)

    def step(params, carry, u):
        carry, y, _ = fwd(params, carry, u)
        return carry, y

    def bwd(params, saved, d_carry, d_y):
        h, c, i, f, g, o, tanh_c, a_gates = saved
        d_h = image(d_carry.h + d_y)
        d_c = image(d_carry.c) + d_h * o * (1 - tanh_c * tanh_c)
        d_a, d_c = gates.backward(form, params.w_c, gates.GatesSaved(c, i, f, g, o, None, a_gates), d_h * tanh_c, d_c)
        (d_h,) = jax.linear_transpose(lambda h: convolve(h, params.w_h), h)(d_a)
        return LstmCarry(d_h, flat(d_c)), d_a

    def collect(params, saved, d_us):
        h, c, i, f, g, o, _, _ = saved
        (w_h,) = jax.linear_transpose(lambda w: convolve(h, w), params.w_h)(d_us)
        w_c = None
        if peephole:
            gates_saved = gates.GatesSaved(c, i, f, g, o, None)
            w_c = gates.peephole_gradient(form, gates_saved, d_us, features=1 + len(shape))
        return ConvLstmParams(jnp.zeros_like(params.w_x), w_h, jnp.zeros_like(params.b), w_c)

    return Cell(size, init, carry, project, step, Backward(fwd, bwd, collect))
