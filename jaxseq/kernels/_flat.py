"""A carry as one array of real numbers, `[*B, n]`, for a solver."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq._promote import widen, wider
from jaxseq.typing import Carry


class Flat(NamedTuple):
    """How a carry is flattened. It is static, as it contains no array.

    Attributes:
      tree: the structure of the carry.
      leaves: its leaves' `(shape without batch axes, dtype)`.
    """

    tree: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]

    @classmethod
    def of(cls, carry: Carry, batch_axes: int) -> "Flat":
        """Returns how a carry with this many batch axes is flattened. Shapes may be passed in place of arrays."""
        leaves, tree = jax.tree.flatten(carry)
        return cls(tree, tuple((leaf.shape[batch_axes:], jnp.dtype(leaf.dtype)) for leaf in leaves))

    @property
    def size(self) -> int:
        """n: the number of real numbers in a row's carry. A complex number counts as two."""
        return sum(math.prod(shape) * (2 if _is_complex(dtype) else 1) for shape, dtype in self.leaves)

    @property
    def dtype(self) -> Any:
        """The dtype of the array: that of the widest leaf, and at least float32."""
        return widen(wider(jnp.float32, *(jnp.finfo(dtype).dtype for _, dtype in self.leaves)))

    @property
    def eps(self) -> float:
        """The spacing of numbers near 1 in the coarsest leaf."""
        return max((float(jnp.finfo(dtype).eps) for _, dtype in self.leaves), default=float(jnp.finfo(self.dtype).eps))

    def flat(self, carry: Carry, batch: tuple[int, ...]) -> jax.Array:
        """Returns a carry `[*batch, ...]` as an array `[*batch, n]`."""
        parts = [jnp.zeros((*batch, 0), self.dtype)]
        for leaf in jax.tree.leaves(carry):
            for part in (leaf.real, leaf.imag) if _is_complex(leaf.dtype) else (leaf,):
                parts.append(part.reshape(*batch, math.prod(leaf.shape[len(batch) :])).astype(self.dtype))
        return jnp.concatenate(parts, axis=-1)

    def whole(self, flat: jax.Array) -> Carry:
        """Returns the carry that an array `[*B, n]` was flattened from."""
        leaves, start = [], 0
        for shape, dtype in self.leaves:
            parts = []
            for _ in range(2 if _is_complex(dtype) else 1):
                part = jax.lax.slice_in_dim(flat, start, start + math.prod(shape), axis=-1)
                parts.append(part.reshape(*flat.shape[:-1], *shape).astype(jnp.finfo(dtype).dtype))
                start += math.prod(shape)
            leaves.append(jax.lax.complex(*parts) if len(parts) == 2 else parts[0])
        return jax.tree.unflatten(self.tree, leaves)


def _is_complex(dtype):
    return jnp.issubdtype(dtype, jnp.complexfloating)
