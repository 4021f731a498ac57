"""Loops over time on the devices of a mesh, in the two modes of JAX that put devices into types.

Inside `jax.shard_map` a value's type says over which axes of the mesh it varies. The carry of a loop must say so from
the start, also where it begins as a constant; and what is alike on all devices, as params are, is made varying before
a loop that has a gradient of its own, not in it: the transpose of that step is the sum over the devices.

On a mesh of explicit axes, which `jax.make_mesh` makes, a value's type says how it is split. A kernel runs with these
axes left to the compiler, so that a cell needs no word about them; its results are split as its inputs are. So
does a function whose gradient sums over the batch. Elsewhere the carry of a loop starts split as the loop's body makes
it, and rows of a table are split as the ids are.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxseq.typing import Carry, Cell, Inputs, Kernel, Params

Tree = TypeVar("Tree")


def vary_alike(tree: Tree) -> Tree:
    """Returns the tree; its leaves vary over all axes of a mesh over which any of them does."""
    return _vary(tree, _varied(tree))


def vary_over(axis: str, tree: Tree) -> Tree:
    """Returns the tree; its leaves vary over an axis of a mesh, whatever they did before."""
    return _vary(tree, frozenset({axis}))


def split_as(tree: Tree, made: Any) -> Tree:
    """Returns the tree on explicit axes as what is made of it; `made` are types, maybe those of all steps of a loop."""

    def split(leaf, made):
        if made.sharding is None or not made.sharding.mesh.explicit_axes:
            return leaf
        spec = PartitionSpec(*made.sharding.spec[len(made.shape) - leaf.ndim :])
        return jax.sharding.reshard(leaf, NamedSharding(made.sharding.mesh, spec))

    return jax.tree.map(lambda leaf, made: split(jnp.asarray(leaf), made), tree, made)


def scan(
    body: Callable, start: Tree, xs: Any = None, length: int | None = None, reverse: bool = False
) -> tuple[Tree, Any]:
    """Runs `jax.lax.scan`, also where what the body makes of a constant `start` varies over a mesh, or is split."""
    of_steps = jax.vmap(body, (None, 0)) if jax.tree.leaves(xs) else body

    def run(start: Any, xs: Any) -> Any:
        return jax.lax.scan(body, start, xs, length, reverse)

    def run_split(start, xs):
        made = jax.eval_shape(of_steps, start, xs)[0]
        return run(split_as(start, made), xs)

    if _is_manual():
        start = _vary(start, _varied((start, xs, jax.eval_shape(of_steps, start, xs)[0])))
    elif _explicit_mesh((start, xs)) is not None:
        return jax.jit(run_split)(start, xs)
    return run(start, xs)


def while_loop(goes_on: Callable[[Any], jax.Array], body: Callable[[Any], Any], start: Any) -> Any:
    """Runs `jax.lax.while_loop`, also where `start` is constant and what the body makes of it is not, as in `scan`."""

    def run_split(start):
        return jax.lax.while_loop(goes_on, body, split_as(start, jax.eval_shape(body, start)))

    if _is_manual():
        start = _vary(start, _varied((start, jax.eval_shape(body, start))))
    elif _explicit_mesh(start) is not None:
        return jax.jit(run_split)(start)
    return jax.lax.while_loop(goes_on, body, start)


def step_output(cell: Cell, params: Params, carry: Carry, xs: Inputs) -> jax.ShapeDtypeStruct:
    """Returns the shape of a step's output, from shapes alone: of no array it matters how it is split."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (params, carry, xs))
    params, carry, xs = shapes
    x = jax.tree.map(lambda leaf: leaf.update(shape=leaf.shape[1:]), xs)
    return jax.eval_shape(cell.step, params, carry, jax.eval_shape(cell.project, params, x))[1]


def zeros_types(shapes: list[jax.ShapeDtypeStruct], like: Any) -> list[Any]:
    """Returns the types of arrays of such shapes that vary over a mesh as the leaves of `like` do."""
    axes = _varied(like)
    zeros = jax.make_jaxpr(lambda: _vary([jnp.zeros(leaf.shape, leaf.dtype) for leaf in shapes], axes))
    return zeros().out_avals


def local_types(types: Any) -> Any:
    """Returns types of arrays without the axes that they vary over: for code that is lowered for one device."""

    def local(leaf):
        return (
            leaf.update(manual_axis_type=leaf.manual_axis_type.update(varying=frozenset())) if _varied(leaf) else leaf
        )

    return [local(leaf) for leaf in types]


def on_meshes(kernel: Kernel) -> Kernel:
    """Returns a kernel that runs on any mesh: under `jax.shard_map`, and on explicit axes."""

    @functools.wraps(kernel)
    def run(cell, params, carry, xs, *, reverse=False):
        params, carry, xs = vary_alike((params, carry, xs))
        split = lambda mesh: _split(mesh, cell, params, carry, xs)
        return _left_to_compiler(functools.partial(kernel, cell, reverse=reverse), split, params, carry, xs)

    return run


def of_rows(run: Callable[..., jax.Array], like: jax.Array, *arguments: Any) -> jax.Array:
    """Returns `run(*arguments)`, `[*B]`, with explicit axes left to the compiler, and split as `like`, `[T, *B, K]`."""
    split = lambda mesh: NamedSharding(mesh, PartitionSpec(*_spec(like)[1:-1]))
    return _left_to_compiler(run, split, *arguments)


def alike(run: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Returns `run(x)`, of the shape of x, with explicit axes left to the compiler, and split as x."""
    return _left_to_compiler(run, lambda mesh: NamedSharding(mesh, PartitionSpec(*_spec(x))), x)


def split_as_given(run: Callable[..., tuple[Carry, jax.Array]], carry: Carry, xs: jax.Array, *others: Any) -> Any:
    """Returns `run(carry, xs, *others)`, a last carry and ys, with explicit axes left to the compiler.

    They are split as xs `[T, *B, D]`.
    """
    axes = xs.ndim - 2

    def split(mesh):
        sharding = lambda *spec: NamedSharding(mesh, PartitionSpec(*spec))
        time, *batch, _ = _spec(xs)
        return jax.tree.map(lambda leaf: sharding(*batch, *_spec(leaf)[axes:]), carry), sharding(time, *batch, None)

    return _left_to_compiler(run, split, carry, xs, *others)


def over_all(run: Callable[..., Tree], *arguments: Any) -> Tree:
    """Returns `run(*arguments)`, say a sum over rows, with explicit axes left to the compiler, whole on each device."""
    return _left_to_compiler(run, lambda mesh: NamedSharding(mesh, PartitionSpec()), *arguments)


def _left_to_compiler(run, split, *arguments):
    """Runs with explicit axes of a mesh, where there are any, left to the compiler; `split(mesh)` is of the results."""
    mesh = _explicit_mesh(arguments)
    if mesh is None:
        return run(*arguments)
    left: Any = jax.sharding.auto_axes(run, axes=mesh.explicit_axes, out_sharding=split(mesh))
    return left(*arguments)


def rows(table: jax.Array, *ids: jax.Array, out_sharding: Any = None, **options: Any) -> jax.Array:
    """Returns `table[ids]`, `[*B, ...]`, of arrays of ids `[*B]`, split as they are; `options` are of `at[].get`."""
    mesh = _explicit_mesh((table, ids))
    if out_sharding is None and mesh is not None:
        spec = _first_named(*map(_spec, ids))
        out_sharding = NamedSharding(mesh, PartitionSpec(*spec, *_spec(table)[len(ids) :]))
    return table.at[ids].get(out_sharding=out_sharding, **options)


def for_each_row(x: jax.Array, like: jax.Array) -> jax.Array:
    """Returns x `[K]` for each row, `[*B, K]`, split as `like`, `[T, *B, K]`."""
    wide, mesh = jnp.broadcast_to(x, like.shape[1:]), _explicit_mesh((x, like))
    if mesh is None:
        return wide
    return jax.sharding.reshard(wide, NamedSharding(mesh, PartitionSpec(*_spec(like)[1:])))


def mesh_here(mesh: Any, axis: str) -> Any:
    """Returns the mesh for a `jax.shard_map` over one of its axes, also where JAX knows of that mesh already.

    Raises:
      ValueError: the axis is one of a `jax.shard_map` around this.
    """
    around = jax.sharding.get_abstract_mesh()
    if axis in around.manual_axes:
        raise ValueError(
            f"this runs `jax.shard_map` over {axis!r} itself, and was called inside of one. Call it outside, on whole "
            "arrays"
        )
    return around if axis in around.axis_names else mesh


def in_types(tree: Any) -> bool:
    """Whether types speak of a mesh here: inside `jax.shard_map`, or where a leaf is split over explicit axes."""
    return _is_manual() or _explicit_mesh(tree) is not None


def _is_manual():
    """Whether this is traced inside `jax.shard_map`."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def _varied(tree) -> frozenset[str]:
    """The axes of a mesh over which any leaf, an array or an array's type, varies."""
    types = (leaf if hasattr(leaf, "manual_axis_type") else jax.typeof(leaf) for leaf in jax.tree.leaves(tree))
    kinds = (kind.manual_axis_type for kind in types)
    return frozenset().union(*(kind.varying for kind in kinds if kind is not None))


def _vary(tree, axes):
    def cast(leaf):
        missing = tuple(sorted(axes - _varied(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if axes else tree


def _explicit_mesh(tree):
    """The mesh of explicit axes that a leaf's type names; None: there is none."""
    meshes = (jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree))
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def _split(mesh, cell, params, carry, xs):
    """How the last carry and ys are split: time and the batch as they are in xs, or in the carry."""
    axes = step_output(cell, params, carry, xs).ndim - 1
    time, *batch = _first_named(*(_spec(leaf)[: 1 + axes] for leaf in jax.tree.leaves(xs) if leaf.ndim > axes))
    batch = _first_named(batch, *(_spec(leaf)[:axes] for leaf in jax.tree.leaves(carry)))
    sharding = lambda *spec: NamedSharding(mesh, PartitionSpec(*spec))
    return jax.tree.map(lambda leaf: sharding(*batch, *_spec(leaf)[axes:]), carry), sharding(time, *batch, None)


def _spec(leaf):
    return tuple(jax.typeof(leaf).sharding.spec)


def _first_named(*specs):
    """Of each axis the first of the names that specs give it; None where none does."""
    return [next(filter(None, names), None) for names in zip(*specs, strict=True)]
