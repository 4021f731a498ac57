"""Curves of several nets in one picture, each with a star at the row whose params were kept."""

from collections.abc import Sequence

from matplotlib.axes import Axes


def plot_history(axes: Axes, history: Sequence[dict[str, float]], x: str, y: str, name: str) -> None:
    """Draws the numbers `y` of the rows over their numbers `x`; the row of the lowest validation loss has the star."""
    (line,) = axes.plot([row[x] for row in history], [row[y] for row in history], marker="o", markersize=3, label=name)
    kept = min(history, key=lambda row: row["validation/loss"])
    axes.plot(kept[x], kept[y], "*", color=line.get_color(), markersize=11)
