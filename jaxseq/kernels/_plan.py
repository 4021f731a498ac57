"""How a kernel runs a cell: a `Plan`, which the kernel follows, `explain` prints, and `peak_bytes` adds up.

A kernel registers the function that makes its plans. For other kernels, a plan describes what JAX does.
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
      gradient: how the gradient is computed, in words.
      steps: T.
      segment: the steps that are run at a time.
      reason: the reason for that number, in words.
      held: `() -> int`, the bytes that a training step holds in addition to its arguments and the gradients of params.
      not_native: why no native loop was chosen. None if one was, or if the kernel was asked for by name.
    """

    kernel: str
    gradient: str
    steps: int
    segment: int
    reason: str
    held: Callable[[], int]
    not_native: str | None = None

    def __str__(self) -> str:
        """Returns the plan in one line."""
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
    """Registers `planner(cell, params, xs) -> Plan`, which tells how `kernel` runs a cell. Returns the kernel.

    A plan is made while a program is traced, so `planner` gets only the shapes of `params` and `xs`.
    """
    _PLANNERS[kernel] = planner
    return kernel


NetPlanner: TypeAlias = Callable[[Callable, Params, Any], tuple[Any, Any, Callable[[Plan], Plan]]]

_NET_PLANNERS: dict[Composite, NetPlanner] = {}


def register_net(net: Composite, planner: NetPlanner) -> Composite:
    """Registers the planner of a net that does not run its parts one after another. Returns the net.

    `planner(run, params, xs) -> (carry, ys, told)` calls `run(cell, params, xs)` for each part, with the inputs that
    the part gets at a time. `told(plan)` returns a cell's plan, adapted to its role in the net.
    """
    _NET_PLANNERS[net] = planner
    return net


def plan_cell(kernel: Kernel, cell: Cell, params: Params, xs: Inputs) -> Plan:
    """Returns how `kernel` runs a cell. It depends only on the shapes of params and xs, not on how they are split."""
    params, xs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (params, xs))
    planner = _PLANNERS.get(kernel)
    return _unregistered(kernel, cell, params, xs) if planner is None else planner(cell, params, xs)


class Part(NamedTuple):
    """A cell of a net: the place of its carry in the net's carry, and how it is run."""

    place: str
    cell: Cell
    plan: Plan


@jax.tree_util.register_static
class Placeholder(NamedTuple):
    """Takes the place of a cell's carry in a net's carry. The cell was the `number`th to run."""

    number: int


def plan_net(kernel: Kernel, net: Cell | Composite, params: Params, xs: Any) -> list[Part]:
    """Returns the cells of a net in the order in which they run."""
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

    # A net does not change carries, so a placeholder in the last carry shows the place of its cell.
    placeholders, _ = jax.eval_shape(run, net, params, xs)
    places = jax.tree_util.tree_leaves_with_path(placeholders, is_leaf=lambda node: isinstance(node, Placeholder))
    names = {leaf.number: jax.tree_util.keystr(path) for path, leaf in places if isinstance(leaf, Placeholder)}
    return [Part(names[number], *part) for number, part in enumerate(parts)]


def _unregistered(kernel, cell, params, xs):
    """Returns the plan of a kernel that was not registered, and that JAX differentiates."""
    T = jax.tree.leaves(xs)[0].shape[0]
    name = getattr(kernel, "__name__", repr(kernel))
    return Plan(name, "its own gradient", T, T, "a kernel of your own", lambda: kernel_bytes(kernel, cell, params, xs))
