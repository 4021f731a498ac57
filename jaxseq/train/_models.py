"""Stores models so that loading needs no code of the caller: the arrays, and a JSON description that rebuilds the rest.

Next to the arrays and the info of `_store` there is a model.json. A module, or a net and the structure of its params,
is rebuilt from it. `jaxseq._json` converts it by tables of names: nothing that is read is run, imported or unpickled.

    {"form": 1, "model": {"module": [...], "leaves": {...}}}                     leaves: dtype and shape by name
    {"form": 1, "model": {"net": [...], "params": {...}, "leaves": {...}}}
    {"form": 1, "model": {"models": {name: ...}}}
"""

import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseq import check
from jaxseq._json._modules import module_as_json, module_from_json
from jaxseq._json._nets import net_as_json, net_from_json
from jaxseq._json._trees import tree_as_json, tree_from_json
from jaxseq.train._store import named, read_info, read_newest, read_tree, save_with
from jaxseq.typing import Cell, Composite

_FORM = 1


class StoredModel(NamedTuple):
    """What `load_model` returns."""

    model: Any
    info: Any


def save_model(
    folder: str | os.PathLike, model: Any, info: Any = None, *, number: int | None = None, keep: int = 1
) -> None:
    """Stores a model with its description, so that `load_model` needs nothing else. Otherwise it works like `save`.

    The arrays are stored as `save` stores them, so `load` and `transfer` can read them too.

    Args:
      folder, info, number, keep: as in `save`.
      model: a module of `jaxseq.nn` whose nets were made by factories of jaxseq; a pair `(net, params)` of such a net;
        or a dict of these by name. Initialisers are not stored. NumPy arrays are loaded as JAX arrays.

    Raises:
      TypeError, ValueError: as in `save`; or a part of the model cannot be rebuilt, because it is a module, net or
        function that jaxseq did not make, or a module that was changed after it was made. The message names it.
      BlockingIOError, OSError: as in `save`.
    """
    try:
        tree, description = _described("model", model)
    except RecursionError:
        raise ValueError("`model` is nested too deep to be kept, or holds itself") from None
    save_with({"model.json": json.dumps({"form": _FORM, "model": description})}, folder, tree, info, number, keep)


def load_model(folder: str | os.PathLike) -> StoredModel:
    """Rebuilds the model that `save_model` stored, from the newest complete version. Warns of newer damaged ones.

    Raises:
      FileNotFoundError: nothing was saved in `folder`.
      TornError: no version is complete.
      ValueError: no model was saved, or this version of jaxseq cannot rebuild it; or it has arrays of 64 bits, and
        JAX's 64-bit mode is off.
    """
    return read_newest(folder, _read)


def _read(version):
    path = version / "model.json"
    if not path.exists():
        raise ValueError(f"{version} was stored by train.save, without a description of a model. Read it by train.load")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["form"] != _FORM:
            raise ValueError(f"form {found['form']}; this version of jaxseq reads form {_FORM}")
        made = _made(found["model"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{version} holds no model that jaxseq can rebuild: {_reason(error)}") from None

    def all_of_it(version, found, wanted):
        if found.keys() != wanted.keys():
            names = ", ".join(sorted(found.keys() ^ wanted.keys()))
            raise ValueError(f"{version} has arrays that differ from those of its model: {check.brief(names)}")
        return {name: name for name in wanted}

    return StoredModel(made.of(read_tree(version, made.like, all_of_it)), read_info(version))


def _reason(error):
    """Returns what is wrong with a description: the message of jaxseq's errors, or the repr of other errors."""
    return check.brief(str(error)) if type(error) is ValueError else check.short(error)


class _Made(NamedTuple):
    """The tree of a model's arrays as shapes, and a function that makes the model from the arrays."""

    like: Any
    of: Callable[[Any], Any]


def _described(name: str, model: Any) -> tuple[Any, Any]:
    """Returns the arrays of a model as a tree, and its description."""
    if isinstance(model, nnx.Module):
        tree = check.as_jax(nnx.state(model), name)
        description = {"module": module_as_json(model), "leaves": _leaves(named(tree, name))}
        _check_unchanged(name, model, _module(description["module"]))
        return tree, description
    if type(model) is dict and all(isinstance(key, str) for key in model):
        parts = {key: _described(f"{name}[{key!r}]", part) for key, part in model.items()}
        return {key: tree for key, (tree, _) in parts.items()}, {"models": {key: of for key, (_, of) in parts.items()}}
    if type(model) is tuple and len(model) == 2 and isinstance(model[0], Cell | Composite):
        net, params = model[0], check.as_jax(model[1], f"{name}[1]")
        described, arrays = tree_as_json(params)
        named(params, f"{name}[1]")  # raises unless they are arrays
        if keys := [place for place, leaf in arrays.items() if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]:
            raise TypeError(
                f"`{name}[1]` must be arrays of numbers to be kept; {check.brief(', '.join(keys))} are keys"
            )
        return params, {"net": net_as_json(net), "params": described, "leaves": _leaves(arrays)}
    raise TypeError(
        f"`{name}` must be a module of jaxseq.nn, a pair (net, params), or a dict of these by name; got "
        f"{check.short(model)}"
    )


def _made(description: Any) -> _Made:
    """Returns the shapes and the function that make a model. A wrong description may raise any error."""
    if "models" in description:
        parts = {name: _made(part) for name, part in description["models"].items()}
        like = {name: part.like for name, part in parts.items()}
        return _Made(like, lambda tree: {name: part.of(tree[name]) for name, part in parts.items()})
    leaves = {name: _leaf(name, *found) for name, found in description["leaves"].items()}
    if "net" in description:
        net = net_from_json(description["net"])
        return _Made(tree_from_json(description["params"], leaves), lambda params: (net, params))
    graph, like = nnx.split(_module(description["module"]))
    of_call = named(like, "module")
    if {name: leaf.shape for name, leaf in of_call.items()} != {name: leaf.shape for name, leaf in leaves.items()}:
        raise ValueError("the arrays differ from those of the module that its description makes")
    like = jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in of_call])
    return _Made(like, lambda state: nnx.merge(graph, state))


def _module(description):
    """Returns the module of a description, with shapes in place of arrays."""
    return nnx.eval_shape(lambda: module_from_json(description, nnx.Rngs(0)))


def _leaf(name, dtype, shape):
    if jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
        raise ValueError(f"{name} is {dtype}; enable jax_enable_x64")
    return jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))


def _leaves(arrays):
    return {name: [str(leaf.dtype), leaf.shape] for name, leaf in arrays.items()}


def _check_unchanged(name, model, made):
    """Raises unless a module equals what its call makes. Dtypes of arrays and initialisers may differ."""
    before, after = (named(nnx.state(module), name) for module in (made, model))
    statics = [_statics(module) for module in (made, model)]
    faults = [leaf for leaf in {**before, **after} if _shape(before.get(leaf)) != _shape(after.get(leaf))]
    faults += [path for path in {**statics[0], **statics[1]} if not _alike(*(found.get(path) for found in statics))]
    if faults:
        raise ValueError(
            f"`{name}` differs from what its call makes, and cannot be stored: {check.brief(', '.join(faults))} differ"
        )


def _shape(leaf):
    return None if leaf is None else leaf.shape


def _alike(made, held):
    nets = isinstance(made, Cell | Composite) and isinstance(held, Cell | Composite)
    is_array = isinstance(held, np.ndarray | jax.Array)  # one beside the variables, which no module of `nn` has
    return not is_array and (made == held or (nets and net_as_json(made) == net_as_json(held)))


def _holds_variables(value):
    is_one = lambda leaf: isinstance(leaf, nnx.Variable)
    return any(map(is_one, jax.tree.leaves(value, is_leaf=is_one)))


def _statics(module):
    """Returns what a module and its submodules hold other than arrays and modules, by path."""
    found = {}
    for path, value in nnx.iter_graph(module):
        is_own = any(str(step).startswith("_") for step in path)
        if not (is_own or isinstance(value, nnx.Module | nnx.Variable) or _holds_variables(value)):
            found[".".join(map(str, path))] = value
    return found
