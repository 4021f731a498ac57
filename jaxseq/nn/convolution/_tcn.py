"""The temporal convolutional network (Bai et al. 2018): residual blocks of causal, dilated convolutions.

A convolution of width w and dilation d, where W_0 is the weight of the current step:

    y_t = b + Σ_k x_{t - k d} W_k,   k = 0 … w - 1              x is 0 before a sequence's first step
    W_k = g ⊙ V_k / ‖V‖, with one g per output                  (weight normalisation: Salimans & Kingma 2016)

The i-th block has dilation 2^i:

    relu(dropout(relu(conv(dropout(relu(conv(x)))))) + x R)     R only if the number of channels changes

A step needs the last (w - 1) d inputs of each convolution; they are the carry.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check, masking
from jaxseq._cast import cast
from jaxseq._promote import expand_rank
from jaxseq.nn._call import Module
from jaxseq.nn._compact import compact, gather
from jaxseq.nn._flax import Given, dropout, floats, given, linear
from jaxseq.nn._layer import checked_carry
from jaxseq.typing import AnyArray, Shape


class _Steps(NamedTuple):
    """What convolutions need to know of the steps, after real steps were moved to the front of their rows."""

    lengths: jax.Array  # int [B]: the number of real steps
    sequence: jax.Array | None  # int [B, T]: the number of a step's sequence, 0 for that of the carry; None: all are 0
    last: jax.Array | None  # int [B]: the number of the sequence that continues after the last step


class CausalConv(nnx.Module):
    """One causal convolution; its carry `[B, (width - 1) * dilation, D]` holds the last inputs."""

    def __init__(self, in_features, features, width, dilation, weight_norm, given: Given):
        self.reach, self.dilation, self.dtype = (width - 1) * dilation, dilation, given.dtype
        shape, dtype = (width, in_features, features), given.param_dtype
        kernel = jax.nn.initializers.he_normal(in_axis=(0, 1))(given.rngs.params(), shape, dtype)
        self.kernel, self.bias = nnx.Param(kernel), nnx.Param(jnp.zeros(features, dtype))
        self.scale = nnx.Param(_norm(kernel)) if weight_norm else None

    def initial_carry(self, batch_shape: Shape) -> jax.Array:
        kernel = self.kernel[...]
        return jnp.zeros((*batch_shape, self.reach, kernel.shape[1]), self.dtype or kernel.dtype)

    def __call__(self, xs: jax.Array, carry: jax.Array, steps: _Steps) -> tuple[jax.Array, jax.Array]:
        kernel, scale = self.kernel[...], self.scale
        if scale is not None:
            kernel = kernel * expand_rank(scale[...] / _norm(kernel), kernel)
        kernel, bias = cast((kernel, self.bias[...]), self.dtype)
        T = xs.shape[-2]
        seen = jnp.concatenate([carry, xs], axis=-2)
        sequence = steps.sequence
        if sequence is not None:
            sequence = jnp.pad(sequence, [(0, 0)] * (sequence.ndim - 1) + [(self.reach, 0)])
        ys = expand_rank(bias, xs)
        for k, weights in enumerate(kernel):
            begin = self.reach - k * self.dilation
            tap = seen[..., begin : begin + T, :]
            if sequence is not None and k:
                tap = masking.keep(sequence[..., begin : begin + T] == steps.sequence, tap)
            ys = ys + tap @ weights
        lengths = steps.lengths[..., None]
        last = lengths + expand_rank(jnp.arange(self.reach, dtype=lengths.dtype), lengths)
        carry = gather(seen, last)
        if sequence is not None:
            assert steps.last is not None
            carry = masking.keep(gather(sequence, last) == steps.last[..., None], carry)
        return carry, ys


class TCN(Module):
    """A temporal convolutional network; usable wherever `nn.Recurrent` is.

    For example: `nn.SequenceClassifier(nn.TCN(3, [32] * 4, rngs=rngs), 3, 10, rngs=rngs)`. Masked steps are left out,
    in any place. A reset starts a new sequence. `step` returns the same numbers as a whole pass.

    Args:
      in_features: D, the features of the inputs.
      channels: the features of each block; the dilations of blocks are 1, 2, 4, …
      width: w, the number of taps of a convolution.
      dropout: the dropout rate after each convolution; used only with a key.
      weight_norm: whether to use weight normalisation.
      dtype: the dtype of the computation; params and inputs are cast to it. None: that of the params.
      param_dtype: the dtype of the params. None: JAX's default float.
      rngs: random keys for the params.

    Attributes:
      in_features: D.
      size: H, the features of the outputs, which are those of the last block.
      receptive_field: the number of steps that an output depends on.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> layer = nn.TCN(3, [8, 8], width=2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones([2, 5, 3])).shape, layer.receptive_field
    ((2, 5, 8), 7)
    """

    causal = True

    def __init__(
        self,
        in_features: int,
        channels: Sequence[int],
        *,
        width: int = 3,
        dropout: float = 0.0,
        weight_norm: bool = True,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.in_features, width = check.positive_int("in_features", in_features), check.positive_int("width", width)
        self.dtype = (options := given(dtype, param_dtype, rngs)).dtype
        channels = tuple(check.positive_int("channels", size) for size in check.sequence("channels", channels))
        if not channels:
            raise ValueError("`channels` must hold the features of at least one block; got none")
        check.one_of("weight_norm", weight_norm, (True, False))
        self.dropout, self.size = check.rate("dropout", dropout), channels[-1]
        convs, shortcuts, before = [], [], self.in_features
        for i, size in enumerate(channels):
            for D in (before, size):
                convs.append(CausalConv(D, size, width, 2**i, weight_norm, options))
            shortcuts.append(None if before == size else linear(before, size, options))
            before = size
        self.convs, self.shortcuts = nnx.List(convs), nnx.List(shortcuts)

    @property
    def receptive_field(self) -> int:
        return 1 + sum(conv.reach for conv in self.convs)

    def initial_carry(self, batch_shape: Shape = ()) -> tuple[jax.Array, ...]:
        """Returns the initial carry: for each convolution its last inputs `[B, (w - 1) d, D]`, zeros."""
        batch_shape = check.shape("batch_shape", batch_shape)
        return tuple(conv.initial_carry(batch_shape) for conv in self.convs)

    def __call__(self, xs, carry=None, *, mask=None, reset=None, key=None) -> jax.Array:
        """Returns the outputs of all steps, `[B, T, H]`; arguments as for `unroll`."""
        return self.unroll(xs, carry, mask=mask, reset=reset, key=key)[1]

    def unroll(
        self,
        xs: AnyArray,
        carry: tuple[jax.Array, ...] | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """Returns the last carry and the outputs of all steps, `[B, T, H]`; outputs on padding are zero.

        Args:
          xs: `[B, T, D]`, cast to `dtype`; if that is None, `xs` must have the dtype of the params.
          carry: the initial carry. None: that of `initial_carry`.
          mask: bool `[B, T]`, True where a step is real, in any pattern.
          reset: bool `[B, T]`, True where a new sequence starts.
          key: a random key for dropout. None: no dropout.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        xs = self._checked("xs", "B, T, D", xs)
        mask, reset = (check.flags(name, f, xs.shape[:-1], "B, T") for name, f in (("mask", mask), ("reset", reset)))
        sequence = None if reset is None else jnp.cumsum(reset.astype(jnp.int32), axis=-1)
        lengths = jnp.full(xs.shape[:-2], xs.shape[-2], jnp.int32)
        last = None if sequence is None else jnp.max(sequence, axis=-1, initial=0)
        if mask is None:
            return self._run(xs, carry, _Steps(lengths, sequence, last), key)
        order, rank, lengths = compact(mask)
        sequence = None if sequence is None else gather(sequence, order)
        carry, ys = self._run(gather(masking.keep(mask, xs), order), carry, _Steps(lengths, sequence, last), key)
        return carry, masking.keep(mask, gather(ys, rank))

    def step(
        self, carry: tuple[jax.Array, ...] | None, x: AnyArray, *, reset: AnyArray | None = None
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """Returns the next carry and the output `[B, H]` of one step, equal to that of `unroll` without noise.

        Args:
          carry: the carry before the step. None: a new sequence starts.
          x: `[B, D]`.
          reset: bool `[B]`, True where a new sequence starts with this step.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        x = self._checked("x", "B, D", x)
        reset = check.flags("reset", reset, x.shape[:-1], "B")
        carry, ys = self.unroll(x[..., None, :], carry, reset=None if reset is None else reset[..., None])
        return carry, ys[..., 0, :]

    def _run(self, xs, carry, steps, key):
        check.random_key(key)
        batch = xs.shape[:-2]
        carry = self.initial_carry(batch) if carry is None else checked_carry(carry, self.initial_carry, batch)
        keys = [None] * len(self.convs) if key is None else jax.random.split(key, len(self.convs))
        after = []
        for block, shortcut in enumerate(self.shortcuts):
            hidden = xs
            for i in (2 * block, 2 * block + 1):
                buffer, hidden = self.convs[i](hidden, carry[i], steps)
                hidden = dropout(keys[i], self.dropout, jax.nn.relu(hidden))
                after.append(buffer)
            xs = jax.nn.relu(hidden + (xs if shortcut is None else shortcut(xs)))
        return tuple(after), xs

    def _checked(self, name, axes, xs):
        xs = floats(name, axes, xs, self.convs[0].kernel[...], self.dtype)
        check.features(name, xs, self.in_features)
        return xs


def _norm(kernel):
    """Returns the norm of the weights of each output."""
    return jnp.sqrt(jnp.sum(kernel**2, axis=(0, 1)))
