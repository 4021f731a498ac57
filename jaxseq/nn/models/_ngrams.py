"""Embeddings of n-grams: the last n ids, looked up in a table by their hash, next to a recurrent layer.

    window_t = (x_{t-n+1}, …, x_t)                   real ids since the last reset; missing ids before the first one
    e_t      = E[n, hash(window_t) mod buckets]      for each order n, concatenated

With n-grams at its output (Mikolov et al. 2011), a recurrent net learns frequent phrases in the table and uses its
weights for the rest. Windows with the same bucket share a row. Rows start at zero, so a window that was not seen in
training adds nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import _meshes, check
from jaxseq.nn._flax import Embed, Given
from jaxseq.typing import Shape

_NONE = -1


class NGrams(NamedTuple):
    """The n-grams to embed.

    Attributes:
      orders: the values of n, each at least 2.
      buckets: the rows of the table for each order. The table holds orders × buckets × features numbers.
      features: the features of a row.
    """

    orders: Sequence[int]
    buckets: int = 2**15
    features: int = 32


class NGramEmbedding(nnx.Module):
    """The table. Its carry is the last ids `[B, n - 1]` for the longest order n, newest last, -1 where missing."""

    def __init__(self, ngrams: NGrams, given: Given):
        if not isinstance(ngrams, NGrams):
            raise TypeError(f"`ngrams` must be nn.NGrams(orders) or None; got {check.short(ngrams)}")
        orders = check.sequence("ngrams.orders", ngrams.orders)
        self.orders = tuple(check.positive_int("ngrams.orders", order) for order in orders)
        if not self.orders or min(self.orders) < 2:
            raise ValueError(f"`ngrams.orders` must be numbers of 2 or more; got {check.short(ngrams.orders)}")
        self.buckets = check.positive_int("ngrams.buckets", ngrams.buckets)
        rows, features = len(self.orders) * self.buckets, check.positive_int("ngrams.features", ngrams.features)
        zeros = jax.nn.initializers.zeros
        self.table = Embed(rows, features, embedding_init=zeros, **given._asdict())
        self.size = len(self.orders) * features

    def initial_carry(self, batch_shape: Shape = ()) -> jax.Array:
        """Returns the initial carry."""
        return jnp.full((*batch_shape, max(self.orders) - 1), _NONE, jnp.int32)

    def unroll(
        self, ids: jax.Array, carry: jax.Array | None, mask: jax.Array | None, reset: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the last carry and the embeddings `[B, T, size]` of the windows that end at each step.

        Args:
          ids: int `[B, T]`; ids on padding are ignored.
          carry: the last ids so far. None: there are none.
          mask: bool `[B, T]` or None; on False steps the carry is held, and the embeddings are zero.
          reset: bool `[B, T]` or None, True where a new sequence starts.

        Raises:
          TypeError, ValueError: `carry` is not int32 `[B, n - 1]`.
        """
        start = self.initial_carry(ids.shape[:-1])
        carry = start if carry is None else check.array("carry.recent", "B, n - 1", carry)
        if (carry.dtype, carry.shape) != (start.dtype, start.shape):
            raise ValueError(
                f"`carry.recent` must be {start.dtype} {start.shape}, the last ids from this model for this batch; "
                f"got {carry.dtype} {carry.shape}"
            )
        over_time = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), (ids.astype(jnp.int32), mask, reset))
        carry, windows = _meshes.scan(_shift, carry, over_time)
        rows = self._rows(jnp.moveaxis(windows, 0, -2))
        embedded = self.table(rows).reshape(*ids.shape, self.size)
        return carry, embedded if mask is None else jnp.where(mask[..., None], embedded, 0)

    def step(self, ids: jax.Array, carry: jax.Array | None, reset: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns the next carry and the embeddings `[B, size]` of the windows that end with `ids [B]`."""
        reset = None if reset is None else reset[..., None]
        carry, embedded = self.unroll(ids[..., None], carry, None, reset)
        return carry, embedded[..., 0, :]

    def _rows(self, windows):
        """Returns the row for each order, `[..., K]`: a hash of the ids modulo 2³² (FNV; Murmur3's finaliser)."""
        ids = (windows + 1).astype(jnp.uint32)
        rows = []
        for place, order in enumerate(self.orders):
            code = jnp.full(windows.shape[:-1], 2166136261, jnp.uint32)
            for i in range(windows.shape[-1] - order, windows.shape[-1]):
                code = (code ^ ids[..., i]) * jnp.uint32(16777619)
            code = (code ^ (code >> 16)) * jnp.uint32(0x85EBCA6B)
            code = (code ^ (code >> 13)) * jnp.uint32(0xC2B2AE35)
            code = code ^ (code >> 16)
            rows.append(place * self.buckets + (code % jnp.uint32(self.buckets)).astype(jnp.int32))
        return jnp.stack(rows, axis=-1)


def _shift(recent, inputs):
    """Returns the last ids after a step, and the window of the step."""
    new, is_real, is_start = inputs
    recent = recent if is_start is None else jnp.where(is_start[..., None], _NONE, recent)
    window = jnp.concatenate([recent, new[..., None]], axis=-1)
    shifted = window[..., 1:]
    return shifted if is_real is None else jnp.where(is_real[..., None], shifted, recent), window
