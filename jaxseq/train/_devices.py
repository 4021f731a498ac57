"""The placement of a run's state and batches on the devices of a mesh; steps do not change it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding

from jaxseq import check
from jaxseq._placement import place, place_batch
from jaxseq.train._params import trainable
from jaxseq.train._split import split_over
from jaxseq.train._step import TrainState

Step = Callable[[TrainState, Any], tuple[TrainState, Any]]


def shard_state(state: TrainState, sharding: Sharding, *, smallest: int = 1024) -> TrainState:
    """Returns the state with params and optimizer state split over the devices of the batches (FSDP).

    Use it with `fit`, or with a loop of your own over `make_step`. Each array is split along its largest axis whose
    size the number of devices divides. A step gathers the params while it runs, and returns a state that is split in
    the same way. The params that `fit` returns are split too.

    Args:
      state: as `init` returns it.
      sharding: that of the batches, as in `fit`.
      smallest: arrays with fewer elements than this are not split; each device holds them whole.

    Raises:
      TypeError, ValueError: `state` is not a `TrainState`; `sharding` is not of a mesh, or splits nothing.
    """
    if not isinstance(state, TrainState):
        raise TypeError(f"`state` must be a state from train.init; got {type(state).__name__}")
    check.representable(state, "state")
    trainable("state.params", state.params)
    split = split_over(sharding, smallest, np.ndim(state.step))
    params, opt_state = split.put((state.params, state.opt_state))
    return put_state(state._replace(params=params, opt_state=opt_state, split=split), sharding)


def put_batch(batch: Any, sharding: Sharding | None, parts: int = 1) -> Any:
    """Returns the batch placed by `sharding`, or unchanged if it is None; `parts` and errors as in `place_batch`."""
    return batch if sharding is None else place_batch("batch", batch, sharding, parts)


def put_state(state: Any, sharding: Sharding | None) -> Any:
    """Returns a tree on the mesh of the batches; arrays that are elsewhere are copied whole to all its devices."""
    if not isinstance(sharding, NamedSharding):
        return state
    mesh = sharding.mesh

    def is_there(leaf):
        if not isinstance(leaf, jax.Array) or not isinstance(leaf.sharding, NamedSharding):
            return False
        same_devices = AxisType.Explicit not in mesh.axis_types and leaf.sharding.device_set == sharding.device_set
        return leaf.sharding.mesh == mesh or same_devices

    def put(leaf):
        return leaf if is_there(leaf) else place(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(put, state)


def whole_params(state: TrainState) -> Any:
    """Returns the params; those that `shard_state` split are gathered whole onto each device."""
    if state.split is None:
        return state.params
    return jax.device_put(state.params, NamedSharding(state.split.mesh, PartitionSpec()))


def settled(step: Step, state: TrainState, batch: Any, sharding: Sharding | None) -> tuple[Step, TrainState]:
    """Returns a step that keeps the placement of the state, and the state as the step must get it first.

    All steps are then one compiled program, and each can reuse the buffers of the state before it. On explicit mesh
    axes the carry is split as the step returns it. On other axes a carry that starts with the batch axis is split as
    the batch is.
    """
    if not isinstance(sharding, NamedSharding):
        return step, state
    mesh = sharding.mesh
    if AxisType.Explicit in mesh.axis_types:
        if state.carry is not None:
            made, _ = jax.eval_shape(step, state, batch)
            specs = jax.tree.map(lambda leaf: PartitionSpec() if leaf.sharding is None else leaf.sharding.spec, made)
            state = state._replace(carry=_put_as(state.carry, specs.carry, mesh))
        return step, state
    if not hasattr(step, "lower"):  # a step that is not jitted is no compiled program
        return step, state
    names, rows = _batch_axis(batch, sharding)
    specs = jax.tree.map(
        lambda leaf: PartitionSpec(names) if leaf.shape[:1] == (rows,) else PartitionSpec(), state.carry
    )
    state = state._replace(carry=_put_as(state.carry, specs, mesh))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state), NamedSharding(mesh, PartitionSpec())
    return jax.jit(step, donate_argnums=0, out_shardings=shardings), state


def _put_as(tree, specs, mesh):
    return jax.tree.map(lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)), tree, specs)


def _batch_axis(batch, sharding):
    """Returns the names of the mesh axes over which a batch is split, and the number of its rows."""
    for axis, names in enumerate(sharding.spec):
        if names is not None:
            return names, jax.tree.leaves(batch)[0].shape[axis]
    return None, None
