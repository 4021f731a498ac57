"""Low-rank adaptation, LoRA (Hu et al. 2021): fine-tunes a fixed matrix by adding a product of two thin ones.

    Ŵ = W + scale · a b          W [in, out]     a [in, r] ~ N(0, 1 / in)     b [r, out] = 0

The adapters are a pytree of their own, and `apply` combines them with the params. Any cell or model can therefore be
adapted: train the adapters by their gradient, and deploy the merged params that `apply` returns.

Recurrent weights hold their gates side by side, `[H, 4H]` in an LSTM, and the rank is that of the whole matrix. The
gates share a, hence r directions of h, and each gate has its own H columns of b. There are r (H + 4H) numbers instead
of H · 4H.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check, initializers
from jaxseq.train._params import numbers
from jaxseq.train.groups import matrices
from jaxseq.typing import AnyArray, Params


class Adapter(NamedTuple):
    """The update a b of one matrix [in, out]: `a [in, r]`, `b [r, out]`."""

    a: AnyArray
    b: AnyArray


def init(key: jax.Array, params: Params, rank: int, *, where: str | Sequence[str] | None = None) -> Any:
    """Returns new adapters for `params`: an `Adapter` in place of each adapted matrix, None for other leaves.

    Initially b is zero, so that the adapted params equal `params`.

    Args:
      key: the random key for a.
      params: a pytree of arrays; adapters have the dtypes of their matrices.
      rank: r, a positive int.
      where: a pattern of paths, or a list of them, as in `groups.by_path`. None: every matrix.

    Raises:
      TypeError, ValueError: `rank` is not a positive int or exceeds a side of a matrix; `where` selects a leaf that is
        not a matrix; or there are no matrices.

    >>> params = jaxseq.lstm(8).init(jax.random.key(0), 5)
    >>> adapters = init(jax.random.key(1), params, 2, where="w_h")
    >>> adapters.w_x is None, adapters.w_h.a.shape, adapters.w_h.b.shape
    (True, (8, 2), (2, 32))
    """
    check.positive_int("rank", rank)
    check.given_key(key)
    chosen = matrices(params, where)
    if not any(jax.tree.leaves(chosen)):
        raise ValueError("`params` must hold a floating matrix to adapt; got none")
    keys = iter(jax.random.split(key, sum(jax.tree.leaves(chosen))))

    def adapter(w, adapted):
        if not adapted:
            return None
        if rank > min(w.shape):
            raise ValueError(
                f"`rank` must be at most the shorter side of each matrix; got {rank} for one of {w.shape}. "
                "Select matrices by `where`."
            )
        draw = initializers.scaled_normal(w.shape[0] ** -0.5)
        return Adapter(draw(next(keys), (w.shape[0], rank), w.dtype), jnp.zeros((rank, w.shape[1]), w.dtype))

    return jax.tree.map(adapter, params, chosen)


def apply(params: Params, adapters: Any, *, scale: float = 1.0) -> Params:
    """Returns `params` with W + scale · a b in place of each matrix that has an adapter, in the dtype of W.

    Args:
      params: the params that `init` was given.
      adapters: what `init` returned, or the same after training.
      scale: a finite number or a scalar array; the paper's α / r.

    Raises:
      TypeError, ValueError: `adapters` does not belong to `params`, or `scale` is not one finite number.

    >>> params = jaxseq.lstm(8).init(jax.random.key(0), 5)
    >>> adapters = init(jax.random.key(1), params, 2)
    >>> bool(jnp.all(apply(params, adapters).w_h == params.w_h))
    True
    """
    numbers("params", params)
    numbers("adapters", adapters)
    if not isinstance(scale, int | float | np.generic | np.ndarray | jax.Array) or isinstance(scale, bool):
        raise TypeError(f"`scale` must be a number; got {check.short(scale)}")
    if np.ndim(scale) or not (isinstance(scale, jax.Array) or math.isfinite(scale)):
        raise ValueError(f"`scale` must be one finite number; got {check.short(scale)}")
    leaves, structure = jax.tree.flatten(adapters, is_leaf=lambda node: node is None or isinstance(node, Adapter))
    try:
        if not all(leaf is None or isinstance(leaf, Adapter) for leaf in leaves):
            raise ValueError("no adapters")
        ws = structure.flatten_up_to(params)  # a quantised matrix is a tree, not a leaf
    except ValueError:
        message = "`adapters` must be what init returned for `params`, an Adapter or None in place of each leaf"
        raise ValueError(message) from None

    def adapted(adapter, w):
        if adapter is None:
            return w
        shape = (adapter.a.shape[0], adapter.b.shape[1])
        if getattr(w, "shape", None) != shape:
            raise ValueError(
                f"`params` must have a matrix {shape} for each adapter of that shape; got "
                f"{getattr(w, 'shape', type(w).__name__)}. Are the adapters another model's, or the params quantised?"
            )
        for name, x in (("params", w), ("adapters", adapter.a), ("adapters", adapter.b)):
            if not jnp.issubdtype(x.dtype, jnp.floating):
                raise TypeError(f"`{name}` must be floating to adapt a matrix; got {check.shaped(x)}")
        return (w + scale * (adapter.a @ adapter.b)).astype(w.dtype)

    return structure.unflatten(map(adapted, leaves, ws))
