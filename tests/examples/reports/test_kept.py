"""The star stands at the row of the lowest validation loss, on its curve, and takes no color of the next one."""

import numpy as np
from matplotlib.figure import Figure

from examples.reports.kept import plot_history


def test_the_kept_row_has_a_star():
    numbers = ((10, 2, 0.1), (20, 1, 0.5), (30, 3, 0.9))
    rows = [{"step": step, "validation/loss": loss, "f1": f1} for step, loss, f1 in numbers]
    axes = Figure().subplots()
    plot_history(axes, rows, "step", "f1", "a net")
    plot_history(axes, rows[:1], "step", "f1", "another")
    curve, star, other, _ = axes.lines
    assert np.asarray(curve.get_xydata()).tolist() == [[10, 0.1], [20, 0.5], [30, 0.9]]
    assert np.asarray(star.get_xydata()).tolist() == [[20, 0.5]]
    assert star.get_marker() == "*"
    assert star.get_color() == curve.get_color() != other.get_color()
    assert [text.get_text() for text in axes.legend().get_texts()] == ["a net", "another"]
