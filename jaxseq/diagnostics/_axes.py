"""What all plots share: the axes they draw on, and checks of their data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseq import check

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes_or_new(ax: Axes | None) -> Axes:
    """Returns `ax`, or the axes of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]


def real(name: str, axes: str, values: Any, ndims: tuple[int, ...]) -> np.ndarray:
    """Returns real data as float64 after checking the number of its axes."""
    values = check.array_like(name, axes, values)
    if np.iscomplexobj(values):
        raise TypeError(f"`{name}` must be real; got {values.dtype}")
    if values.ndim not in ndims:
        raise ValueError(f"`{name}` must be {axes}; got {values.shape}")
    return np.asarray(values, np.float64)


def named(name: str, labels: Sequence[str] | None, size: int, what: str) -> None:
    """Raises unless `labels` is None or holds `size` names."""
    if labels is None:
        return
    if not isinstance(labels, Sequence) or not all(isinstance(one, str) for one in labels):
        raise TypeError(f"`{name}` must be a sequence of names; got {check.short(labels)}")
    if len(labels) != size:
        raise ValueError(f"`{name}` must hold one name for each of the {what}; got {len(labels)}")


def mapping(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    """Returns the items of a dict after checking that it is not empty."""
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a dict with names as keys; got {type(value).__name__}")
    if not value:
        raise ValueError(f"`{name}` must not be empty; got an empty dict")
    return value.items()
