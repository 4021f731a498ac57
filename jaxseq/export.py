"""Exports models as programs that run without jaxseq, by `jax.export`, for any batch size and number of steps.

    export.save("whole.jax", export.unroll(model, xs))       whole sequences: call(xs) -> the model's outputs
    export.save("step.jax", export.step(model, x))           one step: call(carry, x, reset=reset) -> (carry, y)

To run them, only JAX is needed, and flatbuffers to read the file:

    program = jax.export.deserialize(pathlib.Path("step.jax").read_bytes())
    carry, y = program.call(carry, x, reset=reset)

The programs use no types of jaxseq. NamedTuples become dicts by the names of their fields: the carry of an LSTM is
`{"h": ..., "c": ...}`. See docs/serving.md.
"""

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from jaxseq import _unroll, check
from jaxseq._plain import plain, restore
from jaxseq._written import write_whole
from jaxseq.typing import Carry, Cell, Composite, Params

PLATFORMS = ("cpu", "cuda", "tpu")
_ALL = (*PLATFORMS, "rocm")


def unroll(
    model: Any,
    xs: Any,
    *,
    mask: bool = False,
    carry: bool = False,
    params: bool = False,
    platforms: Sequence[str] = PLATFORMS,
) -> export.Exported:
    """Returns the program of a model on whole sequences, for any B and T of at least 1.

    Its `call([params,] xs[, carry], [mask=, reset=])` returns the model's outputs: `logits` for a classifier,
    `(carry, ys)` for a net. It draws no noise.

    Args:
      model: a module of `jaxseq.nn`, another `nnx.Module` that is called with `xs` and optionally `mask`, or a pair
        `(net, params)`.
      xs: an example of the inputs, or its `jax.ShapeDtypeStruct`, of floats or ids: `[B, T, ...]`, or `[T, B, ...]` for
        a pair. Its B and T do not matter.
      mask: True if the program takes a `mask`, bool `[B, T]`, or `[T, B]` for a pair.
      carry: True if the program runs a part of a stream. It then takes the carry so far, and `reset`, a bool array like
        `mask` that is True where a sequence starts. It returns the next carry with the outputs.
      params: True if the program takes the params, as a dict from `export.params`. False stores them in the program.
      platforms: the platforms that it can run on, among "cpu", "cuda", "rocm" and "tpu".

    Raises:
      TypeError, ValueError: an argument does not fit, or the model has no `unroll` that takes a carry.
    """
    for name, value in (("mask", mask), ("carry", carry), ("params", params)):
        check.switch(name, value)
    made = _taken_apart(model)
    like = _free("xs", xs, "t, b" if made.is_net else "b, t")
    flags = jax.ShapeDtypeStruct(like.shape[:2], bool)
    given = ({"mask": flags} if mask else {}) | ({"reset": flags} if carry else {})
    if not carry:
        return _exported(made, lambda bound, xs, **given: bound(xs, **given), (like,), given, params, platforms)
    before = _initial_carry(made, like.shape[1 if made.is_net else 0], "unroll")

    def run(bound, xs, carry, **given):
        return bound.unroll(xs, restore(before, carry), **given)

    return _exported(made, run, (like, plain("carry", before)), given, params, platforms)


def step(model: Any, x: Any, *, params: bool = False, platforms: Sequence[str] = PLATFORMS) -> export.Exported:
    """Returns the program of one step of a stream, for any B.

    Its `call([params,] carry, x, reset=reset)` returns `(carry, y)`. `reset` is bool `[B]`, True where a new sequence
    starts with this step. The carry of such a row is not used, so pass zeros for the first step.

    Args:
      model: a module with `step` and `initial_carry`, such as `nn.LanguageModel` or the layer `nn.Recurrent`, or a pair
        `(net, params)`.
      x: an example of one step's input, or its `jax.ShapeDtypeStruct`: `[B, ...]`, floats or ids.
      params, platforms: as in `unroll`.

    Raises:
      TypeError, ValueError: an argument does not fit, or the model has no step.
    """
    check.switch("params", params)
    made = _taken_apart(model)
    like = _free("x", x, "b")
    before = _initial_carry(made, like.shape[0], "step")

    def run(bound, carry, x, reset):
        return bound.step(restore(before, carry), x, reset=reset)

    given = {"reset": jax.ShapeDtypeStruct(like.shape[:1], bool)}
    return _exported(made, run, (plain("carry", before), like), given, params, platforms)


def params(model: Any) -> dict[str, jax.Array]:
    """Returns the arrays of a model by path, `{"recurrent.params.w_x": ...}`, in the form that programs take.

    Args:
      model: as in `unroll`.

    Raises:
      TypeError: `model` is not a model.
      ValueError: two of its arrays have the same path, for example because a key holds a dot.
    """
    return _by_name(_taken_apart(model))


def save(path: str | os.PathLike, program: export.Exported) -> None:
    """Writes a program to a file, completely or not at all. `jax.export.deserialize` reads the file's bytes.

    Raises:
      TypeError: `program` is not a program.
      ImportError: flatbuffers is missing, which `jaxseq[export]` installs.
      OSError: it cannot be written.
    """
    path = check.path("path", path)
    if not isinstance(program, export.Exported):
        raise TypeError(f"`program` must be a result of export.unroll or export.step; got {check.short(program)}")
    if importlib.util.find_spec("flatbuffers") is None:
        raise ImportError("writing a program needs flatbuffers: pip install 'jaxseq[export]'", name="flatbuffers")
    write_whole(path, bytes(program.serialize()))


class _Model(NamedTuple):
    """A model split into its params and a function that rebuilds the model from params."""

    params: Any
    bind: Callable[[Any], Any]
    is_net: bool


class _Net(NamedTuple):
    """A net with its params, with the methods of a module. It is time-major."""

    net: Cell | Composite
    params: Params

    def __call__(self, xs, **given):
        return _unroll.unroll(self.net, self.params, xs, **given)

    def unroll(self, xs, carry, **given):
        return _unroll.unroll(self.net, self.params, xs, carry, **given)

    def step(self, carry, x, *, reset):
        return _unroll.step(self.net, self.params, carry, x, reset=reset)

    def initial_carry(self, batch_shape):
        return self.net.carry(self.params, batch_shape)


def _taken_apart(model: Any) -> _Model:
    if type(model) is tuple and len(model) == 2:
        net, params = model
        check.net(net, "model[0]")
        return _Model(check.as_jax(params, "model[1]"), lambda params: _Net(net, params), True)
    from flax import nnx

    if not isinstance(model, nnx.Module):
        raise TypeError(f"`model` must be an nnx.Module or a pair (net, params); got {check.short(model)}")
    graph, params = nnx.split(model)
    return _Model(params, lambda params: nnx.merge(graph, params), False)


def _free(name, example, axes):
    """Returns the shape of an example, with symbols for its first axes."""
    shape, dtype = getattr(example, "shape", None), getattr(example, "dtype", None)
    if shape is None or dtype is None:
        raise TypeError(f"`{name}` must be an array or a jax.ShapeDtypeStruct; got {check.short(example)}")
    if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
        raise TypeError(f"`{name}` must be of numbers or bools; got {dtype}")
    letters = axes.upper()
    if len(shape) < len(axes.split(",")):
        raise ValueError(f"`{name}` must be [{letters}, ...]; got {check.shaped(example)}")
    return jax.ShapeDtypeStruct(export.symbolic_shape(f"{axes}, ...", like=tuple(shape)), dtype)


def _initial_carry(made, batch, method) -> Carry:
    """Returns the shapes of the carry of a batch."""

    def start(params):
        bound = made.bind(params)
        missing = [name for name in (method, "initial_carry") if getattr(bound, name, None) is None]
        if missing:
            raise ValueError(
                f"`model` must have `{missing[0]}` to run on parts of a stream; {type(bound).__name__} does not. Its "
                "layer may have it: model.recurrent"
            )
        return bound.initial_carry((batch,))

    return jax.eval_shape(start, made.params)


def _exported(made, run, arguments, given, with_params, platforms):
    platforms = check.sequence("platforms", platforms, "names")
    if not platforms or not all(platform in _ALL for platform in platforms):
        raise ValueError(f"`platforms` must be of {', '.join(map(repr, _ALL))}; got {check.short(platforms)}")
    leaves, structure = jax.tree.flatten(made.params)
    if not with_params and any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        raise TypeError("`model` must hold arrays to stand in a program, not only their shapes; or give params=True")

    def call(leaves, arguments, given):
        return plain("results", run(made.bind(jax.tree.unflatten(structure, leaves)), *arguments, **given))

    def of_params(params, *arguments, **given):
        return call([params[name] for name in shapes], arguments, given)

    def of_its_own(*arguments, **given):
        return call(leaves, arguments, given)

    if with_params:
        shapes = {
            name: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for name, leaf in _by_name(made).items()
        }
        run_it, arguments = of_params, (shapes, *arguments)
    else:
        run_it = of_its_own
    try:
        return export.export(jax.jit(run_it), platforms=platforms)(*arguments, **given)
    except (TypeError, ValueError) as error:
        inputs = ", ".join(f"{check.shaped(leaf)}" for leaf in jax.tree.leaves(arguments[with_params:]))
        error.add_note(f"This was raised by the program of `model` for {check.brief(inputs)}, from `x` or `xs`.")
        raise


def _by_name(made):
    """Returns the params by path, in the order of the tree. The path of an `nnx.Variable` is that of its value."""
    keystr = lambda path: jax.tree_util.keystr(path, simple=True, separator=".")
    named, suffix = {}, "" if made.is_net else ".value"
    for path, leaf in jax.tree_util.tree_leaves_with_path(made.params):
        name = keystr(path).removesuffix(suffix)
        if name in named:
            raise ValueError(f"`model` must have params of one path each; several are {check.short(name)}")
        named[name] = leaf
    return named
