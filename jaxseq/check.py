"""The errors of the public edge; below it the mathematics is bare.

Each check names the argument, what was expected, what came, and the likely cause. TypeError is for dtypes and kinds,
ValueError for shapes and values.
"""

import functools
import inspect
import numbers
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.typing import Carry, Cell, Composite, Params, Shape


def positive_int(name: str, value: Any) -> int:
    """Returns `value` as an int, of at least 1."""
    return _int_from(1, "a positive int", name, value)


def natural(name: str, value: Any) -> int:
    """Returns `value` as an int, of at least 0."""
    return _int_from(0, "an int, 0 or more", name, value)


def sequence(name: str, value: Any) -> tuple:
    """Returns `value` as a tuple."""
    if not isinstance(value, tuple | list | np.ndarray):
        raise TypeError(f"`{name}` must be a sequence of ints; got {value!r}")
    return tuple(value)


def one_of(name: str, value: Any, options: tuple) -> None:
    """Raises unless `value` is one of `options`."""
    if value not in options:
        raise ValueError(f"`{name}` must be {' or '.join(map(repr, options))}; got {value!r}")


def rate(name: str, value: Any) -> float:
    """Returns `value` as a float in [0, 1)."""
    if not _is_number(value):
        raise TypeError(f"`{name}` must be a rate, a number in [0, 1); got {value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"`{name}` must be a rate in [0, 1); got {value}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """Returns `value` as a float above 0."""
    if not _is_number(value):
        raise TypeError(f"`{name}` must be a positive number; got {value!r}")
    if not value > 0:
        raise ValueError(f"`{name}` must be a positive number; got {value}")
    return float(value)


def bias(name: str, value: Any) -> Any:
    """Returns a bias to start from, a float, an initialiser or None."""
    if value is None or callable(value):
        _hashable(name, value)
        return value
    if not _is_number(value):
        raise TypeError(f"`{name}` must be a number, an initialiser (initializers.chrono(100)) or None; got {value!r}")
    return float(value)


def initializers(**named: Any) -> tuple:
    """Returns the initialisers in their order; raises unless each can draw an array."""
    for name, value in named.items():
        if not callable(value):
            raise TypeError(
                f"`{name}` must be an initialiser (key, shape, dtype) -> array, such as initializers.orthogonal(); "
                f"got {value!r}"
            )
        signature = _signature(value)
        try:
            if signature is not None:
                signature.bind("key", "shape", "dtype")
        except TypeError:
            raise TypeError(
                f"`{name}` must take (key, shape, dtype); {_kind(value)} takes {signature}. "
                "A factory is called first: initializers.orthogonal()."
            ) from None
        _hashable(name, value)
    return tuple(named.values())


def function(name: str, value: Any) -> None:
    """Raises unless `value` is callable."""
    if not callable(value):
        raise TypeError(f"`{name}` must be an elementwise function such as jnp.tanh; got {value!r}")
    _hashable(name, value)


def direction(reverse: Any) -> None:
    """Raises unless `reverse` is a bool that is known when the program is traced."""
    if not isinstance(reverse, bool | np.bool_):
        raise TypeError(f"`reverse` must be a Python bool; got {type(reverse).__name__}. Under jit, make it static.")


def random_key(key: Any) -> None:
    """Raises unless `key` is a random key or None."""
    if key is not None and not isinstance(key, jax.Array):
        raise TypeError(f"`key` must be a jax.random.key or None; got {type(key).__name__}")


def kernel(kernel: Any) -> None:
    """Raises unless `kernel` is None or takes the arguments of a kernel."""
    if kernel is None:
        return
    if not callable(kernel):
        raise TypeError(f"`kernel` must be a function such as jaxseq.kernels.scan, or None; got {kernel!r}")
    signature = _signature(kernel)
    try:
        if signature is not None:
            signature.bind("cell", "params", "carry", "xs", reverse=False)
    except TypeError:
        raise TypeError(
            f"`kernel` must take (cell, params, carry, xs, *, reverse); {_kind(kernel)} takes {signature}. "
            "A factory is called first: kernels.remat(64)."
        ) from None


def outputs(cell: Cell, ys: Any, steps: Shape) -> None:
    """Raises unless a cell's outputs are `steps` by `cell.size` features: a check of cells and kernels of one's own."""
    shape = jnp.shape(ys)
    if shape != (*steps, cell.size):
        raise ValueError(
            f"the outputs must be {steps} steps by {cell.size} features, the cell's `size`; its `step`, or the kernel, "
            f"gave {shape}"
        )


def net(cell: Any) -> None:
    """Raises unless `cell` is a Cell or a Composite."""
    if not isinstance(cell, Cell | Composite):
        hint = " Did you pass the factory itself? Call it: lstm(256)." if callable(cell) else ""
        raise TypeError(f"`cell` must be a jaxseq.Cell or a jaxseq.Composite; got {_kind(cell)}.{hint}")


def inside(wrapper: str, cell: Any) -> None:
    """Raises unless `cell` is a Cell, which `wrapper` works inside of."""
    net(cell)
    if isinstance(cell, Composite):
        raise TypeError(f"`cell` must be a jaxseq.Cell. Put {wrapper} around the composite's cells.")


def causal(cell: Any) -> Callable:
    """Returns the `step` of a Cell or a causal Composite."""
    net(cell)
    if cell.step is None:
        raise ValueError("this Composite is not causal: its output at a step depends on later steps. Use unroll.")
    return cell.step


def as_jax(tree: Any) -> Any:
    """Returns the pytree with NumPy arrays as JAX's: float64 as the default float."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, tree)


def array(name: str, axes: str, x: Any) -> jax.Array:
    """Returns a JAX or NumPy array as JAX's."""
    if not isinstance(x, jax.Array | np.ndarray):
        raise TypeError(f"`{name}` must be an array [{axes}]; got {type(x).__name__}")
    converted = jnp.asarray(x)
    narrowed = isinstance(x, np.ndarray) and x.dtype != converted.dtype and np.issubdtype(x.dtype, np.integer)
    if narrowed and np.any(x != x.astype(converted.dtype)):
        raise ValueError(f"`{name}` holds {x.dtype} numbers beyond {converted.dtype}; enable jax_enable_x64")
    return converted


def inputs(name: str, axes: str, xs: Any, params: Params) -> jax.Array:
    """Returns `xs`, a float array with the axes of `axes` (batch axes free) in the dtype of `params`."""
    xs = array(name, axes, xs)
    ndim = 2 if axes.startswith("T") else 1
    dtype = _float_dtype(params)
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        hint = " Embed tokens first." if jnp.issubdtype(xs.dtype, jnp.integer) else ""
        raise TypeError(f"`{name}` must be floating [{axes}]; got {_shaped(xs)}.{hint}")
    if xs.ndim < ndim:
        raise ValueError(f"`{name}` must be [{axes}], of at least {ndim} axes; got {_shaped(xs)}")
    if dtype is not None and xs.dtype != dtype:
        raise TypeError(f"`{name}` must be {dtype}, the dtype of `params`; got {_shaped(xs)}. Cast one to the other.")
    return xs


def parameters(cell: Cell | Composite, params: Params, in_size: int) -> None:
    """Raises unless `params` has the structure and the shapes of `cell.init(key, in_size)`."""
    expected = _expected_parameters(cell, in_size)
    if jax.tree.structure(params) != jax.tree.structure(expected):
        raise ValueError(
            "`params` must be what cell.init(key, in_size) returns, "
            f"{jax.tree.structure(expected)}; got {jax.tree.structure(params)}. Are they another cell's?"
        )
    for (path, leaf), (_, want) in zip(_leaves(params), _leaves(expected), strict=True):
        if jnp.shape(leaf) != want.shape:
            raise ValueError(
                f"`params{path}` must be {want.shape} for inputs of D = {in_size} features and this cell; "
                f"got {jnp.shape(leaf)}. Is the last axis of `xs` the features, and are these the cell's own params?"
            )
        if jnp.issubdtype(want.dtype, jnp.floating) and not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"`params{path}` must be floating; got {_shaped(leaf)}")


def carry(cell: Cell | Composite, params: Params, carry: Carry, batch: Shape) -> None:
    """Raises unless `carry` has the structure, shapes and dtypes of `cell.carry(params, batch)`."""
    expected = jax.eval_shape(lambda params: cell.carry(params, batch), params)
    if jax.tree.structure(carry) != jax.tree.structure(expected):
        raise ValueError(
            f"`carry` must be like cell.carry(params, {batch}), {jax.tree.structure(expected)}; "
            f"got {jax.tree.structure(carry)}. Is it another cell's?"
        )
    for (path, leaf), (_, want) in zip(_leaves(carry), _leaves(expected), strict=True):
        if jnp.shape(leaf) != want.shape:
            raise ValueError(f"`carry{path}` must be {_shaped(want)} for the batch {batch}; got {_shaped(leaf)}")
        if jnp.result_type(leaf) != want.dtype:
            raise TypeError(f"`carry{path}` must be {_shaped(want)}; got {_shaped(leaf)}")


def flags(name: str, flags: Any, steps: Shape, axes: str = "T, B") -> jax.Array | None:
    """Returns `flags`, bool of the shape `steps`, with the axes of `axes`, or None."""
    if flags is None:
        return None
    flags = array(name, axes, flags)
    if flags.dtype == bool and flags.shape == steps:
        return flags
    hint, other_order = "", {"T, B": "batch-major", "B, T": "time-major"}.get(axes)
    if other_order and flags.shape != steps and flags.shape[:2] == steps[1::-1]:
        hint = f" Did you pass {other_order}?"
    elif flags.shape != steps:
        hint = " Nothing is broadcast."
    elif flags.dtype != bool:
        hint = f" Cast it: {name}.astype(bool)."
    error = TypeError if flags.dtype != bool else ValueError
    raise error(f"`{name}` must be bool [{axes}] = {steps}; got {_shaped(flags)}.{hint}")


def batch_leads(cell: Cell, params: Params, batch: Shape) -> None:
    """Raises unless every leaf of the carry leads with the batch axes, which masks and resets select along."""
    expected, one = (jax.eval_shape(lambda params, b=b: cell.carry(params, b), params) for b in (batch, ()))
    for (path, leaf), row in zip(_leaves(expected), jax.tree.leaves(one), strict=True):
        if leaf.shape != batch + row.shape:
            raise ValueError(
                f"under a mask or a reset, `carry{path}` must lead with the batch {batch}; got {leaf.shape}"
            )


@functools.lru_cache(maxsize=1024)
def _expected_parameters(cell, in_size):
    return jax.eval_shape(lambda key: cell.init(key, in_size), jax.eval_shape(lambda: jax.random.key(0)))


def _int_from(least, words, name, value):
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"`{name}` must be {words}; got {value!r}")
    if number < least:
        raise ValueError(f"`{name}` must be {words}; got {number}")
    return number


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _hashable(name, value):
    """Cells are told apart by what they are made of, so that has to have a hash."""
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"`{name}` must be hashable, as functions are; {_kind(value)} is not") from None


def _signature(value):
    """The signature of a callable; None for one that keeps it to itself."""
    try:
        return inspect.signature(value)
    except ValueError:
        return None


def _float_dtype(params):
    """The one float dtype of `params`; None where they hold no floats."""
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(params)}
    dtypes = {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}
    if len(dtypes) > 1:
        raise TypeError(f"`params` must have one float dtype; got {', '.join(sorted(map(str, dtypes)))}")
    return dtypes.pop() if dtypes else None


def _leaves(tree):
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _shaped(x):
    return f"{jnp.result_type(x)} {jnp.shape(x)}"


def _kind(x):
    return getattr(x, "__name__", type(x).__name__)
