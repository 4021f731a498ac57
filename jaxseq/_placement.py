"""Places arrays on the devices of a mesh. If it spans processes, each process fills its own devices."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from jaxseq import check


def place_batch(name: str, batch: Any, sharding: Sharding, parts: int = 1) -> Any:
    """Returns a batch placed by `sharding`.

    Args:
      name: the name of the batch in errors.
      batch: a pytree of arrays. Every process has the whole batch, or with `parts` its own part of it.
      sharding: a sharding that fits every array of the whole batch.
      parts: the number of processes that each have a part, as made by `Loader.part`.

    Raises:
      ValueError: the sharding splits axes that an array does not have, does not split into equal parts, or does not
        split the batch over as many processes as there are parts.
    """
    if parts == 1:
        check.splits(name, batch, sharding)
        return jax.tree.map(lambda leaf: place(leaf, sharding), batch)
    return jax.tree.map(lambda leaf: _place_part(name, leaf, sharding, parts), batch)


def place(leaf: Any, sharding: Sharding) -> jax.Array:
    """Returns an array placed by `sharding`. If it spans several processes, all of them must hold the same array."""
    if sharding.is_fully_addressable or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = place(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    array = _as_jax_holds(leaf)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _place_part(name, leaf, sharding, parts):
    array = _as_jax_holds(leaf)
    whole = jax.make_array_from_process_local_data(sharding, array)
    if whole.size != parts * array.size:
        raise ValueError(
            f"`{name}` gives one part of {parts} of every batch, but `sharding` splits an array {array.shape} over "
            f"{whole.size // max(array.size, 1)} processes: {sharding.spec}. Give Loader.part the number of processes "  # pyright: ignore[reportAttributeAccessIssue]
            "among which the mesh splits the batch."
        )
    return whole


def _as_jax_holds(leaf):
    array = np.asarray(leaf)
    return array.astype(jnp.result_type(array), copy=False)


def bytes_per_device(tree: Any) -> int:
    """Returns the number of bytes of a pytree's arrays that each device holds.

    Raises:
      TypeError: a leaf is not an array of numbers.

    >>> bytes_per_device({"w": jnp.zeros((3, 4)), "b": jnp.zeros(4)})
    64
    """
    check.representable(tree, "tree")
    return sum(map(_bytes, jax.tree.leaves(tree)))


def _bytes(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    shape = leaf.sharding.shard_shape(leaf.shape) if isinstance(leaf, jax.Array) else np.shape(leaf)
    return math.prod(shape) * jnp.result_type(leaf).itemsize
