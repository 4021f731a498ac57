"""How a kernel runs a cell: one object that the kernel runs by, `explain` prints, and `peak_bytes` adds up.

A kernel registers the function that makes its plans; of a kernel that has registered none, a plan tells what JAX does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxseq.kernels._bytes import kernel_bytes
from jaxseq.typing import Cell, Composite, Inputs, Kernel, Params


class Plan(NamedTuple):
    """How one cell is run.

    Attributes:
      kernel: the kernel's name.
      gradient: how the gradient comes about, in words.
      steps: T.
      segment: the steps that are run at a time.
      reason: why so many, in words.
      held: `() -> int`: the bytes that a training step holds beside its arguments and the gradients of params.
      not_native: why it is not a native loop, where the kernel was not asked for by name; None where it is one.
    """

    kernel: str
    gradient: str
    steps: int
    segment: int
    reason: str
    held: Callable[[], int]
    not_native: str | None = None

    def __str__(self) -> str:
        """The plan in one line."""
        whole = self.segment >= self.steps
        cut = (
            f"T = {self.steps}, not cut"
            if whole
            else f"{-(-self.steps // self.segment)} segments of {self.segment} steps"
        )
        not_native = "" if self.not_native is None else f"; not native: {self.not_native}"
        return f"{self.kernel}, by {self.gradient}; {cut}: {self.reason}{not_native}"


Planner: TypeAlias = Callable[[Cell, Params, Inputs], Plan]

_PLANNERS: dict[Kernel, Planner] = {}


def register(kernel: Kernel, planner: Planner) -> Kernel:
    """Makes `planner(cell, params, xs) -> Plan` that which tells how `kernel` runs a cell; returns the kernel.

    A plan is made while a program is traced, so of `params` and `xs` it takes the shapes alone.
    """
    _PLANNERS[kernel] = planner
    return kernel


NetPlanner: TypeAlias = Callable[[Callable, Params, Any], tuple[Any, Any, Callable[[Plan], Plan]]]

_NET_PLANNERS: dict[Composite, NetPlanner] = {}


def register_net(net: Composite, planner: NetPlanner) -> Composite:
    """Makes `planner` that which tells how a net is run whose `unroll` is not to be followed part by part; returns it.

    `planner(run, params, xs) -> (carry, ys, told)` calls `run(cell, params, xs)` for each part with what that is given
    at a time; `told(plan)` says of the plan of a cell how it stands in the net.
    """
    _NET_PLANNERS[net] = planner
    return net


def plan_cell(kernel: Kernel, cell: Cell, params: Params, xs: Inputs) -> Plan:
    """Returns how `kernel` runs a cell; of params and xs the shapes alone count, not how they lie on a mesh."""
    params, xs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (params, xs))
    planner = _PLANNERS.get(kernel)
    return _unregistered(kernel, cell, params, xs) if planner is None else planner(cell, params, xs)


class Part(NamedTuple):
    """A cell of a net: where its carry stands in the net's, and how it is run."""

    place: str
    cell: Cell
    plan: Plan


@jax.tree_util.register_static
class Placeholder(NamedTuple):
    """Stands in a net's carry where the carry of the cell does that was run as the `number`th."""

    number: int


def plan_net(kernel: Kernel, net: Cell | Composite, params: Params, xs: Any) -> list[Part]:
    """Returns the cells of a net in the order that they run in."""
    parts = []

    def run(cell, params, xs, carry=None, *, mask=None, reset=None, reverse=False, key=None):
        carry = cell.carry(params, xs.shape[1:-1]) if carry is None else carry
        if cell in _NET_PLANNERS:
            first = len(parts)
            carry, ys, told = _NET_PLANNERS[cell](run, params, xs)
            parts[first:] = [(part, told(plan)) for part, plan in parts[first:]]
            return carry, ys
        if isinstance(cell, Composite):
            return cell.unroll(run, params, xs, carry, mask=mask, reset=reset, reverse=reverse, key=key)
        parts.append((cell, plan_cell(kernel, cell, params, xs)))
        return Placeholder(len(parts) - 1), jnp.zeros((*xs.shape[:-1], cell.size), xs.dtype)

    # A net hands carries on as they are, so what is returned as the last carry shows where its cell stands.
    placeholders, _ = jax.eval_shape(run, net, params, xs)
    places = jax.tree_util.tree_leaves_with_path(placeholders, is_leaf=lambda node: isinstance(node, Placeholder))
    names = {leaf.number: jax.tree_util.keystr(path) for path, leaf in places if isinstance(leaf, Placeholder)}
    return [Part(names[number], *part) for number, part in enumerate(parts)]


def _unregistered(kernel, cell, params, xs):
    """The plan of a kernel of one's own, which JAX differentiates as it is."""
    T = jax.tree.leaves(xs)[0].shape[0]
    name = getattr(kernel, "__name__", repr(kernel))
    return Plan(name, "its own gradient", T, T, "a kernel of your own", lambda: kernel_bytes(kernel, cell, params, xs))
