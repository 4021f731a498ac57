"""Where attention looks: the weights of each output on each input (Bahdanau et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax

from jaxseq.diagnostics._axes import axes_or_new, named, real

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_alignment(
    weights: jax.Array,
    *,
    source: Sequence[str] | None = None,
    target: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws the weights of attention of one pair of sequences, a row an output, a column an input: dark is 1.

    Args:
      weights: `[L, S]`, such as `nn.Seq2Seq.alignments(...)[0]`, or of one head; without the padding.
      source, target: a name for each of the S inputs, and of the L outputs; None: their numbers.
      ax: the axes to draw on; None: those of a new figure.

    Raises:
      ValueError: `weights` are not of one pair, or the names not as many.
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
