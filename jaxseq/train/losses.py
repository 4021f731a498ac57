"""Losses per step, and the functions that reduce them to one number.

Each loss returns one value per step, which is zero where the mask is False. Padding (NaN, inf, an id out of range)
affects neither a value nor a gradient. `jnp.sum` therefore adds up the real steps, and `mean` averages over them:

    loss = losses.mean(losses.cross_entropy(logits, labels, mask=mask), mask=mask) + 1e-4 * losses.l2(params)

Arrays and mask have one shape; nothing is broadcast. Losses are computed in the dtype of the predictions, or in float32
for bfloat16 and float16. Targets are cast to that dtype. The time axis may be any axis.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseq import check, masking
from jaxseq._promote import expand_rank
from jaxseq.train._elementwise import floating, floats, integers, real, wide
from jaxseq.train._params import numbers
from jaxseq.typing import AnyArray, Params


def cross_entropy(
    logits: AnyArray, labels: AnyArray, *, smoothing: float = 0.0, mask: AnyArray | None = None
) -> jax.Array:
    """Returns the cross entropy of softmax(logits) and the labels, in nats, float `[...]`.

    On a real step, a label that is out of range or negative gives NaN.

    Args:
      logits: float `[..., K]`.
      labels: int `[...]`, in 0 … K - 1.
      smoothing: label smoothing, the fraction of the target that is spread evenly over all K labels (Szegedy et al.
        2016).
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype, a shape or `smoothing` does not fit.

    >>> from jaxseq.train import losses
    >>> losses.cross_entropy(jnp.zeros([2, 4]), jnp.array([3, -1]), mask=jnp.array([True, False]))
    Array([1.3862944, 0.       ], dtype=float32)
    """
    smoothing = check.rate("smoothing", smoothing)
    logits, labels = check.array("logits", "..., K", logits), check.array("labels", "...", labels)
    floating("logits", logits)
    labels = integers("labels", labels)
    if logits.ndim == 0 or logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"`logits` must be [..., K], one axis more than `labels` [...] = {labels.shape}; got {logits.shape}"
        )
    if not logits.shape[-1]:
        raise ValueError(f"`logits` must be [..., K] with K of at least 1; got {logits.shape}")
    mask = check.flags("mask", mask, labels.shape, "...")
    logits, labels = masking.keep(mask, (logits.astype(wide(logits)), labels))
    labels = jnp.where(labels < 0, logits.shape[-1], labels)  # JAX would count negative indices from the end
    # optax's removes the last axis by a gather, whose gradient jax 0.12 refuses on explicit axes
    picked = jnp.squeeze(jnp.take_along_axis(logits, labels[..., None], axis=-1), -1)
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    loss = normalizer - picked
    if smoothing:
        loss = (1 - smoothing) * loss + smoothing * (normalizer - jnp.mean(logits, axis=-1))
    return masking.keep(mask, loss)


def binary_cross_entropy(logits: AnyArray, labels: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns the cross entropy of sigmoid(logits) and the labels, in nats, float `[...]`.

    Args:
      logits: float `[...]`.
      labels: `[...]`, bools, or probabilities in [0, 1].
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.
    """
    return _elementwise(optax.sigmoid_binary_cross_entropy, mask, logits=logits, labels=labels)


def squared_error(predictions: AnyArray, targets: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns the squared error (predictions - targets)², in squared units of the targets, float `[...]`.

    Args:
      predictions: float `[...]`.
      targets: real `[...]`.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.

    >>> from jaxseq.train import losses
    >>> losses.squared_error(jnp.ones([3]), jnp.ones([3, 1]))
    Traceback (most recent call last):
    ValueError: `targets` must have the shape of `predictions`, (3,); got (3, 1). Nothing is broadcast.
    """
    return _elementwise(optax.squared_error, mask, predictions=predictions, targets=targets)


def absolute_error(predictions: AnyArray, targets: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns the absolute error |predictions - targets|, in units of the targets, float `[...]`.

    Args:
      predictions: float `[...]`.
      targets: real `[...]`.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.
    """
    return _elementwise(lambda p, t: jnp.abs(p - t), mask, predictions=predictions, targets=targets)


def huber(predictions: AnyArray, targets: AnyArray, *, delta: float = 1.0, mask: AnyArray | None = None) -> jax.Array:
    """Returns the Huber loss of e = predictions - targets, in squared units of the targets, float `[...]` (Huber 1964).

    It is e² / 2 where |e| ≤ delta, and delta (|e| - delta / 2) elsewhere.

    Args:
      predictions: float `[...]`.
      targets: real `[...]`.
      delta: a positive number, in units of the targets; infinity gives e² / 2.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype, a shape or `delta` does not fit.
    """
    delta = check.positive("delta", delta)
    if math.isinf(delta):  # optax would multiply it by zero
        return _elementwise(
            lambda p, t: 0.5 * optax.squared_error(p, t), mask, predictions=predictions, targets=targets
        )
    return _elementwise(
        lambda p, t: optax.huber_loss(p, t, delta=delta), mask, predictions=predictions, targets=targets
    )


def quantile(
    predictions: AnyArray, targets: AnyArray, levels: Sequence[float], *, mask: AnyArray | None = None
) -> jax.Array:
    """Returns the quantile (pinball) loss, averaged over Q levels, in units of the targets, float `[...]`.

    At level q it is max(q e, (q - 1) e) with e = target - prediction. Its minimiser is the q-quantile (Koenker &
    Bassett 1978). At q = 0.5 it is half the absolute error.

    Args:
      predictions: float `[..., Q]`, one quantile for each level.
      targets: real `[...]`.
      levels: Q numbers between 0 and 1.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype, a shape or `levels` does not fit.
    """
    try:
        q = np.asarray(levels, float)
    except (TypeError, ValueError):
        raise TypeError(f"`levels` must be numbers, such as [0.1, 0.5, 0.9]; got {check.short(levels)}") from None
    if q.ndim != 1 or not q.size or not np.all((q > 0) & (q < 1)):
        raise ValueError(
            f"`levels` must be numbers between 0 and 1, such as [0.1, 0.5, 0.9]; got {check.short(levels)}"
        )
    predictions, targets = check.array("predictions", "..., Q", predictions), check.array("targets", "...", targets)
    floating("predictions", predictions)
    real("targets", targets)
    if predictions.shape != (*targets.shape, q.size):
        raise ValueError(
            f"`predictions` must be [..., Q] = {(*targets.shape, q.size)}, the shape of `targets` and the {q.size} "
            f"`levels`; got {predictions.shape}"
        )
    mask = check.flags("mask", mask, targets.shape, "...")
    dtype = wide(predictions)
    predictions, targets = masking.keep(mask, (predictions.astype(dtype), targets.astype(dtype)))
    error = targets[..., None] - predictions
    q = expand_rank(jnp.asarray(q, dtype), error)
    return masking.keep(mask, jnp.mean(jnp.maximum(q * error, (q - 1) * error), axis=-1))


def gaussian_nll(mean: AnyArray, std: AnyArray, targets: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns the Gaussian negative log-likelihood -log N(targets; mean, std²), in nats, float `[...]`.

    It includes the constant ½ log 2π.

    Args:
      mean: float `[...]`, in units of the targets.
      std: `[...]`, positive, such as the output of a softplus; a negative std gives NaN. In units of the targets.
      targets: real `[...]`.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.
    """

    def nll(mean, std, targets):
        std = std if mask is None else jnp.where(mask, std, 1)
        return 0.5 * jnp.square((targets - mean) / std) + jnp.log(std) + 0.5 * math.log(2 * math.pi)

    return _elementwise(nll, mask, mean=mean, std=std, targets=targets)


def mean(values: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns the mean of the values on real steps; without real steps it is 0, with zero gradients.

    Values in bfloat16 and float16 are added up in float32, and their mean is float32.

    Args:
      values: `[...]`, such as a loss of this module.
      mask: bool `[...]`, True where a step is real.

    Returns:
      A float scalar, in the units of the values.

    Raises:
      TypeError, ValueError: `mask` is not bool `[...]`.
    """
    values = check.array("values", "...", values)
    real("values", values)
    mask = check.flags("mask", mask, values.shape, "...")
    count = values.size if mask is None else jnp.sum(mask)
    total = jnp.sum(masking.keep(mask, values), dtype=wide(values))
    return total / jnp.maximum(count, 1).astype(total.dtype)


def l1(params: Params) -> jax.Array:
    """Returns the sum of |w| over all weight matrices, which are the float leaves of at least two axes.

    Leaves of one axis, such as biases and the scales of norms, do not count. To penalise other leaves, pass only those.

    Args:
      params: a pytree of arrays.

    Raises:
      TypeError: a leaf is complex.
    """
    return _over_matrices(jnp.abs, params)


def l2(params: Params) -> jax.Array:
    """Returns the sum of w² over all weight matrices, which are the float leaves of at least two axes.

    Leaves of one axis, such as biases and the scales of norms, do not count. To penalise other leaves, pass only those.
    With Adam, weight decay (`optax.adamw`) is not the same, and usually the better choice (Loshchilov & Hutter 2019).

    Args:
      params: a pytree of arrays.

    Raises:
      TypeError: a leaf is complex.
    """
    return _over_matrices(jnp.square, params)


def _elementwise(loss: Callable[..., jax.Array], mask: AnyArray | None, **arrays: AnyArray) -> jax.Array:
    """Returns the loss on real steps, and zero on padding, where the loss function gets zeros."""
    xs = floats(**arrays)
    mask = check.flags("mask", mask, xs[0].shape, "...")
    return masking.keep(mask, loss(*masking.keep(mask, xs)))


def _over_matrices(penalty: Callable[[jax.Array], jax.Array], params: Params) -> jax.Array:
    named = [(name, jnp.asarray(leaf)) for name, leaf in numbers("params", params)]
    for name, leaf in named:
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise TypeError(f"`{name}` must be real; got {leaf.dtype} {leaf.shape}")
    matrices = [leaf for _, leaf in named if leaf.ndim >= 2 and jnp.issubdtype(leaf.dtype, jnp.floating)]
    return sum((jnp.sum(penalty(leaf.astype(wide(leaf)))) for leaf in matrices), jnp.asarray(0.0))
