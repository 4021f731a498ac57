"""Decisions among several classes: the table of scores, and which class was taken for which."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def print_scores(table: dict[str, np.ndarray]) -> None:
    """Prints accuracy, precision, recall and F1 by name, `[4]`, the highest accuracy first."""
    print(f"\n{'test part':22}{'accuracy':>10}{'precision':>11}{'recall':>8}{'F1':>8}  (macro)")
    for name in sorted(table, key=lambda name: -table[name][0]):
        accuracy, precision, recall, f1 = table[name]
        print(f"{name:22}{accuracy:10.1%}{precision:11.1%}{recall:8.1%}{f1:8.1%}")


def plot_confusion(counts: np.ndarray, classes: list[str], path: Path) -> None:
    """Draws how often each class, a row, was taken for which."""
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if row == column else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize="small")
    ticks = {"xticks": range(len(classes)), "yticks": range(len(classes))}
    axes.set(**ticks, xticklabels=classes, yticklabels=classes, xlabel="predicted", ylabel="is")
    axes.set_title("Decisions on the test part, three models together", fontsize="medium")
    figure.savefig(path, dpi=150)
