"""Calls every public function with one argument spoiled, and judges what comes of it.

Right is a result, finite where the spoiled argument was, or a ValueError, TypeError or KeyError of fewer than 400
characters that names the argument, itself or, where it was raised in a function of the user's, in a note. Wrong are
other errors, errors that name nothing, results of an argument that is wrong of kind, NaN out of nothing, and calls that
do not end.
"""

import contextlib
import importlib
import inspect
import itertools
import re
import signal
import types
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.train import NonFiniteError
from tests.fuzz.spoils import NOT, NOT_FINITE, OF_SHAPE, REFUSED, SPOILS

PACKAGES = ("", "data", "decoding", "export", "interop", "nn", "structured", "train")
NOT_CALLED = {
    "data.Batch": "a type",
    **{
        f"interop.{name}": "takes or gives what is another library's"
        for name in (
            "equinox.from_module",
            "equinox.to_module",
            "huggingface.from_model",
            "keras.from_layer",
            "keras.from_model",
            "keras.load",
            "keras.to_layer",
            "onnx.export",
            "onnx.export_model",
            "onnx.load",
            "torch.from_attention",
            "torch.from_module",
            "torch.from_transformer",
            "torch.to_attention",
            "torch.to_module",
            "torch.to_transformer",
        )
    },
    "kernels.associative": "run by unroll, with arguments that it has checked",
    "kernels.bptt": "run by unroll, with arguments that it has checked",
    "kernels.cudnn": "run by unroll, with arguments that it has checked",
    "kernels.native": "run by unroll, with arguments that it has checked",
    "kernels.scan": "run by unroll, with arguments that it has checked",
    "kernels.register": "changes the process",
    "masking.choose": "a part of cells, which run it at every step",
    "masking.keep": "a part of cells, which run it at every step",
    "masking.masked": "a part of unroll",
    "masking.reset_before_step": "a part of unroll",
    "nn.Point.interval": "refuses all",
    "nn.Point.sample": "refuses all",
    "train.callbacks.tensorboard": "needs a writer of another library",
}
ALIASES = {"cells": "cell", "chunks": "xs", "forward": "cell", "backward": "cell", "batches": "batch"}
"""What an error may call an argument in place of its name."""
PERMITTED = {  # by function and argument, and spoil where it is that one alone
    ("cast", "tree"): "what is no floating array stays as it is",
    ("data.unique", "items"): "anything that can be iterated over and hashed",
    ("data.cyclic", "values"): "a number too",
    ("data.frames", "signal"): "of any dtype",
    ("data.frame_count", "n"): "an array of them too",
    ("data.unpad", "xs"): "of any dtype",
    ("data.unpack", "ys"): "of any dtype",
    ("data.place", "packed"): "its xs are not looked at",
    ("data.unpack", "packed"): "its xs are not looked at",
    ("data.time_mask", "value"): "NaN is a value",
    ("data.feature_mask", "value"): "NaN is a value",
    ("data.batches", "seed"): "of any size",
    ("data.bucketed", "seed"): "of any size",
    ("data.split", "seed"): "of any size",
    ("last_valid", "ys"): "of any dtype",
    ("interop.safetensors.save", "params"): "any tree",
    **{(f"decoding.{name}", "carry"): "the step's own" for name in ("greedy", "sample", "beam_search", "speculative")},
    ("decoding.speculative", "draft_carry"): "the draft's own",
    ("structured.ctc.beam_search", "carry"): "the language model's own",
    ("initializers.chrono", "max_length"): "any number of at least 3",
    ("conv_lstm", "window"): "a number a side too",
    ("diagnostics.plot_gradient_norms", "norms"): "any pytree",
    ("diagnostics.memory_lengths", "eigenvalues", "complex"): "real or complex",
    ("train.save", "tree"): "orbax writes any",
    ("train.bytes_per_device", "tree", "None"): "no arrays hold no bytes",
    ("train.save", "info"): "JSON holds numbers and text too",
    ("train.save_model", "model", "a complex tree"): "orbax writes any",
    ("export.params", "model"): "any tree",
    ("train.save_model", "info"): "JSON holds numbers and text too",
    ("train.by_path", "default"): "anything",
    ("train.by_path", "rules"): "its values are anything",
    ("train.by_path", "params"): "its structure is what counts",
    ("train.groups.paths", "params"): "its structure is what counts",
    ("train.groups.matrices", "name"): "only errors show it",
    ("train.fit", "validate"): "None is none",
    ("train.fit", "batches", "a complex tree"): "the loss is real",
    ("train.evaluator", "batches", "a complex tree"): "the loss is real",
    ("train.init", "params", "another tree"): "any will do",
    ("train.init", "carry", "a dict for an array"): "any will do",
    ("train.init", "carry", "complex"): "not trained",
    ("train.evaluator", "carry", "complex"): "not trained",
    ("train.metrics.merge", "a", "a complex tree"): "what adds up",
    ("train.metrics.merge", "b", "a complex tree"): "what adds up",
    **{
        (f"train.{function}", argument, spoil): "a tree of arrays, one or many"
        for function, argument in (
            ("bytes_per_device", "tree"),
            ("compression.dequantize", "tree"),
            ("compression.size", "params"),
            ("compression.sparse_size", "params"),
            ("losses.l1", "params"),
            ("losses.l2", "params"),
        )
        for spoil in ("a number for a tree", "another tree", "a complex tree")
    },
}
SEQ2SEQ = ("__call__", "loss", "alignments", "encode", "generate")
NAN_PROMISED = {
    ("structured.kalman.fit", "learn"): "likelihoods after the last iteration, of which there may be fewer",
    ("structured.markov.log_prob", "ids"): "where an id is none of a symbol",
    ("structured.markov.perplexity", "ids"): "where an id is none of a symbol",
    **{(f"nn.LanguageModel.{name}", "ids"): "of wrong ids" for name in ("__call__", "unroll", "step")},
    **{(f"nn.Seq2Seq.{name}", "source"): "of wrong ids" for name in SEQ2SEQ},
    **{(f"nn.Seq2Seq.{name}", "target"): "of wrong ids" for name in SEQ2SEQ},
    ("nn.Seq2Seq.step", "token"): "of wrong ids",
    ("nn.LanguageModel.read", "tokens"): "of wrong ids",
    ("train.losses.cross_entropy", "labels"): "of labels out of range",
    ("train.losses.gaussian_nll", "std"): "of deviations that are not positive, which are not looked at",
    ("train.metrics.naive_scale", "axis"): "where no two real steps are a season apart",
}
"""What the docstring says is NaN."""


class Case(NamedTuple):
    """One spoiled call."""

    function: str
    argument: str
    spoil: str

    def __str__(self):
        return f"{self.function}({self.argument}: {self.spoil})"


class Fault(NamedTuple):
    """What is wrong with a spoiled call."""

    case: Case
    kind: str
    words: str

    def __str__(self):
        return f"{self.case} — {self.kind}: {self.words}"


def public_functions() -> set[str]:
    """The names of the functions and of the classes with methods, below `jaxseq`, that its packages list."""
    found = {}

    def walk(module, name):
        listed = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
        for key in listed:
            value, path = vars(module)[key], f"{name}.{key}".lstrip(".")
            if isinstance(value, types.ModuleType):
                parts = value.__name__.split(".")
                if parts[0] == "jaxseq" and not any(part.startswith("_") for part in parts) and key != "check":
                    walk(value, path)
            elif _is_own_function(module, value):
                known = found.get(id(value))
                if known is None or len(path) < len(known):
                    found[id(value)] = path

    for package in PACKAGES:
        walk(importlib.import_module(f"jaxseq.{package}".rstrip(".")), package)
    return set(found.values())


def public_methods() -> set[str]:
    """The names of the methods of the classes among `public_functions`, those that are jaxseq's own."""
    return {
        f"{name}.{method}"
        for name in public_functions()
        if isinstance(function := function_of(name, {}), type)
        for method, value in inspect.getmembers(function, callable)
        if (method == "__call__" or not method.startswith("_")) and _is_own(value)
    }


def _is_own(value):
    return (getattr(value, "__module__", None) or "").startswith("jaxseq")


def _is_own_function(module, value):
    if not callable(value) or not _is_own(value):
        return False
    if not hasattr(module, "__path__") and value.__module__ != module.__name__:  # imported for its own use
        return False
    if not isinstance(value, type):
        return True
    return (
        not hasattr(value, "_fields") and not getattr(value, "_is_protocol", False) and not issubclass(value, Exception)
    )


def function_of(name: str, arguments: dict):
    """The public function of a name; of a method, that of the object which `of` makes."""
    name = name.split(" ")[0]  # of two calls of one, each has its own words behind it
    if "of" in arguments:
        return getattr(arguments["of"](), name.rsplit(".", 1)[1])
    *path, last = name.split(".")
    return getattr(
        importlib.import_module(".".join(["jaxseq", *path])) if path else importlib.import_module("jaxseq"), last
    )


def parameters_of(function) -> dict[str, inspect.Parameter]:
    """The parameters by name; of a class those of its `__init__`, as a Flax module tells none itself."""
    parameters = inspect.signature(function.__init__ if isinstance(function, type) else function).parameters
    return {name: parameter for name, parameter in parameters.items() if name != "self"}


def cases(calls: dict, spoils: dict) -> list[Case]:
    """All spoiled calls that there are."""
    return [
        Case(name, argument, spoil)
        for name, arguments in calls.items()
        for argument, value in arguments.items()
        if argument not in ("of", "then")
        for spoil, change in spoils.items()
        if change(value) is not NOT
    ]


def run(case: Case, arguments: dict, seconds: float) -> Fault | None:
    """Makes a spoiled call, and returns what is wrong with it."""
    spoiled = {**arguments, case.argument: SPOILS[case.spoil](arguments[case.argument])}
    return judge(case, function_of(case.function, arguments), spoiled, seconds)


def call(function, arguments: dict):
    """Calls a function with its arguments by name, and reads what it yields, up to three of them."""
    then = arguments.get("then", lambda result: result)
    arguments = {name: value for name, value in arguments.items() if name not in ("of", "then")}
    if "state" in arguments:  # which training gives away
        arguments["state"] = jax.tree.map(
            lambda leaf: leaf.copy() if isinstance(leaf, jax.Array) else leaf, arguments["state"]
        )
    parameters = inspect.signature(function).parameters.values()
    several = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL and p.name in arguments]
    given = [arguments.pop(name) for name in several]
    many = [one for value in given for one in (value if isinstance(value, tuple) else (value,))]
    result = then(function(*many, **arguments))
    if isinstance(result, Iterator):
        result = list(itertools.islice(result, 3))
    return jax.tree.map(lambda leaf: jax.block_until_ready(leaf) if isinstance(leaf, jax.Array) else leaf, result)


def judge(case: Case, function, arguments: dict, seconds: float) -> Fault | None:
    """Calls the function with the spoiled arguments, and returns what is wrong with what comes of it."""
    parameter, name = parameters_of(function).get(case.argument), case.function.split(" ")[0]
    needless = parameter is not None and (parameter.default is None or "None" in str(parameter.annotation))
    try:
        with _within(seconds):
            result = call(function, arguments)
    except (ValueError, TypeError, KeyError) as error:
        return _of_error(case, error, arguments)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:  # the words for a path of nothing
        return None if case.argument in ("path", "folder") else Fault(case, "a raw error", _brief(error))
    except AssertionError as error:
        return None if case.function == "check_bptt" else Fault(case, "a raw error", _brief(error))  # what it is for
    except NonFiniteError as error:  # what training raises of such numbers
        return None if case.spoil in NOT_FINITE else Fault(case, "not finite", _brief(error))
    except Exception as error:  # every other one is a fault
        return Fault(case, "hangs" if isinstance(error, TimeoutError) else "a raw error", _brief(error))
    if {(name, case.argument), (name, case.argument, case.spoil)} & PERMITTED.keys():
        return None
    if case.spoil in REFUSED or (case.spoil == "None" and not needless):
        return Fault(case, "accepted", f"gave {_brief(result)}")
    may_be_nan = case.spoil in NOT_FINITE or (name, case.argument) in NAN_PROMISED
    if not may_be_nan and not _finite(result):
        return Fault(case, "not finite", f"gave {_brief(result)}")
    return None


def _of_error(case, error, arguments):
    words = str(error)
    names = (
        set(arguments) - {"of", "then"}
        if case.spoil in OF_SHAPE
        else {case.argument, ALIASES.get(case.argument, case.argument)}
    )
    if len(words) >= 400:
        return Fault(case, f"{len(words)} characters", _brief(error))
    notes = " ".join(getattr(error, "__notes__", ()))  # what a user's function raised, with a note of what it was given
    if not any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words) or f"`{name}`" in notes for name in names):
        return Fault(case, "names nothing", _brief(error))
    return None


def _brief(value):
    words = f"{type(value).__name__}: {value}" if isinstance(value, Exception) else repr(value)
    return " ".join(words.split())[:160]


def _finite(result):
    leaves = [leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array | np.ndarray | float)]
    floats = [leaf for leaf in leaves if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return not any(np.any(np.isnan(np.asarray(leaf, np.float64))) for leaf in floats)


@contextlib.contextmanager
def _within(seconds):
    """Raises TimeoutError in the main thread where the block takes longer."""

    def late(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
