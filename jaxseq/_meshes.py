"""Loops over time on the devices of a mesh, in the two modes in which JAX's types tell how arrays lie on devices.

Inside `jax.shard_map` a value's type tells over which axes of the mesh it varies. The carry of a loop must have that
type from the start, even if it begins as a constant. A value that is the same on all devices, such as params, is made
varying before a loop with a custom gradient, not inside the loop: the transpose of that conversion is the sum over the
devices.

On a mesh of explicit axes, which `jax.make_mesh` makes, a value's type tells how it is split. A kernel leaves these
axes to the compiler, so that cells need not handle them. Its results are split as its inputs are. A function whose
gradient sums over the batch does the same. Elsewhere the carry of a loop starts with the split that the loop's body
gives it, and rows of a table are split as the ids are.
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
    """Returns the tree, with every leaf varying over all mesh axes over which any leaf varies."""
    return _vary(tree, _varied(tree))


def vary_over(axis: str, tree: Tree) -> Tree:
    """Returns the tree, with every leaf varying over an axis of a mesh."""
    return _vary(tree, frozenset({axis}))


def split_as(tree: Tree, made: Any) -> Tree:
    """Returns the tree, split over explicit axes as the types `made` are. `made` may have an extra axis of steps."""

    def split(leaf, made):
        if made.sharding is None or not made.sharding.mesh.explicit_axes:
            return leaf
        spec = PartitionSpec(*made.sharding.spec[len(made.shape) - leaf.ndim :])
        return jax.sharding.reshard(leaf, NamedSharding(made.sharding.mesh, spec))

    return jax.tree.map(lambda leaf, made: split(jnp.asarray(leaf), made), tree, made)


def scan(
    body: Callable, start: Tree, xs: Any = None, length: int | None = None, reverse: bool = False
) -> tuple[Tree, Any]:
    """Runs `jax.lax.scan`. `start` may be constant even if the body's result varies over a mesh, or is split."""
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
    """Runs `jax.lax.while_loop`. `start` may be constant even if the body's result is not, as in `scan`."""

    def run_split(start):
        return jax.lax.while_loop(goes_on, body, split_as(start, jax.eval_shape(body, start)))

    if _is_manual():
        start = _vary(start, _varied((start, jax.eval_shape(body, start))))
    elif _explicit_mesh(start) is not None:
        return jax.jit(run_split)(start)
    return jax.lax.while_loop(goes_on, body, start)


def step_output(cell: Cell, params: Params, carry: Carry, xs: Inputs) -> jax.ShapeDtypeStruct:
    """Returns the shape of a step's output, computed only from shapes. How arrays are split does not matter."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (params, carry, xs))
    params, carry, xs = shapes
    x = jax.tree.map(lambda leaf: leaf.update(shape=leaf.shape[1:]), xs)
    return jax.eval_shape(cell.step, params, carry, jax.eval_shape(cell.project, params, x))[1]


def zeros_types(shapes: list[jax.ShapeDtypeStruct], like: Any) -> list[Any]:
    """Returns the types of arrays of these shapes that vary over a mesh as the leaves of `like` do."""
    axes = _varied(like)
    zeros = jax.make_jaxpr(lambda: _vary([jnp.zeros(leaf.shape, leaf.dtype) for leaf in shapes], axes))
    return zeros().out_avals


def local_types(types: Any) -> Any:
    """Returns types of arrays without the axes that they vary over, for code that is lowered for one device."""

    def local(leaf):
        return (
            leaf.update(manual_axis_type=leaf.manual_axis_type.update(varying=frozenset())) if _varied(leaf) else leaf
        )

    return [local(leaf) for leaf in types]


def on_meshes(kernel: Kernel) -> Kernel:
    """Returns a kernel that runs on any mesh, both under `jax.shard_map` and on explicit axes."""

    @functools.wraps(kernel)
    def run(cell, params, carry, xs, *, reverse=False):
        params, carry, xs = vary_alike((params, carry, xs))
        split = lambda mesh: _split(mesh, cell, params, carry, xs)
        return _left_to_compiler(functools.partial(kernel, cell, reverse=reverse), split, params, carry, xs)

    return run


def of_rows(run: Callable[..., jax.Array], like: jax.Array, *arguments: Any) -> jax.Array:
    """Returns `run(*arguments)` `[*B]`, with explicit axes left to the compiler, and split as `like` `[T, *B, K]`."""
    split = lambda mesh: NamedSharding(mesh, PartitionSpec(*_spec(like)[1:-1]))
    return _left_to_compiler(run, split, *arguments)


def alike(run: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Returns `run(x)`, with explicit axes left to the compiler. It has the shape of x, and is split as x."""
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
    """Returns `run(*arguments)`, such as a sum over rows, with explicit axes left to the compiler.

    Each device holds the whole result.
    """
    return _left_to_compiler(run, lambda mesh: NamedSharding(mesh, PartitionSpec()), *arguments)


def _left_to_compiler(run, split, *arguments):
    """Runs with a mesh's explicit axes, if any, left to the compiler. `split(mesh)` tells how to split the results."""
    mesh = _explicit_mesh(arguments)
    if mesh is None:
        return run(*arguments)
    left: Any = jax.sharding.auto_axes(run, axes=mesh.explicit_axes, out_sharding=split(mesh))
    return left(*arguments)


def rows(table: jax.Array, *ids: jax.Array, out_sharding: Any = None, **options: Any) -> jax.Array:
    """Returns `table[ids]` `[*B, ...]` for arrays of ids `[*B]`, split as the ids. `options` go to `at[].get`."""
    mesh = _explicit_mesh((table, ids))
    if out_sharding is None and mesh is not None:
        spec = _first_named(*map(_spec, ids))
        out_sharding = NamedSharding(mesh, PartitionSpec(*spec, *_spec(table)[len(ids) :]))
    return table.at[ids].get(out_sharding=out_sharding, **options)


def for_each_row(x: jax.Array, like: jax.Array) -> jax.Array:
    """Returns x `[K]` repeated for each row, `[*B, K]`, split as `like`, `[T, *B, K]`."""
    wide, mesh = jnp.broadcast_to(x, like.shape[1:]), _explicit_mesh((x, like))
    if mesh is None:
        return wide
    return jax.sharding.reshard(wide, NamedSharding(mesh, PartitionSpec(*_spec(like)[1:])))


def map_over(axis: str, mesh: Any, run: Callable, in_specs: tuple, out_specs: Any) -> Callable:
    """Returns `run` under `jax.shard_map` over one axis of a mesh. JAX may already have that mesh as its current one.

    On explicit axes, arguments that are split in another way, or not at all, are first split by `in_specs`.

    Raises:
      ValueError: an enclosing `jax.shard_map` already maps over the axis, or the mesh has no devices.
    """
    here = _mesh_here(mesh, axis)
    mapped = jax.shard_map(run, mesh=here, in_specs=in_specs, out_specs=out_specs, axis_names={axis})
    if axis not in here.explicit_axes:
        return mapped

    def split_first(*arguments):
        return mapped(*map(jax.sharding.reshard, arguments, [NamedSharding(here, spec) for spec in in_specs]))

    return split_first


def _mesh_here(mesh, axis):
    around = jax.sharding.get_abstract_mesh()
    if axis in around.manual_axes:
        raise ValueError(
            f"this runs `jax.shard_map` over {axis!r} itself, but was called inside of one. Call it outside, on whole "
            "arrays"
        )
    if axis in around.axis_names:
        return around
    if not isinstance(mesh, jax.sharding.Mesh):
        raise ValueError(
            f"`sharding` must be of a mesh of devices, as no mesh with the axis {axis!r} is set; got {mesh}"
        )
    return mesh


def in_types(tree: Any) -> bool:
    """Returns whether types refer to a mesh: inside `jax.shard_map`, or if a leaf is split over explicit axes."""
    return _is_manual() or _explicit_mesh(tree) is not None


def _is_manual():
    """Returns whether this is traced inside `jax.shard_map`."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def _varied(tree) -> frozenset[str]:
    """Returns the axes of a mesh over which any leaf varies. A leaf is an array or an array's type."""
    types = (leaf if hasattr(leaf, "manual_axis_type") else jax.typeof(leaf) for leaf in jax.tree.leaves(tree))
    kinds = (kind.manual_axis_type for kind in types)
    return frozenset().union(*(kind.varying for kind in kinds if kind is not None))


def _vary(tree, axes):
    def cast(leaf):
        missing = tuple(sorted(axes - _varied(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if axes else tree


def _explicit_mesh(tree):
    """Returns the mesh of explicit axes that a leaf's type names, or None."""
    meshes = (jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree))
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def _split(mesh, cell, params, carry, xs):
    """Returns how the last carry and ys are split: over time and batch as xs or the carry are."""
    axes = step_output(cell, params, carry, xs).ndim - 1
    time, *batch = _first_named(*(_spec(leaf)[: 1 + axes] for leaf in jax.tree.leaves(xs) if leaf.ndim > axes))
    batch = _first_named(batch, *(_spec(leaf)[:axes] for leaf in jax.tree.leaves(carry)))
    sharding = lambda *spec: NamedSharding(mesh, PartitionSpec(*spec))
    return jax.tree.map(lambda leaf: sharding(*batch, *_spec(leaf)[axes:]), carry), sharding(time, *batch, None)


def _spec(leaf):
    return tuple(jax.typeof(leaf).sharding.spec)


def _first_named(*specs):
    """Returns for each axis the first name that one of the specs gives it, or None."""
    return [next(filter(None, names), None) for names in zip(*specs, strict=True)]
