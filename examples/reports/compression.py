"""Models made smaller: the share of zeros, the table of sizes and accuracies, and the picture."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure


def zero_share(params: Any) -> float:
    """Returns the share of zeros in the matrices."""
    matrices = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim >= 2]
    return float(sum(jnp.sum(w == 0) for w in matrices) / sum(w.size for w in matrices))


def print_scores(table: dict[str, dict[str, Any]], chosen: str, count: int) -> None:
    """Prints sizes and accuracies by name, and how much the latter may be off for `count` cases to test."""
    whole = table["float32"]
    print(f"\n{'':26}{'bytes':>9}{'of float32':>12}{'validation':>12}{'test':>8}")
    for name, row in table.items():
        share = row["bytes"] / whole["bytes"]
        print(f"{name:26}{row['bytes']:9,d}{share:12.1%}{row['validation']:12.1%}{row['test']:8.1%}", end="")
        print("  chosen" if name == chosen else "")
    error = np.sqrt(whole["test"] * (1 - whole["test"]) / count)
    print(f"standard error of the test accuracy: {error:.1%} ({count} utterances)")


def plot(table: dict[str, dict[str, Any]], path: Path) -> None:
    """Draws test accuracy over size, a line for each way of making the model smaller."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    ways = {
        "zeros": ("pruned", "C0o:"),
        "zeros, tuned": ("pruned and tuned", "C0o-"),
        "zeros, tuned, int8": ("pruned, tuned and int8", "C2s-"),
        "float32": ("float32", "kD"),
        "int8": ("int8", "C1D"),
    }
    for way, (label, style) in ways.items():
        rows = [row for row in table.values() if row["way"] == way]
        if rows:
            axes.plot([row["bytes"] / 1e3 for row in rows], [row["test"] for row in rows], style, label=label)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="size, kB", ylabel="test accuracy")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
