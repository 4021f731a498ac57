"""jaxseq: sequence models as pure functions in JAX, with hand-written backpropagation through time.

    cell = jaxseq.lstm(256)
    params = cell.init(key, 64)
    carry, ys = jaxseq.unroll(cell, params, xs)        # xs [T, B, 64] -> ys [T, B, 256]
    carry, y = jaxseq.step(cell, params, carry, x)     # streaming: the same cell, one step

`jaxseq.typing` defines the terms and the axis letters.

These subpackages are imported when they are first used: `jaxseq.nn` and `jaxseq.linen` (Flax modules),
`jaxseq.data`, `jaxseq.train`, `jaxseq.decoding`, `jaxseq.structured`, `jaxseq.interop` (weights from and to other
libraries), and `jaxseq.export` (programs that run without jaxseq).
"""

from jaxseq import diagnostics as diagnostics
from jaxseq import initializers as initializers
from jaxseq import kernels as kernels
from jaxseq import masking as masking
from jaxseq import recurrences as recurrences
from jaxseq import typing as typing
from jaxseq import wrappers as wrappers
from jaxseq._around import Augmented as Augmented
from jaxseq._around import around as around
from jaxseq._cast import cast as cast
from jaxseq._check_bptt import check_bptt as check_bptt
from jaxseq._factory import factory as factory
from jaxseq._lengths import last_valid as last_valid
from jaxseq._lengths import lengths_to_mask as lengths_to_mask
from jaxseq._serialise import register as _register
from jaxseq._stream import stream as stream
from jaxseq._unroll import step as step
from jaxseq._unroll import unroll as unroll
from jaxseq.cells import *
from jaxseq.typing import Backward as Backward
from jaxseq.typing import Cell as Cell
from jaxseq.typing import Composite as Composite
from jaxseq.typing import Element as Element
from jaxseq.typing import Heard as Heard
from jaxseq.typing import Kernel as Kernel
from jaxseq.typing import Linear as Linear
from jaxseq.wrappers import *

_INSIDE = ("cells", "check")
__all__ = sorted(name for name in globals() if not name.startswith("_") and name not in _INSIDE)  # pyright: ignore[reportUnsupportedDunderAll]

_register("jaxseq", "jaxseq.kernels", "jaxseq.diagnostics", "jaxseq.recurrences")

_LAZY = ("data", "decoding", "export", "interop", "linen", "nn", "structured", "train")


def __getattr__(name: str):
    """Imports a subpackage that needs more than JAX when it is first used, and looks up the version."""
    import importlib.metadata

    if name in _LAZY:
        return importlib.import_module(f"jaxseq.{name}")
    if name == "__version__":
        try:
            return importlib.metadata.version("jaxseq")
        except importlib.metadata.PackageNotFoundError:
            raise AttributeError("jaxseq has no version because it is not installed") from None
    raise AttributeError(f"module 'jaxseq' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns all public names, including those that are not imported yet."""
    return sorted({*globals(), *_LAZY, "__version__"})
