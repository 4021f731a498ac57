"""Fingerprints of a run: checksums of its program, its initial state and its first batch.

The program is the text that JAX compiles. It contains every constant: the loss, the optimizer, its learning rate. Equal
texts compute the same, but different texts may also compute the same, so a difference causes a warning and not an
error. The fingerprint does not cover later batches, `validate` and callbacks.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.train._step import TrainState

_WORDS = {
    "program": "another loss, optimizer or learning rate",
    "start": "other initial params, optimizer state, key or carry",
    "batch": "another first batch",
}


def fingerprint(step: Callable, state: TrainState, batch: Any, whole: Any) -> dict[str, str | None]:
    """Returns the checksums of a run by name; None where there is none, such as for a step that is not jitted.

    They do not depend on the devices, so that a run may resume on others.

    Args:
      step: as `make_step` returns it.
      state: the state before the first step.
      batch: the first batch, on its devices.
      whole: the same batch as the loader gave it; None if this process got a part of it only.
    """
    return {
        "jax": f"{jax.__version__} on {jax.default_backend()}",
        "program": _program(step, state, batch),
        "start": _arrays(state),
        "batch": None if whole is None else _arrays(whole),
    }


def check_alike(told: Sequence[dict[str, str | None]]) -> dict[str, str | None]:
    """Returns the fingerprint of all processes; raises if they differ."""
    for number, other in enumerate(told):
        if other != told[0]:
            listed = ", and with ".join(differing(told[0], other)) or "another JAX, or on another kind of device"
            raise ValueError(
                f"process {number} started with {listed} than process 0. Give all processes the same loss, optimizer, "
                "seeds and data."
            )
    return told[0]


def differing(before: Any, now: dict[str, str | None]) -> list[str]:
    """Returns what differs, in words. Programs of different JAX versions or kinds of device are not compared."""
    before = before if isinstance(before, dict) else {}
    names = [name for name in _WORDS if None not in (before.get(name), now[name]) and before[name] != now[name]]
    return [_WORDS[name] for name in names if name != "program" or before.get("jax") == now["jax"]]


def _program(step, state, batch):
    lower = getattr(step, "lower", None)
    if lower is None:
        return None
    state, batch = jax.tree.map(_anywhere, (state._replace(split=None), batch))
    return hashlib.sha256(lower(state, batch).as_text().encode()).hexdigest()


def _anywhere(leaf):
    """Returns the shape and dtype of a leaf, without its placement on devices."""
    if isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return leaf


def _arrays(tree):
    """Returns the checksum of a tree's paths, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array):
            if not leaf.is_fully_addressable:
                return None
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        if array.dtype.hasobject:
            return None
        digest.update(json.dumps([jax.tree_util.keystr(path), str(array.dtype), array.shape]).encode())
        digest.update(np.ascontiguousarray(array).data if array.dtype.isnative and array.size else array.tobytes())
    return digest.hexdigest()
