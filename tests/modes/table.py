"""Every public function of the library with a call of it on tiny inputs: what the tests of this folder sweep over.

Calls stand in `calls_*.py`, one file a row of the house; each is a function of no arguments, under the names of all
that it runs, and returns a pytree of arrays. A public name that no call and no line of `OUTSIDE` holds fails a test.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from tests import modes

PACKAGES = (
    "jaxseq",
    "jaxseq.kernels",
    "jaxseq.initializers",
    "jaxseq.masking",
    "jaxseq.recurrences",
    "jaxseq.diagnostics",
    "jaxseq.structured.crf",
    "jaxseq.structured.ctc",
    "jaxseq.structured.hmm",
    "jaxseq.structured.kalman",
    "jaxseq.structured.markov",
    "jaxseq.structured.semiring",
    "jaxseq.decoding",
    "jaxseq.export",
    "jaxseq.nn",
    "jaxseq.linen",
    "jaxseq.data",
    "jaxseq.train",
    "jaxseq.train.adapters",
    "jaxseq.train.callbacks",
    "jaxseq.train.compression",
    "jaxseq.train.curves",
    "jaxseq.train.ensemble",
    "jaxseq.train.groups",
    "jaxseq.train.losses",
    "jaxseq.train.metrics",
)
OUTSIDE = {  # public, and none of JAX's modes can reach them
    "draws a picture of numbers": (
        "diagnostics.plot_alignment",
        "diagnostics.plot_eigenvalues",
        "diagnostics.plot_gates",
        "diagnostics.plot_gradient_norms",
        "diagnostics.plot_saliency",
        "diagnostics.plot_saturation",
        "diagnostics.plot_singular_values",
        "train.curves.plot",
    ),
    "writes and reads files, or prints": (
        "data.read_wav",
        "train.Checkpoints",
        "train.callbacks.csv",
        "train.callbacks.printing",
        "train.callbacks.tensorboard",
        "train.load",
        "train.load_info",
        "train.load_model",
        "train.save",
        "train.save_model",
        "train.saved",
        "train.transfer",
        "export.save",
    ),
    "makes programs, and is tested by running them": (
        "export.params",
        "export.step",
        "export.unroll",
    ),
    "needs an NVIDIA GPU": ("kernels.cudnn",),
    "tells, of shapes alone": (
        "kernels.explain",
        "kernels.peak_bytes",
        "kernels.register",
    ),
}


@dataclasses.dataclass(frozen=True)
class Call:
    """A call: `names` are those of the public objects that it runs, without `jaxseq.`.

    What looks at values (`fit`, loaders, checks) cannot be traced by `jax.jit` as a whole.
    """

    names: tuple[str, ...]
    run: Callable[[], Any]
    traced: bool = True

    def __str__(self):
        return self.names[0]


def of(*names: str, traced: bool = True) -> Callable:
    """Returns the decorator that makes a `Call` of a function of no arguments."""
    return lambda run: Call(names, run, traced)


def calls() -> list[Call]:
    """All calls, by the files of this folder."""
    files = sorted(module.name for module in pkgutil.iter_modules(modes.__path__) if module.name.startswith("calls_"))
    found = [vars(importlib.import_module(f"tests.modes.{file}")).values() for file in files]
    return [
        call
        for values in found
        for value in values
        for call in (value if isinstance(value, list) else [value])
        if isinstance(call, Call)
    ]


def public() -> dict[int, str]:
    """What the packages offer and that computes, by identity, as many names are those of one object."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", None) or dir(module):
            value = getattr(module, name)
            is_its_own = hasattr(module, "__path__") or getattr(value, "__module__", None) == package
            if name[0] != "_" and is_its_own and _computes(value):
                found.setdefault(id(value), f"{package}.{name}".removeprefix("jaxseq."))
    return found


def find(name: str) -> Any:
    """The object of a name, `train.metrics.mean`."""
    module, _, attribute = f"jaxseq.{name}".rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def named_tuples() -> set[type]:
    """All public NamedTuples."""
    found = (item for package in PACKAGES for item in vars(importlib.import_module(package)).items())
    return {
        value
        for name, value in found
        if name[0] != "_" and inspect.isclass(value) and issubclass(value, tuple) and _own(value)
    }


def _computes(value):
    if not _own(value) or inspect.ismodule(value) or not callable(value):
        return False
    is_type = inspect.isclass(value) and (
        issubclass(value, tuple | BaseException) or getattr(value, "_is_protocol", False)
    )
    return not is_type


def _own(value):
    return (getattr(value, "__module__", None) or "").startswith("jaxseq.")
