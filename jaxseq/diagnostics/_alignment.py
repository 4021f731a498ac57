"""Plots of attention weights: how much each output attends to each input (Bahdanau et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxseq.diagnostics._axes import axes_or_new, named, real
from jaxseq.typing import AnyArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_alignment(
    weights: AnyArray,
    *,
    source: Sequence[str] | None = None,
    target: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plots the attention weights of one pair of sequences: a row per output, a column per input; dark is 1.

    Args:
      weights: `[L, S]`, without padding, such as `nn.Seq2Seq.alignments(...)[0]` or the weights of one head.
      source: a label for each of the S inputs. None: their indices.
      target: a label for each of the L outputs. None: their indices.
      ax: the axes to draw on. None: the axes of a new figure.

    Raises:
      ValueError: `weights` is not of one pair, or the number of labels is wrong.
    """
    values = real("weights", "[L, S], of one row of the batch", weights, (2,))
    named("source", source, values.shape[1], f"S = {values.shape[1]} of `weights`")
    named("target", target, len(values), f"L = {len(values)} of `weights`")
    ax = axes_or_new(ax)
    ax.imshow(values, aspect="auto", interpolation="nearest", cmap="Greys", vmin=0, vmax=1)
    if source is not None:
        if max(map(len, source), default=0) > 3:
            ax.set_xticks(range(len(source)), source, rotation=60, ha="right", rotation_mode="anchor")
        else:
            ax.set_xticks(range(len(source)), source, rotation=0, ha="center", rotation_mode="default")
    if target is not None:
        ax.set_yticks(range(len(target)), target)
    ax.set(xlabel="input" if source is None else "", ylabel="output" if target is None else "", title="Alignment")
    return ax
