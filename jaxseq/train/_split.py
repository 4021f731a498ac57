"""Params and the optimizer's state split over devices (fully sharded data parallel, FSDP; ZeRO 3).

Each large array is split along one axis, so that n devices hold an n-th each. A step gathers the params, takes the
gradient of its part of the batch, and updates only what a device holds.

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
    """How arrays are split: along the largest axis that the devices divide; small ones are whole on each device.

    Attributes:
      mesh: of the devices.
      axes: of the mesh, over which arrays are split.
      smallest: the elements that an array has at least to be split.
      members: 1 where arrays lead with an ensemble's members, an axis that is not split; else 0.
    """

    mesh: Mesh
    axes: tuple[str, ...]
    smallest: int
    members: int

    def sharding(self, shape: tuple[int, ...]) -> NamedSharding:
        """Returns where an array of this shape is, without the axis of members."""
        parts = math.prod(self.mesh.shape[axis] for axis in self.axes)
        fits = [axis for axis, size in enumerate(shape) if size % parts == 0]
        names: list[Any] = [None] * len(shape)
        if math.prod(shape) >= self.smallest and fits:
            names[max(fits, key=lambda axis: shape[axis])] = self.axes[0] if len(self.axes) == 1 else self.axes
        while names and names[-1] is None and AxisType.Explicit not in self.mesh.axis_types:
            names.pop()  # as the compiler tells where its results are; types on explicit axes name all axes
        return NamedSharding(self.mesh, PartitionSpec(*names))

    def put(self, tree: Any) -> Any:
        """Returns arrays where they are to be; not under jit."""

        def put(leaf):
            inner = self.sharding(leaf.shape[self.members :])
            return place(leaf, NamedSharding(self.mesh, PartitionSpec(*[None] * self.members, *inner.spec)))

        return jax.tree.map(put, tree)

    def constrain(self, tree: Any) -> Any:
        """Returns arrays that stay split, under jit."""
        return jax.tree.map(lambda leaf: _constrain(leaf, self.sharding(leaf.shape)), tree)

    def gather(self, tree: Any) -> Any:
        """Returns arrays that are whole on each device, under jit."""
        return jax.tree.map(lambda leaf: _constrain(leaf, NamedSharding(self.mesh, PartitionSpec())), tree)


def split_over(sharding: Sharding, smallest: int, members: int) -> Split:
    """Returns the split over the devices over which `sharding` splits batches.

    Raises:
      TypeError, ValueError: it is not of a mesh, or splits nothing.
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
