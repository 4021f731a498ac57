"""Where the batches of a run go, and its state beside them: onto explicit axes JAX moves nothing by itself."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding

from jaxseq import check
from jaxseq.train._step import TrainState


def put_batch(batch: Any, sharding: Sharding | None) -> Any:
    """Returns the batch where `sharding` says; as it is without one.

    Raises:
      ValueError: the sharding splits axes that a leaf does not have, or not into equal parts.
    """
    if sharding is None:
        return batch
    check.splits("batch", batch, sharding)
    return jax.device_put(batch, sharding)


def put_state(state: TrainState, sharding: Sharding | None) -> TrainState:
    """Returns the state on the mesh of the batches, if its axes are explicit: on all devices what is not there yet."""
    mesh = _explicit_mesh(sharding)
    if mesh is None:
        return state
    everywhere = NamedSharding(mesh, PartitionSpec())

    def put(leaf):
        return leaf if getattr(leaf.sharding, "mesh", None) == mesh else jax.device_put(leaf, everywhere)

    return jax.tree.map(put, state)


def split_carry(step: Callable, state: TrainState, batch: Any, sharding: Sharding | None) -> TrainState:
    """Returns the state with its carry split as the step makes it of this batch, if the axes are explicit.

    So the first step is the program of all steps, and gives the carry's buffers to the next.
    """
    mesh = _explicit_mesh(sharding)
    if mesh is None or state.carry is None:
        return state
    made, _ = jax.eval_shape(step, state, batch)

    def put(leaf, made):
        spec = PartitionSpec() if made.sharding is None else made.sharding.spec
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return state._replace(carry=jax.tree.map(put, state.carry, made.carry))


def _explicit_mesh(sharding):
    """The mesh of a sharding on explicit axes; None for another."""
    is_explicit = isinstance(sharding, NamedSharding) and AxisType.Explicit in sharding.mesh.axis_types
    return sharding.mesh if is_explicit else None
