"""Maps arrays of Hugging Face's `transformers` to params of modules of `nn`, and back.

Below, "theirs" are arrays of transformers and "ours" are params of jaxseq.

[out, in]                   a product; ours is [in, out], and may be several concatenated
[features, 1, window]       a convolution, the latest step last; ours is [window, features], the latest first
scale - 1                   the norms of some models
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseq.interop._arrays import array, entry

Arrays = list[np.ndarray]
Shape = tuple[int, ...]


class Key(NamedTuple):
    """Params of ours, and the arrays of theirs that hold exactly the same numbers.

    `read` takes the arrays of theirs and the shapes of ours. `write` takes the arrays of ours.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Callable[[Arrays, list[Shape]], Arrays]
    write: Callable[[Arrays], Arrays]

    def below(self, ours: str, theirs: str) -> "Key":
        """Returns the key with prefixes added to the names."""
        return self._replace(
            ours=tuple(ours + name for name in self.ours), theirs=tuple(theirs + name for name in self.theirs)
        )


def same(ours: str, theirs: str, shape: Shape | None = None) -> Key:
    """Returns the key of one array that is the same in both. Theirs may have another shape."""
    return Key(
        (ours,),
        (theirs,),
        lambda arrays, shapes: [arrays[0].reshape(shapes[0])],
        lambda arrays: [arrays[0].reshape(arrays[0].shape if shape is None else shape)],
    )


def less_one(ours: str, theirs: str) -> Key:
    """Returns the key of a scale that theirs store minus 1. Converting it may round."""
    return Key(
        (ours,),
        (theirs,),
        lambda arrays, shapes: [(arrays[0] + 1).astype(arrays[0].dtype)],
        lambda arrays: [(arrays[0] - 1).astype(arrays[0].dtype)],
    )


def product(
    ours: str | Sequence[str],
    theirs: str | Sequence[str],
    rows: Sequence[int] = (),
    order: np.ndarray | None = None,
) -> Key:
    """Returns the key of concatenated products, or of their biases.

    Args:
      ours, theirs: one name or several.
      rows: the number of rows of each of theirs, if there are several.
      order: the order of their rows in ours. None: the same.
    """
    ours, theirs = ((names,) if isinstance(names, str) else tuple(names) for names in (ours, theirs))

    def read(arrays, shapes):
        joined = np.concatenate(arrays).T
        joined = joined if order is None else joined[..., order]
        return np.split(joined, np.cumsum([shape[-1] for shape in shapes])[:-1], axis=-1)

    def write(arrays):
        joined = np.concatenate(arrays, axis=-1).T
        joined = joined if order is None else joined[np.argsort(order)]
        return np.split(joined, np.cumsum(rows)[:-1]) if rows else [joined]

    return Key(ours, theirs, read, write)


def convolution(theirs: str, has_bias: bool) -> list[Key]:
    """Returns the keys of a block's convolution. If theirs has no bias, the bias of ours is zero."""
    window = Key(
        ("conv.params.w",),
        (f"{theirs}.weight",),
        lambda arrays, shapes: [np.flip(arrays[0][:, 0], axis=1).T],
        lambda arrays: [np.flip(arrays[0].T, axis=1)[:, None]],
    )
    return [window, same("conv.params.b", f"{theirs}.bias") if has_bias else zero("conv.params.b")]


def zero(ours: str) -> Key:
    """Returns the key of a param that transformers does not have, and that must be zero."""

    def write(arrays):
        if np.any(arrays[0]):
            raise ValueError(f"transformers has no equivalent of `{ours}`, which is not zero")
        return []

    return Key((ours,), (), lambda arrays, shapes: [np.zeros(shapes[0], np.float32)], write)


def read(make: Callable[[Any], nnx.Module], keys: Iterable[Key], arrays: Mapping[str, Any]) -> Any:
    """Returns the module `make(param_dtype)` with params from arrays of theirs, without drawing any.

    Raises:
      TypeError, ValueError: an array is missing, has another shape, is not of floats, or holds NaN.
    """
    keys = list(keys)
    found = {name: entry("state_dict", arrays, name) for key in keys for name in key.theirs}
    graph, state = nnx.split(nnx.eval_shape(lambda: make(jnp.result_type(*found.values()))))
    shapes = _shapes(state)
    params = {}
    for key in keys:
        of_ours = [shapes[name] for name in key.ours]
        expected = key.write([np.broadcast_to(np.float32(0), shape) for shape in of_ours])
        for name, like in zip(key.theirs, expected, strict=True):
            if found[name].shape != like.shape:
                raise ValueError(
                    f"`state_dict[{name!r}]` must be of the shape {list(like.shape)}; got {list(found[name].shape)}"
                )
        params |= zip(key.ours, key.read([found[name] for name in key.theirs], of_ours), strict=True)
    filled = jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.asarray(params[_name(path)], leaf.dtype), state)
    return nnx.merge(graph, filled)


def write(module: nnx.Module, make: Callable[[Any], nnx.Module], keys: Iterable[Key]) -> dict[str, np.ndarray]:
    """Returns the arrays of theirs for a module, which has the structure of `make`'s result.

    Raises:
      TypeError, ValueError: a param has no equivalent, has another shape, is not of floats, or holds NaN.
    """
    leaves = jax.tree_util.tree_leaves_with_path(nnx.state(module, nnx.Param))
    params, arrays = {_name(path): leaf for path, leaf in leaves}, {}
    shapes = _shapes(nnx.state(nnx.eval_shape(lambda: make(jnp.float32))))
    for key in keys:
        made = key.write([array(f"layer.{name}", params[name], shapes[name]) for name in key.ours])
        arrays |= zip(key.theirs, map(np.ascontiguousarray, made), strict=True)
    return arrays


def _shapes(state):
    return {_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
