"""How often gates saturate (Karpathy, Johnson & Li 2016).

    left_j = fraction of real steps with gate_j < 0.1          right_j = fraction with gate_j > 0.9

A unit whose forget gate is right-saturated at nearly all steps remembers for long. A unit whose forget gate is
left-saturated at nearly all steps works like a feed-forward unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq.diagnostics._axes import mapping, real
from jaxseq.typing import AnyArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Saturation(NamedTuple):
    """The fractions `[H]` of steps at which each unit's gate is near its lower end (left) and its upper end (right)."""

    left: jax.Array
    right: jax.Array


def saturation(gate: AnyArray, *, low: float = 0.1, high: float = 0.9, mask: AnyArray | None = None) -> Saturation:
    """Returns the fractions of steps at which each unit's gate is below `low`, and above `high`.

    Args:
      gate: `[T, B, H]` with any number of batch axes, such as `gate_traces(...)["f"]`.
      low: a gate below this value is left-saturated.
      high: a gate above this value is right-saturated.
      mask: bool `[T, B]`; only True steps count. Without True steps, the fractions are zero.

    Raises:
      TypeError, ValueError: `gate` or `mask` does not fit, or `low` is above `high`.

    >>> from jaxseq import diagnostics
    >>> diagnostics.saturation(jnp.array([[0.0, 0.5], [1.0, 0.95]]))
    Saturation(left=Array([0.5, 0. ], dtype=float32), right=Array([0.5, 0.5], dtype=float32))
    """
    gate = check.floating("gate", "T, B, H", gate)
    low, high = check.finite("low", low), check.finite("high", high)
    if gate.ndim < 2:
        raise ValueError(f"`gate` must be [T, B, H], of at least 2 axes; got {gate.shape}")
    if not low <= high:
        raise ValueError(f"`low` must not be above `high`; got {low} and {high}")
    mask = check.flags("mask", mask, gate.shape[:-1])
    real = jnp.ones(gate.shape[:-1], bool) if mask is None else mask
    count = jnp.maximum(jnp.sum(real), 1)

    def share(flags):
        return jnp.sum(flags & real[..., None], axis=range(gate.ndim - 1)) / count

    return Saturation(share(gate < low), share(gate > high))


def plot_saturation(saturations: Mapping[str, Saturation], *, ax: Axes | None = None) -> Axes:
    """Plots each unit as a point: how often its gate is right-saturated against how often it is left-saturated.

    Args:
      saturations: a dict of results of `saturation`, with the gates' names as keys.
      ax: the axes to draw on. None: the axes of a new figure.
    """
    import matplotlib.pyplot as plt

    for name, shares in mapping("saturations", saturations):
        if not isinstance(shares, Saturation):
            raise TypeError(f"`saturations[{name!r}]` must be a result of saturation; got {type(shares).__name__}")
        left, right = (real(f"saturations[{name!r}]", "shares [H]", share, (1,)) for share in shares)
        if left.shape != right.shape:
            raise ValueError(f"`saturations[{name!r}]` must have equal shapes; got {left.shape} and {right.shape}")
    if ax is None:
        ax = plt.subplots(figsize=(4.2, 4.2), layout="constrained")[1]
    ax.plot([0, 1], [1, 0], color="0.4", lw=1, ls="--")  # the two fractions add up to at most 1
    for name, (left, right) in saturations.items():
        ax.scatter(np.asarray(left), np.asarray(right), s=28, alpha=0.6, lw=0, label=name, clip_on=False, zorder=3)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title="Saturation of gates")
    ax.set(xlabel="share of steps left-saturated", ylabel="share of steps right-saturated")
    ax.grid(alpha=0.3)
    ax.legend(loc="upper right")
    return ax
