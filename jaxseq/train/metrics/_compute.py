"""What all metrics share: they merge by addition, and `compute` turns them into numbers."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check

T = TypeVar("T")


class Metric(Protocol):
    """A pytree of sums whose `value` is a number or a dict of numbers."""

    @property
    def value(self) -> Any:
        """A scalar, or a dict of scalars by name."""
        ...


def is_metric(value: Any) -> bool:
    """Returns whether `value` is a metric; looks at its type only, since `.value` may cost a computation."""
    return hasattr(type(value), "value")


def merge(a: T, b: T) -> T:
    """Returns the metric of two batches together; pytrees of metrics are merged leaf by leaf.

    Args:
      a, b: the same metric of two batches, or pytrees of metrics with the same structure.

    Raises:
      ValueError: `a` and `b` are not the same metrics with the same shapes.

    >>> from jaxseq.train import metrics
    >>> merged = metrics.merge(metrics.mean(jnp.array([1.0, 2.0])), metrics.mean(jnp.array([6.0])))
    >>> float(merged.value)
    3.0
    """
    check.representable((a, b), ("a", "b"))
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (a, b)]
    if jax.tree.structure(a) != jax.tree.structure(b) or shapes[0] != shapes[1]:
        got = " and ".join(check.brief(jax.tree.map(check.shaped, tree)) for tree in (a, b))
        raise ValueError(f"`a` and `b` must be the same metrics; got {got}")
    return jax.tree.map(jnp.add, a, b)


def compute(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of metrics as Python floats by name; scalars are returned as they are.

    Nested dicts, and metrics whose value is a dict, are flattened: {"valid": {"loss": mean}} gives "valid/loss". All
    numbers are fetched from the device at once.

    Args:
      metrics: a dict of metrics, scalar arrays and numbers by name, or of such dicts.

    Raises:
      TypeError: a value is neither a metric nor a scalar.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"`metrics` must be a dict of metrics and scalars by name; got {check.short(metrics)}")
    flat = dict(_flat("", metrics))
    for name, x in flat.items():
        if jnp.shape(x) != ():
            raise TypeError(f"`metrics` must be metrics or scalars; {name!r} is of shape {jnp.shape(x)}")
        if jnp.iscomplexobj(x):
            raise TypeError(f"`metrics` must be real; {name!r} is {check.shaped(x)}")
    return {name: float(x) for name, x in zip(flat, jax.device_get(list(flat.values())), strict=True)}


def _flat(name: str, x: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(x, Mapping):
        for leaf in jax.tree.leaves(x):
            if isinstance(leaf, np.ndarray):
                check.representable(leaf, f"metrics[{name!r}]")
    x = getattr(x, "value", x)
    if isinstance(x, Mapping):
        for key, part in x.items():
            yield from _flat(f"{name}/{key}" if name else key, part)
    elif not isinstance(x, jax.Array | np.ndarray | np.generic | int | float):
        raise TypeError(f"`metrics` must be metrics or scalars; {name!r} is {check.short(x)}")
    else:
        yield name, x
