"""Runs a linear cell over time that is split over the devices of a mesh. Each device has a segment of the steps.

    1.  each device combines its segment into one step             S ↦ P S + M
    2.  one exchange: all devices get these summaries of all segments
    3.  each device applies them in turn to the first carry, which gives the carry at the start of its segment
    4.  each device runs its segment from that carry

The cell's algebra combines a segment into one step, so a summary is only as large as a few carries. The gradient is
JAX's. It runs in the opposite direction, also with one exchange. Summaries are in float32 at least, as states are.
"""

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._meshes import map_over, on_meshes, step_output, vary_alike
from jaxseq.kernels._choice import default
from jaxseq.kernels._flat import Flat
from jaxseq.kernels._linear import flipped, refuse_nonlinear
from jaxseq.kernels._plan import plan_cell, register
from jaxseq.typing import Cell, Kernel


def sequence_parallel(sharding: NamedSharding, *, kernel: Kernel | None = None) -> Kernel:
    """Returns a kernel for linear cells that splits time over devices, so that each device runs a segment of the steps.

    Call `unroll` as usual, on whole arrays, outside of `jax.shard_map`. Masks, resets, carries and `reverse` mean the
    same. All other operations of the cell are pointwise in time, and the compiler splits them as `xs` are split. Params
    and carries are on all devices. The batch may be split over another axis of the mesh. Supports reverse mode.

    Args:
      sharding: how time, the first axis of `[T, B, D]`, is split: `NamedSharding(mesh, PartitionSpec(axis))`. Neither
        it nor the kernel can be pickled, because devices cannot.
      kernel: how each device runs its segment. None: the default of `unroll` for that number of steps.

    Raises:
      TypeError, ValueError: `sharding` is not a `NamedSharding` that splits time over an axis of its mesh, or `kernel`
        is not a kernel. The kernel raises ValueError for a cell that is not linear, for a T that is not a multiple of
        the number of devices, and inside `jax.shard_map` over that axis.

    >>> from jax.sharding import NamedSharding, PartitionSpec
    >>> mesh = jax.make_mesh((jax.device_count(),), ("time",))
    >>> sharding = NamedSharding(mesh, PartitionSpec("time"))
    >>> cell = jaxseq.min_gru(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> xs = jax.device_put(jax.random.normal(jax.random.key(1), (64, 2, 3)), sharding)
    >>> carry, ys = jaxseq.unroll(cell, params, xs, kernel=sequence_parallel(sharding))
    >>> jnp.allclose(ys, jaxseq.unroll(cell, params, xs)[1], atol=1e-6)
    Array(True, dtype=bool)
    """
    axis = check.split_axis("sharding", sharding)
    check.kernel(kernel)
    return _sequence_parallel(NamedSharding(sharding.mesh, PartitionSpec(axis)), kernel)


@factory
def _sequence_parallel(sharding, kernel):
    mesh, axis = sharding.mesh, sharding.spec[0]
    count = mesh.shape[axis]
    name = f"kernels.sequence_parallel({sharding.spec})"

    def run(cell, params, carry, xs, *, reverse=False):
        _refuse(name, cell, xs, count)
        inner, batch_axes = projected(cell), step_output(cell, params, carry, xs).ndim - 1

        def of_device(params, carry, xs):
            params, xs = vary_alike((params, xs))
            us = cell.project(params, xs)
            summary = cell.linear.element(params, flipped(us) if reverse else us).summary()
            last, entering = _exchanged(summary, carry, axis, reverse, batch_axes)
            return last, default(kernel)(inner, params, entering, us, reverse=reverse)[1]

        specs = PartitionSpec(), PartitionSpec(axis)
        return map_over(axis, mesh, of_device, (specs[0], *specs), specs)(params, carry, xs)

    def plan(cell, params, xs):
        _refuse(name, cell, xs, count)
        T = jax.tree.leaves(xs)[0].shape[0]
        stretch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((T // count, *leaf.shape[1:]), leaf.dtype), xs)
        inner = plan_cell(default(kernel), cell, params, stretch)
        return inner._replace(
            kernel=f"{name}, each device by {inner.kernel}",
            steps=T,
            segment=T // count,
            reason=f"a segment for each of {count} devices",
        )

    run.__name__ = run.__qualname__ = f"sequence_parallel({sharding.spec})"
    compiled = jax.jit(on_meshes(run), static_argnames=("cell", "reverse"))
    return register(compiled, plan)


def _refuse(name, cell, xs, count):
    refuse_nonlinear(name, cell)
    T = jax.tree.leaves(xs)[0].shape[0]
    if not isinstance(T, int) or T % count:
        raise ValueError(
            f"`xs` must have a number of steps that is a multiple of the {count} devices of `{name}`; got {T}. Pad xs, "
            "and pass a mask"
        )


def _exchanged(summary, carry, axis, reverse, batch_axes):
    """Returns the carry after all segments, and the carry at the start of this device's segment."""
    how = Flat.of(summary, batch_axes)
    flat = how.flat(summary, jax.tree.leaves(summary)[0].shape[:batch_axes])
    gathered = jax.lax.all_gather(flat, axis, to="invarying")
    first, starts = jax.lax.scan(
        lambda carry, flat: (how.whole(flat).apply(carry), carry), carry, gathered, reverse=reverse
    )
    entering = lambda leaf: jax.lax.dynamic_index_in_dim(leaf, jax.lax.axis_index(axis), keepdims=False)
    return first, jax.tree.map(entering, starts)


@factory
def projected(cell: Cell) -> Cell:
    """Returns a linear cell whose inputs are the projected inputs `us` of the given cell."""
    return cell._replace(project=lambda params, us: us, backward=None, noise=None)
