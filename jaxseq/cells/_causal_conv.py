"""A causal depthwise convolution: one per feature, as Mamba, Griffin and the mLSTM have it before the recurrence.

    y_t = b + Σ_k w_k ⊙ x_{t-k},   k = 0 … width - 1              x before a sequence's first step: 0

x_{t-k} is the input k real steps before t: padding is skipped. A step needs the last width - 1 inputs, which are the
carry. A whole sequence takes `width` products and sums over all steps. With a mask, each row's real steps are moved to
be adjacent before that, and moved back after it.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxseq import _meshes, check, initializers, masking
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.cells._dense import wide
from jaxseq.cells._heads import same_size
from jaxseq.typing import AnyArray, Composite


class CausalConvParams(NamedTuple):
    """`w [width, H]`, where row k multiplies the input k steps ago; `b [H]`."""

    w: AnyArray
    b: AnyArray


def causal_conv(size: int, *, width: int = 4) -> Composite:
    """Returns the net that convolves each feature independently over time.

    Its carry is the last inputs `[B, width - 1, H]`, in order.

    Args:
      size: H, the features of inputs and outputs.
      width: the number of steps in the window.

    Raises:
      TypeError, ValueError: `size` or `width` is not a positive int. `init` raises ValueError if the inputs do not have
        `size` features.

    >>> net = jaxseq.stack(causal_conv(4, width=2), jaxseq.gru(8))
    >>> params = causal_conv(4, width=2).init(jax.random.key(0), 4)._replace(w=jnp.array([[1.0] * 4, [0.5] * 4]))
    >>> carry, ys = jaxseq.unroll(causal_conv(4, width=2), params, jnp.ones([3, 4]))
    >>> ys[:, 0].tolist(), carry.shape
    ([1.0, 1.5, 1.5], (1, 4))
    """
    return _causal_conv(check.positive_int("size", size), check.positive_int("width", width))


@factory
def _causal_conv(size, width):
    reach = width - 1

    def init(key, in_size, dtype=None):
        same_size("causal_conv", size, in_size)
        w = initializers.fan_in_uniform()(key, (width, size), dtype)
        return CausalConvParams(w, jnp.zeros_like(w[0]))

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, reach, size), params.w.dtype)

    def unroll(run, params, xs, carry, *, mask, reset, reverse, key):
        if not reverse:
            return _meshes.split_as_given(forward, carry, xs, params, mask, reset)
        crossed = None if reset is None else jnp.flip(masking.reset_before_step(reset, reverse), 0)
        mask = None if mask is None else jnp.flip(mask, 0)
        carry, ys = _meshes.split_as_given(forward, carry, jnp.flip(xs, 0), params, mask, crossed)
        return carry, jnp.flip(ys, 0)

    def forward(carry, xs, params, mask, reset):
        sequence = None if reset is None else jnp.cumsum(reset, axis=0, dtype=jnp.int32)
        last = None if sequence is None else jnp.max(sequence, axis=0, initial=0)
        if mask is None:
            return convolve(params, xs, carry, sequence, last, None)
        real = mask.astype(jnp.int32)
        order, lengths = jnp.argsort(~mask, axis=0, stable=True), jnp.sum(real, axis=0, dtype=jnp.int32)
        sequence = None if sequence is None else _take(sequence, order)
        carry, ys = convolve(params, _take(masking.keep(mask, xs), order), carry, sequence, last, lengths)
        return carry, masking.keep(mask, _take(ys, jnp.cumsum(real, axis=0) - real))

    def convolve(params, xs, carry, sequence, last, lengths):
        """Runs the convolution, given the sequence of each step.

        `sequence` numbers the sequence of each step, with 0 for that of the carry. `last` is the number of the sequence
        that continues. `lengths` counts the real steps.
        """
        T = xs.shape[0]
        seen = jnp.concatenate([jnp.moveaxis(carry, -2, 0), xs])
        if sequence is not None:
            sequence = jnp.concatenate([jnp.zeros((reach, *sequence.shape[1:]), jnp.int32), sequence])
        w, ys = wide(params.w), 0
        for k in range(width):
            tap = seen[reach - k : reach - k + T]
            if sequence is not None and k:
                tap = masking.keep(sequence[reach - k : reach - k + T] == sequence[reach:], tap)
            ys = ys + expand_rank(w[k], tap) * wide(tap)
        ys = ys + expand_rank(wide(params.b), ys)
        window = slice(T, T + reach)
        if lengths is not None:
            places = jnp.arange(reach, dtype=jnp.int32).reshape(reach, *[1] * lengths.ndim)
            window = places + lengths[None]
        after = _window(seen, window)
        if sequence is not None:
            after = masking.keep(_window(sequence, window) == last[None], after)
        return jnp.moveaxis(after, 0, -2), ys.astype(xs.dtype)

    def step(params, carry, x):
        seen = jnp.concatenate([carry, x[..., None, :]], axis=-2)
        w = expand_rank(jnp.flip(wide(params.w), 0), seen)
        y = jnp.sum(w * wide(seen), axis=-2)
        return seen[..., 1:, :], (y + expand_rank(wide(params.b), y)).astype(x.dtype)

    return Composite(size, init, carry, unroll, step)


def _take(x, places):
    """Returns the entries `[N, B, ...]` of `x` `[T, B, ...]` at places int `[N, B]`."""
    return jnp.take_along_axis(x, places.reshape(*places.shape, *[1] * (x.ndim - places.ndim)), axis=0)


def _window(x, places):
    """Returns a slice of steps, or the steps at each row's places."""
    return x[places] if isinstance(places, slice) else _take(x, places)
