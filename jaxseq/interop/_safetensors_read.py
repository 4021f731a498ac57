"""Reads a safetensors file, which is a JSON header followed by bytes. Nothing in the file is run."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxseq import check

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "C64": np.complex64,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the arrays of a file by name, and its metadata.

    Raises:
      ValueError: the file is of another format, is damaged, or holds a dtype that JAX does not have.
      OSError: it cannot be read.
    """
    from safetensors import SafetensorError, deserialize  # pyright: ignore[reportMissingImports]

    data = path.read_bytes()
    try:
        found = deserialize(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}
        return {
            name: np.frombuffer(each["data"], DTYPES[each["dtype"]]).reshape(each["shape"]) for name, each in found
        }, metadata
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {check.short(error)}") from None
