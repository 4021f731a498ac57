"""Params and optimizer state split over devices (fully sharded data parallel, FSDP; ZeRO stage 3).

Each large array is split along one axis, so that each of n devices holds 1/n of it. A step gathers the params, computes
the gradient of its part of the batch, and updates only what the device holds.

Source: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020.
"""

import dataclasses
import math
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from jaxseq import check
from jaxseq._placement import place


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Split:
    """How arrays are split: along the largest axis whose size the number of devices divides; small ones are not split.

    Attributes:
      mesh: the mesh of devices.
      axes: the mesh axes over which arrays are split.
      smallest: the least number of elements of an array that is split.
      members: 1 if arrays have a leading axis of ensemble members, which is not split; else 0.
    """

    mesh: Mesh
    axes: tuple[str, ...]
    smallest: int
    members: int

    def sharding(self, shape: tuple[int, ...]) -> NamedSharding:
        """Returns the sharding of an array of this shape; the shape excludes the axis of members."""
        parts = math.prod(self.mesh.shape[axis] for axis in self.axes)
        fits = [axis for axis, size in enumerate(shape) if size % parts == 0]
        names: list[Any] = [None] * len(shape)
        if math.prod(shape) >= self.smallest and fits:
            names[max(fits, key=lambda axis: shape[axis])] = self.axes[0] if len(self.axes) == 1 else self.axes
        while names and names[-1] is None and AxisType.Explicit not in self.mesh.axis_types:
            names.pop()  # as the compiler reports shardings; types on explicit axes name all axes
        return NamedSharding(self.mesh, PartitionSpec(*names))

    def put(self, tree: Any) -> Any:
        """Returns arrays with their shardings; not for use under jit."""

        def put(leaf):
            inner = self.sharding(leaf.shape[self.members :])
            return place(leaf, NamedSharding(self.mesh, PartitionSpec(*[None] * self.members, *inner.spec)))

        return jax.tree.map(put, tree)

    def constrain(self, tree: Any) -> Any:
        """Returns arrays that the compiler must keep split; for use under jit."""
        return jax.tree.map(lambda leaf: _constrain(leaf, self.sharding(leaf.shape)), tree)

    def gather(self, tree: Any) -> Any:
        """Returns arrays gathered whole onto each device; for use under jit."""
        return jax.tree.map(lambda leaf: _constrain(leaf, NamedSharding(self.mesh, PartitionSpec())), tree)


def split_over(sharding: Sharding, smallest: int, members: int) -> Split:
    """Returns the split of arrays over the devices over which `sharding` splits batches.

    Raises:
      TypeError, ValueError: `sharding` is not of a mesh, or splits nothing.
    """
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, Mesh):
        raise TypeError(f"`sharding` must be the NamedSharding of the batches; got {check.short(sharding)}")
    names = [name if isinstance(name, tuple) else (name,) for name in sharding.spec if isinstance(name, str | tuple)]
    axes = tuple(axis for group in names for axis in group)
    if not axes:
        raise ValueError(f"`sharding` must split batches over an axis of its mesh; got {sharding.spec}")
    return Split(sharding.mesh, axes, check.natural("smallest", smallest), members)


def _constrain(leaf, sharding):
    if AxisType.Explicit in sharding.mesh.axis_types:
        return jax.sharding.reshard(leaf, sharding)
    return jax.lax.with_sharding_constraint(leaf, sharding)
