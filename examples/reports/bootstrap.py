"""Is one forecast better than another? An interval by the block bootstrap says, and a verdict."""

import numpy as np


def compare(ours: np.ndarray, theirs: np.ndarray, block: int) -> tuple[float, float, float, str]:
    """Returns by how much our mean loss is above theirs, the ends of its 95 % interval, and what that says of ours.

    The losses `[M]` are those of the same forecasts, in the order of time. Neighbours err alike, so the interval is by
    the circular block bootstrap (Politis & Romano 1992), which draws `block` of them together.
    """
    difference = ours - theirs
    starts = np.random.default_rng(0).integers(0, len(ours), (2000, -(-len(ours) // block)))
    means = difference[(starts[..., None] + np.arange(block)) % len(ours)].mean(axis=(1, 2))
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return float(difference.mean()), low, high, "better" if high < 0 else "worse" if low > 0 else "no clear difference"
