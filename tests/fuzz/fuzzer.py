"""Calls every public function with one argument spoiled, and judges what comes of it.

Right is a result, finite where the spoiled argument was, or a ValueError, TypeError or KeyError of fewer than 400
characters that names the argument. Wrong are other errors, errors that name nothing, results of an argument that is
wrong of kind, NaN out of nothing, and calls that do not end.
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

from tests.fuzz.spoils import NOT, NOT_FINITE, OF_SHAPE, REFUSED, SPOILS

PACKAGES = ("", "data", "decoding", "nn", "structured", "train")
NOT_CALLED = {
    "data.Batch": "a type",
    "kernels.bptt": "run by unroll, with arguments that it has checked",
    "kernels.scan": "run by unroll, with arguments that it has checked",
    "kernels.register": "changes the process",
    "kernels.compile_loops_whole": "changes the process",
    "masking.choose": "a part of cells, which run it at every step",
    "masking.keep": "a part of cells, which run it at every step",
    "masking.masked": "a part of unroll",
    "masking.reset_before_step": "a part of unroll",
    "train.callbacks.tensorboard": "needs a writer of another library",
}
ALIASES = {"cells": "cell", "chunks": "xs", "forward": "cell", "backward": "cell"}
"""What an error may call an argument in place of its name."""
PERMITTED = {
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
    **{(f"decoding.{name}", "carry"): "the step's own" for name in ("greedy", "sample", "beam_search", "speculative")},
    ("decoding.speculative", "draft_carry"): "the draft's own",
    ("structured.ctc.beam_search", "carry"): "the language model's own",
    ("initializers.chrono", "max_length"): "any number of at least 3",
    ("conv_lstm", "window"): "a number a side too",
    ("diagnostics.plot_gradient_norms", "norms"): "any pytree",
    ("train.save", "tree"): "orbax writes any",
    ("train.save", "info"): "JSON holds numbers and text too",
    ("train.by_path", "default"): "anything",
    ("train.by_path", "rules"): "its values are anything",
    ("train.fit", "validate"): "None is none",
    ("nn.Recurrent", "rngs"): "Flax's",
}
NAN_PROMISED = {
    ("structured.kalman.fit", "learn"): "likelihoods after the last iteration, of which there may be fewer",
    ("structured.markov.log_prob", "ids"): "where an id is none of a symbol",
    ("structured.markov.perplexity", "ids"): "where an id is none of a symbol",
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


def _is_own_function(module, value):
    home = getattr(value, "__module__", "") or ""
    if not callable(value) or not home.startswith("jaxseq"):
        return False
    if not hasattr(module, "__path__") and home != module.__name__:  # imported for its own use
        return False
    if not isinstance(value, type):
        return True
    return (
        not hasattr(value, "_fields") and not getattr(value, "_is_protocol", False) and not issubclass(value, Exception)
    )


def function_of(name: str, arguments: dict):
    """The public function of a name; of a method, that of the object which `of` makes."""
    if "of" in arguments:
        return getattr(arguments["of"](), name.rsplit(".", 1)[1])
    *path, last = name.split(".")
    return getattr(
        importlib.import_module(".".join(["jaxseq", *path])) if path else importlib.import_module("jaxseq"), last
    )


def cases(calls: dict, spoils: dict) -> list[Case]:
    """All spoiled calls that there are."""
    return [
        Case(name, argument, spoil)
        for name, arguments in calls.items()
        for argument, value in arguments.items()
        if argument != "of"
        for spoil, change in spoils.items()
        if change(value) is not NOT
    ]


def run(case: Case, arguments: dict, seconds: float) -> Fault | None:
    """Makes a spoiled call, and returns what is wrong with it."""
    spoiled = {**arguments, case.argument: SPOILS[case.spoil](arguments[case.argument])}
    return judge(case, function_of(case.function, arguments), spoiled, seconds)


def call(function, arguments: dict):
    """Calls a function with its arguments by name, and reads what it yields, up to three of them."""
    arguments = {name: value for name, value in arguments.items() if name != "of"}
    if "state" in arguments:  # which training gives away
        arguments["state"] = jax.tree.map(
            lambda leaf: leaf.copy() if isinstance(leaf, jax.Array) else leaf, arguments["state"]
        )
    parameters = inspect.signature(function).parameters.values()
    several = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL and p.name in arguments]
    given = [arguments.pop(name) for name in several]
    many = [one for value in given for one in (value if isinstance(value, tuple) else (value,))]
    result = function(*many, **arguments)
    if isinstance(result, Iterator):
        result = list(itertools.islice(result, 3))
    return jax.tree.map(lambda leaf: jax.block_until_ready(leaf) if isinstance(leaf, jax.Array) else leaf, result)


def judge(case: Case, function, arguments: dict, seconds: float) -> Fault | None:
    """Calls the function with the spoiled arguments, and returns what is wrong with what comes of it."""
    parameter = inspect.signature(function).parameters.get(case.argument)
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
    except Exception as error:
        return Fault(case, "hangs" if isinstance(error, TimeoutError) else "a raw error", _brief(error))
    if (case.function, case.argument) in PERMITTED:
        return None
    if case.spoil in REFUSED or (case.spoil == "None" and not needless):
        return Fault(case, "accepted", f"gave {_brief(result)}")
    may_be_nan = case.spoil in NOT_FINITE or (case.function, case.argument) in NAN_PROMISED
    if not may_be_nan and not _finite(result):
        return Fault(case, "not finite", f"gave {_brief(result)}")
    return None


def _of_error(case, error, arguments):
    words = str(error)
    names = set(arguments) if case.spoil in OF_SHAPE else {case.argument, ALIASES.get(case.argument, case.argument)}
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
