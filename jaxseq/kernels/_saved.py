"""The values that the steps of a loop save for the backward pass. Each array is stored only once.

Many of them are also in ys: h_{t-1} is the y of the previous step, and an RNN saves its y itself. Tracing the step
finds such leaves by identity, and they are read from ys.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxseq._handed import handed_to_steps
from jaxseq.typing import Carry, Inputs, Params, Saved


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("first", "ys", "written"),
    meta_fields=("sources", "tree", "reverse"),
)
@dataclasses.dataclass(frozen=True)
class SavedSteps:
    """The values that `T` steps saved."""

    first: list[jax.Array]  # the leaves of the loop's initial carry
    ys: jax.Array
    written: list[jax.Array]
    sources: tuple[str | int, ...]  # for each leaf: "written", "y", or the leaf of `first` that it was before its step
    tree: Any
    reverse: bool

    def whole(self) -> Saved:
        """Returns the cell's own pytree of saved values, with leading time."""
        written = iter(self.written)
        leaves = [next(written) if source == "written" else self._from_ys(source) for source in self.sources]
        return jax.tree.unflatten(self.tree, leaves)

    def _from_ys(self, source):
        if source == "y":
            return self.ys
        return handed_to_steps(self.first[source], self.ys, self.reverse)


def run_and_save(
    fwd: Callable[[Params, Carry, Inputs], tuple[Carry, jax.Array, Saved]],
    params: Params,
    carry: Carry,
    us: Inputs,
    reverse: bool,
) -> tuple[tuple[Carry, jax.Array], SavedSteps]:
    """Runs the loop with a cell's hand-written `fwd`. Returns `(carry, ys)` and what the steps saved."""
    sources, tree = (), None

    def step(before, u):
        nonlocal sources, tree
        after, y, saved = fwd(params, before, u)
        leaves, structure = jax.tree.flatten(saved)
        if tree is None:  # the first step stands for all, also if they run one by one under `jax.disable_jit`
            tree = structure
            sources = tuple(_source(leaf, jax.tree.leaves(before), jax.tree.leaves(after), y) for leaf in leaves)
        return after, (y, [leaf for leaf, source in zip(leaves, sources, strict=True) if source == "written"])

    last, (ys, written) = jax.lax.scan(step, carry, us, reverse=reverse)
    return (last, ys), SavedSteps(jax.tree.leaves(carry), ys, written, sources, tree, reverse)


def _source(leaf, before, after, y):
    if leaf is y:
        return "y"
    places = [place for place, handed in enumerate(before) if leaf is handed]
    is_clear = len(places) == 1 and after[places[0]] is y  # one object may be two leaves of a carry
    return places[0] if is_clear else "written"
