"""A safetensors file for a net and its params: arrays by readable names, and metadata that rebuild both.

    0.forward.w_x  [D, 4H]  ...        the path in the tree
    __metadata__   jaxseq: the format's version,  net, params: JSON (see `jaxseq._json`),  sha256: of all the above

Any reader of safetensors finds the arrays. Nothing in a file is run.
"""

import hashlib
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq._json._nets import net_as_json, net_from_json
from jaxseq._json._trees import tree_as_json, tree_from_json
from jaxseq._written import write_whole
from jaxseq.interop import _safetensors_read
from jaxseq.typing import Cell, Composite, Params


def save(path: str | os.PathLike, net: Cell | Composite, params: Params) -> None:
    """Writes a net and its params to one file. The file is written completely or not at all.

    Args:
      path: the path of the file. An existing file is replaced.
      net: a net made by factories of jaxseq. Its activations must be functions of `jax.nn` or `jnp`. Initialisers are
        not stored.
      params: its params, or any tree of arrays in NamedTuples of jaxseq, dicts, tuples and lists.

    Raises:
      TypeError, ValueError: a part of the net was not made by a factory of jaxseq, a function is of another module, or
        a leaf is not an array or has a dtype that safetensors does not support.
      OSError: it cannot be written.
    """
    from safetensors.numpy import save as as_bytes  # pyright: ignore[reportMissingImports]

    path = check.path("path", path)
    check.net(net, "net")
    described, leaves = tree_as_json(params)
    arrays = {name: _as_array(name, leaf) for name, leaf in leaves.items()}
    texts = json.dumps(net_as_json(net)), json.dumps(described)
    metadata = {"jaxseq": "1", "net": texts[0], "params": texts[1], "sha256": _checksum(arrays, *texts)}
    write_whole(path, as_bytes(arrays, metadata))


def load(path: str | os.PathLike) -> tuple[Cell | Composite, Params]:
    """Returns the net and the params in a file that `save` wrote.

    Raises:
      ValueError: the file is damaged, or was not written by `save`. Read weights of other libraries by their modules:
        `interop.torch.from_state_dict(safetensors.numpy.load_file(path))`.
      OSError: it cannot be read.
    """
    path = check.path("path", path)
    arrays, metadata = _safetensors_read.arrays(path)
    if metadata.get("jaxseq") != "1":
        raise ValueError(
            f"{path} was not written by jaxseq.interop.safetensors.save (form 1); it holds "
            f"{check.short([*arrays])}. For PyTorch's names see interop.torch.from_state_dict"
        )
    try:
        check.net(net := net_from_json(json.loads(metadata["net"])), "net")
        leaves = {name: jnp.asarray(leaf) for name, leaf in arrays.items()}
        params = tree_from_json(json.loads(metadata["params"]), leaves)
        if metadata["sha256"] != _checksum(arrays, metadata["net"], metadata["params"]):
            raise ValueError("its contents differ from what was written")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {check.short(error)}") from None
    return net, params


def _as_array(name: str, leaf: Any) -> np.ndarray:
    if not isinstance(leaf, np.ndarray | jax.Array):
        raise TypeError(f"`params` must be a tree of arrays; {name or 'it'} is {check.short(leaf)}")
    array = np.ascontiguousarray(leaf).reshape(jnp.shape(leaf))
    if array.dtype not in [np.dtype(dtype) for dtype in _safetensors_read.DTYPES.values()]:
        raise TypeError(f"`params` must be of a dtype that safetensors supports; {name or 'it'} is {array.dtype}")
    return array


def _checksum(arrays, *texts):
    total = hashlib.sha256(json.dumps(texts).encode())
    for name, leaf in sorted(arrays.items()):
        total.update(json.dumps([name, str(leaf.dtype), leaf.shape]).encode())
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()
