"""Compression of models after training: int8 weights (quantisation), and weights that are mostly zero (pruning).

Quantisation is symmetric:

    s = max |w| / 127          q = round(w / s), int8          ŵ = s q          |w − ŵ| ≤ s / 2

There is one scale per column of a matrix: in y_j = Σ_i x_i w_ij it stays outside the sum, and large weights of one
output feature do not coarsen those of another. An embedding table `[V, D]` is read by rows, so it takes one scale per
row: each token keeps its own range. If its transpose is also the output matrix, the rows are the columns there.

Pruning is by magnitude (Han et al. 2015): the smallest weights become zero. Fine-tuning afterwards recovers most of the
loss. `keep_zeros` at the end of the optimizer's chain keeps the zeros.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseq import check
from jaxseq._promote import widen
from jaxseq.train._params import numbers, patterns
from jaxseq.train.groups import matrices
from jaxseq.typing import Params


class Quantized(NamedTuple):
    """A matrix in int8: `values [in, out]`, and `scale`, `[1, out]` or `[in, 1]`, in the original dtype."""

    values: jax.Array
    scale: jax.Array


def quantize(
    params: Params, *, where: str | Sequence[str] | None = None, rows: str | Sequence[str] | None = None
) -> Params:
    """Returns `params` with each selected matrix as a `Quantized`; other leaves do not change.

    The result is a pytree of arrays that can be saved and passed to jitted functions. A scale below the smallest normal
    float counts as zero. Call this outside jit, because it reads values.

    Args:
      params: a pytree of arrays.
      where: a pattern of paths, or a list of them, as in `groups.by_path`. None: every matrix.
      rows: the patterns of the matrices with one scale per row, such as embedding tables. None: no matrix.

    Raises:
      TypeError: a matrix is float16, in which scales underflow.
      ValueError: there is no matrix, or a weight is NaN or infinite; `where` or `rows` selects a leaf that is not a
        matrix; or `rows` selects a matrix that `where` does not.

    >>> params = jaxseq.lstm(8).init(jax.random.key(0), 5)
    >>> small = quantize(params)
    >>> small.w_h.values.dtype, small.w_h.scale.shape, size(params), size(small)
    (dtype('int8'), (1, 32), 1792, 800)
    """
    chosen = _finite_matrices(params, where)
    by_row = jax.tree.map(lambda _: False, params) if rows is None else matrices(params, rows, "rows")
    if any(row and not taken for row, taken in zip(*map(jax.tree.leaves, (by_row, chosen)), strict=True)):
        raise ValueError(
            f"`rows` must be among the matrices that `where` selects; got {check.short(rows)} and {check.short(where)}"
        )

    def small(w, taken, row):
        if not taken:
            return w
        if w.dtype == jnp.float16:
            raise TypeError("`params` must not be float16, in which scales underflow. Cast to float32 or bfloat16.")
        wide = w.astype(widen(w.dtype))
        scale = (jnp.max(jnp.abs(wide), axis=1 if row else 0, keepdims=True, initial=0) / 127).astype(w.dtype)
        scale = jnp.where(scale < jnp.finfo(w.dtype).tiny, 0, scale)
        # where the scale is zero, the value is zero; the clip to 127 matters if a bfloat16 scale was rounded down
        values = jnp.round(wide / jnp.where(scale == 0, jnp.inf, scale).astype(wide.dtype))
        return Quantized(jnp.clip(values, -127, 127).astype(jnp.int8), scale)

    return jax.tree.map(small, params, chosen, by_row)


def dequantize(tree: Params) -> Params:
    """Returns the params of a result of `quantize`, in their original dtypes.

    Call this inside a jitted function, so that memory holds int8 between calls.

    >>> small = quantize({"w": jnp.array([[1.27, 0.0], [-0.31, 0.0]])})
    >>> print(dequantize(small)["w"])
    [[ 1.27  0.  ]
     [-0.31  0.  ]]
    """
    numbers("tree", tree)

    def full(leaf):
        return leaf.values.astype(leaf.scale.dtype) * leaf.scale if isinstance(leaf, Quantized) else leaf

    return jax.tree.map(full, tree, is_leaf=lambda node: isinstance(node, Quantized))


def prune(params: Params, sparsity: float, *, where: str | Sequence[str] | None = None, scope: str = "leaf") -> Params:
    """Returns `params` with the smallest weights of the selected matrices set to zero.

    Of n weights, `round(sparsity * n)` become zero, counting those that are zero already; of equal magnitudes, the
    first. Call this outside jit, because it reads values.

    Args:
      params: a pytree of arrays.
      sparsity: the fraction of weights that become zero, in [0, 1).
      where: a pattern of paths, or a list of them, as in `groups.by_path`. None: every matrix.
      scope: "leaf": the fraction of each matrix; "global": the fraction of all matrices together, so that a matrix with
        larger weights keeps more of them.

    Raises:
      TypeError, ValueError: an argument does not fit; there is no matrix, or a weight is NaN or infinite.

    >>> prune({"w": jnp.array([[3.0, -0.1], [0.2, -2.0]])}, 0.5)["w"].tolist()
    [[3.0, 0.0], [0.0, -2.0]]
    """
    sparsity = check.rate("sparsity", sparsity)
    check.one_of("scope", scope, ("leaf", "global"))
    chosen = _finite_matrices(params, where)
    if scope == "leaf":
        return jax.tree.map(lambda w, taken: _without_smallest([w], sparsity)[0] if taken else w, params, chosen)
    leaves, structure = jax.tree.flatten(params)
    taken = jax.tree.leaves(chosen)
    pruned = iter(_without_smallest([w for w, t in zip(leaves, taken, strict=True) if t], sparsity))
    return jax.tree.unflatten(structure, [next(pruned) if t else w for w, t in zip(leaves, taken, strict=True)])


def masks(params: Params, *, where: str | Sequence[str] | None = None) -> Any:
    """Returns a bool array for each leaf: False where a weight of a selected matrix is zero, True elsewhere.

    Args:
      params: a pytree of arrays.
      where: a pattern of paths, or a list of them, as in `groups.by_path`. None: every matrix.

    >>> masks({"b": jnp.zeros(2), "w": jnp.array([[3.0, 0.0]])})
    {'b': Array([ True,  True], dtype=bool), 'w': Array([[ True, False]], dtype=bool)}
    """

    def mask(w, taken):
        return w != 0 if taken else jnp.ones(jnp.shape(w), bool)

    return jax.tree.map(mask, params, matrices(params, where))


def keep_zeros(*, where: str | Sequence[str] | None = None) -> optax.GradientTransformation:
    """Returns an optax transformation that keeps zeros of pruned matrices at zero; put it last in the chain.

    It has no state: a weight that is zero in the params of `update` stays zero, and all else is unchanged. A selected
    matrix must therefore not have been initialised to zero, as LoRA's b is. With `where=None`, biases are not selected.

    >>> optimizer = optax.chain(optax.sgd(0.5), keep_zeros())
    >>> params = {"w": jnp.array([[3.0, 0.0]])}
    >>> updates, _ = optimizer.update({"w": jnp.ones([1, 2])}, optimizer.init(params), params)
    >>> print(updates["w"])
    [[-0.5  0. ]]
    """
    patterns("where", where)

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("keep_zeros needs `params`: optimizer.update(gradients, state, params)")
        kept = jax.tree.map(lambda free, update: jnp.where(free, update, 0), masks(params, where=where), updates)
        return kept, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def size(params: Params) -> int:
    """Returns the size in bytes of all arrays in `params`, including `Quantized` ones."""
    return sum(leaf.nbytes for leaf in _arrays("params", params))


def sparse_size(params: Params) -> int:
    """Returns the size of `params` in bytes if zeros are left out: a bit per entry, and the entries that are not zero.

    An array that is smaller in its dense form counts with its dense size. This is the size of a file or a message;
    programs run on dense arrays.

    >>> pruned = prune(jaxseq.lstm(8).init(jax.random.key(0), 5), 0.9)
    >>> size(pruned), sparse_size(pruned)
    (1792, 256)
    """

    def smaller(leaf):
        return min(leaf.nbytes, int(jnp.count_nonzero(leaf)) * leaf.dtype.itemsize + -(-leaf.size // 8))

    return sum(smaller(leaf) for leaf in _arrays("params", params))


def _arrays(name, params):
    return [np.asarray(leaf) if isinstance(leaf, int | float | complex) else leaf for _, leaf in numbers(name, params)]


def _without_smallest(weights, sparsity):
    """Returns the matrices with the given fraction of all their entries set to zero."""
    magnitudes = jnp.concatenate([jnp.abs(w).ravel() for w in weights])
    smallest = jnp.argsort(magnitudes, stable=True)[: round(sparsity * magnitudes.size)]
    keep = jnp.ones(magnitudes.size, bool).at[smallest].set(False)
    parts = jnp.split(keep, np.cumsum([w.size for w in weights])[:-1])
    return [jnp.where(part.reshape(w.shape), w, 0) for part, w in zip(parts, weights, strict=True)]


def _finite_matrices(params, where):
    chosen = matrices(params, where)
    taken = [w for w, taken in zip(*map(jax.tree.leaves, (params, chosen)), strict=True) if taken]
    if not taken:
        raise ValueError("`params` must hold a floating matrix to compress; got none")
    for w in taken:
        if not jnp.all(jnp.isfinite(w)):
            raise ValueError(f"`params` must be finite; got NaN or inf in a matrix of {w.shape}. Did training diverge?")
    return chosen
