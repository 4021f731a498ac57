"""How many rounds Newton's method took: the table and the picture."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

MOST = 48  # rounds, after which the loop is taken


class Run(NamedTuple):
    """A net, and how Newton's method did on it."""

    gain: float
    exponent: float
    T: int
    rounds: int
    fell_back: bool
    settled: int  # steps, before the first that has not converged
    off: float  # from the values of `scan`


def plot(runs: list[Run], path: Path) -> None:
    """Draws rounds, and the steps that each put right, over the exponent."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for color, T in enumerate(sorted({run.T for run in runs})):
        for marker, fell_back in (("o", False), ("x", True)):
            some = [run for run in runs if (run.T, run.fell_back) == (T, fell_back)]
            style = {"c": f"C{color}", "marker": marker, "s": 120 / 3**color, "alpha": 0.7}
            style["label"] = f"T = {T:,}{', took the loop' * fell_back}"
            exponents = [run.exponent for run in some]
            left.scatter(exponents, [run.rounds for run in some], **style)
            right.scatter(exponents, [run.settled / run.rounds for run in some], **style)
    left.set(ylabel="rounds", title=f"Rounds, at most {MOST}")
    right.set(ylabel="steps", yscale="log", title="Steps put right a round")
    for axes in figure.axes:
        axes.axvline(0, color="0.4", lw=1, ls="--")
        axes.set(xlabel="largest Lyapunov exponent, a step")
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def table(runs: list[Run]) -> str:
    """A row a gain: the exponent's mean, and of each T the rounds of all seeds, or where they had come to."""
    lengths = sorted({run.T for run in runs})
    lines = [f"{'gain':>5}{'exponent':>10}" + "".join(f"{f'T = {T:,}':>26}" for T in lengths)]
    for gain in dict.fromkeys(run.gain for run in runs):
        own = [run for run in runs if run.gain == gain]
        told = [(run.T, f"({run.settled:,})" if run.fell_back else str(run.rounds)) for run in own]
        cells = (", ".join(word for of_T, word in told if of_T == T) for T in lengths)
        lines.append(f"{gain:5.1f}{np.mean([run.exponent for run in own]):10.3f}" + "".join(f"{c:>26}" for c in cells))
    return "\n".join([*lines, f"in brackets, of those that took the loop: the steps right after {MOST} rounds"])
