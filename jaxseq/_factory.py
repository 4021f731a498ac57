"""Same call, same object: what a factory makes is known by the call that makes it, prints as it and pickles as it.

A net is functions, most of them closures, which no pickle holds; the call that made them it does. A net that no factory
made, a `Cell(...)` of one's own, prints and pickles as the names of its functions.
"""

import functools
import inspect
import pkgutil
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")


class _Call(NamedTuple):
    """A call of a public factory, without arguments that are its defaults."""

    factory: Callable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


_CALLS: dict[Any, _Call] = {}  # by what was made, which the factories' caches hold anyway
_PARTS: dict[Any, tuple[Any, str]] = {}  # by the functions that were made for a net: the net, and the field


def factory(function: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
    """Returns `function` with a cache: equal arguments give the same object. Put it on factories of your own.

    What it makes, such as a cell or a net, prints as the call that makes it, and pickles as that call: it is the same
    object when it is loaded, and another process makes its own. For that `function` must stand in a module that can be
    imported, and its arguments pickle. Where it is the `_name` behind a public `name` with the same arguments, the call
    is of that.

    Args:
      function: its arguments are hashable, as numbers, strings, functions and cells are, and lists and arrays are not.

    Raises:
      TypeError: it is no function, or is called with what is not hashable.

    >>> @jaxseq.factory
    ... def scaled(cell, by=2.0):
    ...     return jaxseq.around(cell, leave=lambda given, u, before, new, y: (new, by * y))
    >>> scaled(jaxseq.lstm(4, peephole=None), by=0.5)
    scaled(lstm(4), 0.5)
    >>> scaled(jaxseq.lstm(4)) is scaled(cell=jaxseq.lstm(size=4), by=2)
    True
    """
    if not callable(function):
        raise TypeError(f"`function` must be a function that makes something; got {type(function).__name__}")
    signature, make = inspect.signature(function), functools.cache(function)
    others = next((name for name, each in signature.parameters.items() if each.kind is each.VAR_KEYWORD), "")

    @functools.wraps(function)
    def cached(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Made:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = {**bound.arguments}
        arguments |= arguments.pop(others, {})
        for name, value in arguments.items():
            if not _is_hashable(value):
                raise TypeError(
                    f"`{name}` must be hashable, as functions, numbers and cells are; {type(value).__name__} is not"
                )
        made: Any = make(*bound.args, **bound.kwargs)
        if made not in _CALLS:
            _CALLS[made] = _public_call(cached, arguments)
            if hasattr(made, "_asdict"):
                _keep_parts(made, {part for net in (*bound.args, *bound.kwargs.values()) for part in _parts(net)})
            if hasattr(made, "__wrapped__"):  # jitted: JAX would pickle what it wraps
                vars(made)["__reduce_ex__"] = lambda protocol: _reduce(made)
        return made

    return cached


def call_of(made: Any) -> tuple[Callable, dict[str, Any]] | None:
    """Returns the public factory that made it and all its arguments by name, `*args` as a tuple; None: none made it."""
    call = _CALLS.get(made) if _is_hashable(made) else None
    if call is None:
        return None
    bound = inspect.signature(call.factory).bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return call.factory, dict(bound.arguments)


def named(jitted: Made) -> Made:
    """Returns a function of a module, jitted, which pickles as its name; JAX would pickle what it wraps."""
    name = vars(jitted)["__qualname__"]
    vars(jitted)["__reduce_ex__"] = lambda protocol: name
    return jitted


def by_its_call(kind: type[Made]) -> type[Made]:
    """Returns a class, a NamedTuple of functions, whose objects print, pickle and are copied as what made them."""
    methods = {"__repr__": _describe, "__reduce__": _reduce, "__copy__": _itself, "__deepcopy__": _itself}
    for name, method in methods.items():
        setattr(kind, name, method)
    return kind


def _describe(made):
    """The call that made it; of a net that no factory made, its fields by name."""
    call = _CALLS.get(made) if _is_hashable(made) else None
    if call is None and _is_hashable(made) and made in _PARTS:
        return "{}.{}".format(*_PARTS[made])
    if call is None:
        fields = [f"{name}={_show(value)}" for name, value in made._asdict().items() if value is not None]
        return f"{type(made).__name__}({', '.join(fields)})"
    keywords = [f"{name}={_show(value)}" for name, value in call.kwargs.items()]
    return f"{call.factory.__name__}({', '.join([*map(_show, call.args), *keywords])})"


def _reduce(made):
    """The function and the arguments that make it once more."""
    call = _CALLS.get(made)
    if call is None:
        return (getattr, _PARTS[made]) if made in _PARTS else (type(made), tuple(map(_portable, made)))
    kwargs = {name: _portable(value) for name, value in call.kwargs.items()}
    args = tuple(map(_portable, call.args))
    return (functools.partial(call.factory, **kwargs) if kwargs else call.factory), args


def _itself(made, memo=None):
    return made


class _StandIn:
    """Stands in a pickle for a function, and loads as what makes it."""

    def __init__(self, function, *args):
        self.how = function, args

    def __reduce__(self):
        return self.how


def _public_call(function, arguments):
    """The call without what is left at its default."""
    if function.__qualname__.startswith("_"):
        public = getattr(sys.modules[function.__module__], function.__name__.lstrip("_"), None)
        if callable(public) and _names(public) == _names(function):
            function = public
    args, kwargs, in_order = [], {}, True
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        value = arguments.pop(name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += value
        elif parameter.default is value or parameter.default == value:
            in_order = False
        elif in_order and parameter.kind is not parameter.KEYWORD_ONLY:
            args.append(value)
        else:
            kwargs[name] = value
    return _Call(function, tuple(args), kwargs | arguments)


def _names(function):
    return {*inspect.signature(function).parameters}


def _parts(net):
    """The functions of a net, and its backward with those of that; nothing of what is no net."""
    fields = net._asdict().values() if hasattr(net, "_asdict") else ()
    for part in fields:
        if callable(part) or hasattr(part, "_asdict"):
            yield part
            yield from _parts(part)


def _keep_parts(net, inherited):
    """Remembers which functions were made for the net; those of nets that it was made of are theirs."""
    for name, part in net._asdict().items():
        if part in inherited or not (callable(part) or hasattr(part, "_asdict")):
            continue
        _PARTS.setdefault(part, (net, name))
        if hasattr(part, "_asdict"):
            _keep_parts(part, inherited)


def _show(value):
    if callable(value):
        if not _is_hashable(value) or _found(value):
            return _name(value)
        return _describe(value) if value in _CALLS or value in _PARTS else _name(value)
    if type(value) is tuple:
        return f"({', '.join(map(_show, value))}{',' * (len(value) == 1)})"
    return repr(value)


def _name(function):
    """A function's name, with those of the functions that it stands in."""
    return getattr(function, "__qualname__", repr(function)).replace("<locals>.", "")


def _portable(value):
    """What stands for it in a pickle, where pickle would not find the function."""
    if type(value) is tuple:
        return tuple(map(_portable, value))
    if not callable(value) or not _is_hashable(value):
        return value
    if path := _found(value):  # what is jitted, or has a derivative of its own, pickle does not find
        return value if inspect.isfunction(value) else _StandIn(pkgutil.resolve_name, path)
    if value in _CALLS or value in _PARTS:
        make, args = _reduce(value)
        return _StandIn(make, *args)
    return value


def _found(function):
    """The path by which a function is found in its module; None: it is not."""
    path = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    try:
        return path if pkgutil.resolve_name(path) is function else None
    except (AttributeError, ImportError, ValueError):
        return None


def _is_hashable(value):
    try:
        hash(value)
    except TypeError:
        return False
    return True
