"""Factories: equal calls return the same object, which prints and pickles as the call that made it.

A net consists of functions. Most are closures, which cannot be pickled, but the call that made them can. A net that was
built directly, such as `Cell(...)`, prints and pickles as the names of its functions.
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
    """A call of a public factory, without arguments that equal their defaults."""

    factory: Callable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


_CALLS: dict[Any, _Call] = {}  # by the object made; the factories' caches keep it alive anyway
_PARTS: dict[Any, tuple[Any, str]] = {}  # by the function made for a net: the net, and the field


def factory(function: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
    """Returns `function` with a cache: equal arguments return the same object. Use it on your own factories.

    The result, such as a cell or a net, prints and pickles as the call that made it. Loading the pickle returns the
    same object; another process makes its own. This requires that `function` is in an importable module and that its
    arguments can be pickled. If `function` is the `_name` of a public `name` with the same arguments, the call uses
    the public name.

    Args:
      function: its arguments must be hashable. Numbers, strings, functions and cells are; lists and arrays are not.

    Raises:
      TypeError: `function` is not callable, or it is called with an argument that is not hashable.

    >>> @jaxseq.factory
    ... def scaled(cell, by=2.0):
    ...     return jaxseq.around(cell, leave=lambda given, u, before, new, y: (new, by * y))
    >>> scaled(jaxseq.lstm(4, peephole=None), by=0.5)
    scaled(lstm(4), 0.5)
    >>> scaled(jaxseq.lstm(4)) is scaled(cell=jaxseq.lstm(size=4), by=2)
    True
    """
    if not callable(function):
        raise TypeError(f"`function` must be a function or another callable; got {type(function).__name__}")
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
            if hasattr(made, "__wrapped__"):  # jitted: JAX would pickle the wrapped function
                vars(made)["__reduce_ex__"] = lambda protocol: _reduce(made)
        return made

    return cached


def call_of(made: Any) -> tuple[Callable, dict[str, Any]] | None:
    """Returns the public factory that made `made`, and all its arguments by name. None: no factory made it.

    `*args` is one tuple.
    """
    call = _CALLS.get(made) if _is_hashable(made) else None
    if call is None:
        return None
    bound = inspect.signature(call.factory).bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return call.factory, dict(bound.arguments)


def named(jitted: Made) -> Made:
    """Returns a jitted function of a module that pickles as its name. JAX would pickle the function it wraps."""
    name = vars(jitted)["__qualname__"]
    vars(jitted)["__reduce_ex__"] = lambda protocol: name
    return jitted


def by_its_call(kind: type[Made]) -> type[Made]:
    """Returns a NamedTuple class of functions whose objects print, pickle and copy as the call that made them."""
    methods = {"__repr__": _describe, "__reduce__": _reduce, "__copy__": _itself, "__deepcopy__": _itself}
    for name, method in methods.items():
        setattr(kind, name, method)
    return kind


def _describe(made):
    """Returns the text of the call that made it, or its fields by name if no factory made it."""
    call = _CALLS.get(made) if _is_hashable(made) else None
    if call is None and _is_hashable(made) and made in _PARTS:
        return "{}.{}".format(*_PARTS[made])
    if call is None:
        fields = [f"{name}={_show(value)}" for name, value in made._asdict().items() if value is not None]
        return f"{type(made).__name__}({', '.join(fields)})"
    keywords = [f"{name}={_show(value)}" for name, value in call.kwargs.items()]
    return f"{call.factory.__name__}({', '.join([*map(_show, call.args), *keywords])})"


def _reduce(made):
    """Returns the function and the arguments that make it again."""
    call = _CALLS.get(made)
    if call is None:
        return (getattr, _PARTS[made]) if made in _PARTS else (type(made), tuple(map(_portable, made)))
    kwargs = {name: _portable(value) for name, value in call.kwargs.items()}
    args = tuple(map(_portable, call.args))
    return (functools.partial(call.factory, **kwargs) if kwargs else call.factory), args


def _itself(made, memo=None):
    return made


class _StandIn:
    """Takes the place of a function in a pickle. It loads as the function's result."""

    def __init__(self, function, *args):
        self.how = function, args

    def __reduce__(self):
        return self.how


def _public_call(function, arguments):
    """Returns the call without the arguments that equal their defaults."""
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
    """Yields the functions of a net, its backward and the functions of that; nothing for other objects."""
    fields = net._asdict().values() if hasattr(net, "_asdict") else ()
    for part in fields:
        if callable(part) or hasattr(part, "_asdict"):
            yield part
            yield from _parts(part)


def _keep_parts(net, inherited):
    """Records which functions were made for the net. Functions inherited from its inner nets are not recorded."""
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
    """Returns a function's name, including the names of the functions that enclose it."""
    return getattr(function, "__qualname__", repr(function)).replace("<locals>.", "")


def _portable(value):
    """Returns the object to pickle in place of `value`, if pickle cannot find it by name."""
    if type(value) is tuple:
        return tuple(map(_portable, value))
    if not callable(value) or not _is_hashable(value):
        return value
    if path := _found(value):  # pickle does not find functions that are jitted or have a custom derivative
        return value if inspect.isfunction(value) else _StandIn(pkgutil.resolve_name, path)
    if value in _CALLS or value in _PARTS:
        make, args = _reduce(value)
        return _StandIn(make, *args)
    return value


def _found(function):
    """Returns the import path of a function, or None if it cannot be found by its name."""
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
