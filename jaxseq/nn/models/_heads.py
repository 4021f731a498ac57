"""Heads of forecasters, the kinds of prediction: a value, quantiles, or a normal distribution.

    Point      ŷ
    Quantiles  q_1 = a_1,  q_i = q_{i-1} + softplus(a_i): they never cross
    Gaussian   N(μ, σ²),   σ = softplus(a) + 0.001

A head turns P raw outputs a into P parameters, along the last axis. Heads are static and hold no arrays.
"""

import dataclasses
import math
import numbers
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from jaxseq import check
from jaxseq._promote import expand_rank
from jaxseq.typing import AnyArray

LEAST_DEVIATION = 1e-3


@runtime_checkable
class Head(Protocol):
    """The interpretation of raw outputs. A head of your own has these methods, is hashable and holds no arrays."""

    @property
    def size(self) -> int:
        """P, the number of raw outputs and of parameters per target."""
        ...

    def parameters(self, raw: AnyArray) -> jax.Array:
        """Returns the parameters `[..., P]` from raw outputs `[..., P]`."""
        ...

    def point(self, parameters: AnyArray) -> jax.Array:
        """Returns the point forecast `[...]`."""
        ...

    def interval(self, parameters: AnyArray, coverage: float) -> tuple[jax.Array, jax.Array]:
        """Returns the lower and upper end `[...]` of the central interval with probability `coverage`, in (0, 1)."""
        ...

    def sample(self, key: jax.Array, parameters: AnyArray) -> jax.Array:
        """Returns a random value `[...]` from the predicted distribution."""
        ...


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Point:
    """A single value: parameters `[..., 1]`. It has no interval and cannot be sampled."""

    @property
    def size(self) -> int:
        """P = 1."""
        return 1

    def parameters(self, raw: AnyArray) -> jax.Array:
        """Returns `raw`, `[..., 1]`."""
        return _of(self, "raw", raw)

    def point(self, parameters: AnyArray) -> jax.Array:
        """Returns the value, `[...]`."""
        return _of(self, "parameters", parameters)[..., 0]

    def interval(self, parameters: AnyArray, coverage: float) -> tuple[jax.Array, jax.Array]:
        """Raises a ValueError."""
        raise ValueError("`Point` has no interval; use nn.Quantiles() or nn.Gaussian() as the head")

    def sample(self, key: jax.Array, parameters: AnyArray) -> jax.Array:
        """Raises a ValueError."""
        raise ValueError("`Point` has no distribution to sample; use nn.Quantiles() or nn.Gaussian() as the head")


POINT = Point()


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Quantiles:
    """Quantiles of given levels: parameters `[..., Q]`, which increase along the last axis.

    Attributes:
      levels: increasing numbers in (0, 1) that include 0.5.

    Raises:
      TypeError, ValueError: `levels` does not hold such numbers.

    >>> from jaxseq import nn
    >>> head = nn.Quantiles((0.1, 0.5, 0.9))
    >>> head.interval(jnp.array([1.0, 2.0, 4.0]), 0.8)
    (Array(1., dtype=float32), Array(4., dtype=float32))
    """

    levels: tuple[float, ...] = (0.1, 0.5, 0.9)

    def __post_init__(self):
        if not isinstance(self.levels, tuple | list) or not all(isinstance(n, numbers.Real) for n in self.levels):
            raise TypeError(f"`levels` must be a sequence of numbers; got {check.short(self.levels)}")
        levels = tuple(map(float, self.levels))
        if not all(a < b for a, b in zip((0.0, *levels), (*levels, 1.0), strict=True)) or 0.5 not in levels:
            raise ValueError(f"`levels` must increase, lie in (0, 1) and contain 0.5; got {check.short(levels)}")
        object.__setattr__(self, "levels", levels)

    @property
    def size(self) -> int:
        """P = Q."""
        return len(self.levels)

    def parameters(self, raw: AnyArray) -> jax.Array:
        """Returns the quantiles `[..., Q]`."""
        raw = _of(self, "raw", raw)
        return jnp.cumsum(jnp.concatenate([raw[..., :1], jax.nn.softplus(raw[..., 1:])], axis=-1), axis=-1)

    def point(self, parameters: AnyArray) -> jax.Array:
        """Returns the median, `[...]`."""
        return _of(self, "parameters", parameters)[..., self.levels.index(0.5)]

    def interval(self, parameters: AnyArray, coverage: float) -> tuple[jax.Array, jax.Array]:
        """Returns the quantiles of levels (1 - coverage) / 2 and (1 + coverage) / 2, `[...]` each.

        Raises:
          TypeError, ValueError: `coverage` is not in (0, 1), or `levels` lacks one of the two levels.
        """
        _coverage(coverage)
        parameters = _of(self, "parameters", parameters)
        return self._quantile(parameters, (1 - coverage) / 2), self._quantile(parameters, (1 + coverage) / 2)

    def sample(self, key: jax.Array, parameters: AnyArray) -> jax.Array:
        """Returns samples `[...]` of the distribution, which is linear between levels and constant beyond them."""
        check.given_key(key)
        parameters = _of(self, "parameters", parameters)
        u = jax.random.uniform(key, parameters.shape[:-1], parameters.dtype)
        levels = jnp.asarray(self.levels, parameters.dtype)
        below, stretch = (expand_rank(x, parameters) for x in (levels[:-1], jnp.diff(levels)))
        passed = jnp.clip((u[..., None] - below) / stretch, 0, 1)  # the fraction of each interval between two levels
        return parameters[..., 0] + jnp.sum(passed * jnp.diff(parameters, axis=-1), axis=-1)

    def _quantile(self, parameters, wanted):
        for index, level in enumerate(self.levels):
            if math.isclose(level, wanted, abs_tol=1e-9):
                return parameters[..., index]
        raise ValueError(f"`coverage` needs the level {wanted:.6g}, which is not among `levels` = {self.levels}")


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """A normal distribution: parameters `[..., 2]`, the mean and the standard deviation."""

    @property
    def size(self) -> int:
        """P = 2."""
        return 2

    def parameters(self, raw: AnyArray) -> jax.Array:
        """Returns the mean and the standard deviation, which is at least 0.001, `[..., 2]`."""
        raw = _of(self, "raw", raw)
        return jnp.stack([raw[..., 0], jax.nn.softplus(raw[..., 1]) + LEAST_DEVIATION], axis=-1)

    def point(self, parameters: AnyArray) -> jax.Array:
        """Returns the mean, `[...]`."""
        return _of(self, "parameters", parameters)[..., 0]

    def interval(self, parameters: AnyArray, coverage: float) -> tuple[jax.Array, jax.Array]:
        """Returns the ends of the central interval with probability `coverage`, `[...]` each.

        Raises:
          TypeError, ValueError: `coverage` is not in (0, 1).
        """
        _coverage(coverage)
        parameters = _of(self, "parameters", parameters)
        reach = norm.ppf((1 + coverage) / 2).astype(parameters.dtype) * parameters[..., 1]
        return parameters[..., 0] - reach, parameters[..., 0] + reach

    def sample(self, key: jax.Array, parameters: AnyArray) -> jax.Array:
        """Returns samples `[...]` of the normal distribution."""
        check.given_key(key)
        parameters = _of(self, "parameters", parameters)
        noise = jax.random.normal(key, parameters.shape[:-1], parameters.dtype)
        return parameters[..., 0] + parameters[..., 1] * noise


def checked_head(head: Head) -> Head:
    """Returns `head`; raises unless it has the methods of a head."""
    if isinstance(head, type) or not isinstance(head, Head):
        raise TypeError(
            f"`head` must be a head such as nn.Point(), nn.Quantiles() or nn.Gaussian(); got {check.short(head)}"
        )
    return head


def _of(head: Head, name: str, x: AnyArray) -> jax.Array:
    """Returns the parameters called `name`, `[..., P]`, after checking them."""
    x = check.inputs(name, "B, P", x, None)
    if x.shape[-1] != head.size:
        raise ValueError(f"`{name}` must be [..., P] with P = {head.size}; got {check.shaped(x)}")
    return x


def _coverage(coverage):
    if not 0 < check.positive("coverage", coverage) < 1:
        raise ValueError(f"`coverage` must be in (0, 1); got {coverage}")
