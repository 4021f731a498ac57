"""Where a run's state and batches are: on the devices of the batches' mesh, and after each step where they were."""

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
    """Splits params and optimizer state over the devices of the batches (FSDP), for `fit` and any loop of `make_step`.

    Each array is split along its largest axis that the devices divide. A step gathers the params while it runs, and
    returns a state that is split in the same way. What `fit` returns is split too.

    Args:
      state: of `init`.
      sharding: of the batches, as in `fit`.
      smallest: the elements of an array from which on it is split; smaller ones are whole on each device.

    Raises:
      TypeError, ValueError: `state` is no `TrainState`; `sharding` is not of a mesh, or splits nothing.
    """
    if not isinstance(state, TrainState):
        raise TypeError(f"`state` must be what train.init returns; got {type(state).__name__}")
    check.representable(state, "state")
    trainable("state.params", state.params)
    split = split_over(sharding, smallest, np.ndim(state.step))
    params, opt_state = split.put((state.params, state.opt_state))
    return put_state(state._replace(params=params, opt_state=opt_state, split=split), sharding)


def put_batch(batch: Any, sharding: Sharding | None, parts: int = 1) -> Any:
    """Returns the batch where `sharding` says, as it is without one; `parts` and errors are those of `place_batch`."""
    return batch if sharding is None else place_batch("batch", batch, sharding, parts)


def put_state(state: Any, sharding: Sharding | None) -> Any:
    """Returns a tree on the mesh of the batches: whole on all devices what is not there yet."""
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
    """Returns the params, whole on each device where `shard_state` split them."""
    if state.split is None:
        return state.params
    return jax.device_put(state.params, NamedSharding(state.split.mesh, PartitionSpec()))


def settled(step: Step, state: TrainState, batch: Any, sharding: Sharding | None) -> tuple[Step, TrainState]:
    """Returns a step after which the state is where it was, and the state as this step is to get it first.

    So all steps are one program, and each gives the buffers of its state to the next. On explicit axes the carry is
    split as the step makes it; on others, where it leads with the batch, as the batch is.
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
    if not hasattr(step, "lower"):  # it is not jitted, and so not a program
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
    """The names of the mesh over which a batch is split, and how many rows it has."""
    for axis, names in enumerate(sharding.spec):
        if names is not None:
            return names, jax.tree.leaves(batch)[0].shape[axis]
    return None, None
