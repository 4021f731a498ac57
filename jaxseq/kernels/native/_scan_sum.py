"""A scan that also sums over steps and rows, for gradients of params.

    carry_t, outs_t, sums_t = function(params, carry_{t-1}, inputs_t)          the sums are like params

A param that all rows share is summed over rows and steps. A param of one row is summed over steps.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax

from jaxseq._promote import widen
from jaxseq.kernels.native._moves import converted
from jaxseq.kernels.native._nodes import Node, Unsupported, base
from jaxseq.kernels.native._scan import Function, Scan, whole
from jaxseq.kernels.native._sums import summed, terms_of


def scan_and_sum(
    function: Callable, at_once: Callable, params: Any, carry: Any, inputs: Any, reverse: bool
) -> tuple[Any, Any, Any]:
    """Returns the last carry, the outs of all steps, and the sums.

    Args:
      function: as above, for `scan`. Sums may have None for leaves without a gradient.
      at_once: `(params, carry, inputs) -> (carry, outs, sums)`: the same for all steps at once, in plain JAX.
      params, carry, inputs, reverse: as for `scan`.

    Raises:
      Unsupported: the function has no native form.
    """
    return _ScanAndSum(at_once, function, params, carry, inputs, reverse).run()


class _ScanAndSum(Scan):
    def __init__(self, at_once: Callable, function: Function, *arguments: Any):
        self.at_once = at_once
        super().__init__(function, lambda params, inputs: inputs, *arguments)

    def check_rows(self, jaxpr):
        """Allows functions that mix rows, as the sums are over rows."""

    def find_sums(self, traced):
        """Finds what the loop must sum for each leaf of params that has a gradient."""
        _, _, sums = traced.parts()
        self.places, self.sums, self.of_row_sums = [], [], []
        for place, (node, leaf) in enumerate(zip(_aligned(sums, self.params), self.params_in, strict=True)):
            if node is None:
                continue
            if (node.shape, node.dtype) != (leaf.shape, leaf.dtype):
                raise Unsupported(f"the gradient of params {leaf.shape} {leaf.dtype} is {node.shape} {node.dtype}")
            self.places.append(place)
            self.sums.append(node)
            self.of_row_sums.append(self.of_rows[place])
            if self.of_rows[place]:
                wide = converted(node, widen(node.dtype))
                so_far = Node("leaf", (), node.shape, wide.dtype, True)
                self.added.append((so_far, Node("add", (so_far, wide), node.shape, wide.dtype, True)))
            else:
                known = {term.node for term in self.terms}
                self.terms += [term for term in terms_of(node) if term.node not in known]

    def find_outs(self):
        """Also writes outs that are passed through unchanged, as `at_once` does not return the carry of each step."""
        self.written = {}
        for place, result in enumerate(self.outs_out, len(self.carry_out)):
            if base(result) not in self.inputs_in:
                self.written.setdefault(base(result), place)

    def shapes(self):
        leaves = [self.params_in[place] for place in self.places]
        rows = [(self.B,) if flag else () for flag in self.of_row_sums]
        sums = [jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype) for lead, leaf in zip(rows, leaves, strict=True)]
        return [*super().shapes(), *sums]

    def plain(self, *arguments):
        params, carry, inputs = jax.tree.unflatten(self.arguments_tree, arguments)
        inputs = jax.tree.unflatten(self.inputs_tree, whole(inputs))
        last, outs, sums = self.at_once(params, carry, inputs)
        flat, gradients = jax.tree.leaves((last, outs)), _aligned(sums, params)
        written = [flat[place] for place in self.written.values()]
        return [*jax.tree.leaves(last), *written, *(gradients[place] for place in self.places)]

    def gradients(self, params, added, slabs):
        sums = {term.node: _total(slab)[..., : term.shape[-1]] for term, slab in zip(self.terms, slabs, strict=True)}
        of_rows = iter(added)
        found = []
        for node, flag in zip(self.sums, self.of_row_sums, strict=True):
            total = next(of_rows) if flag else summed(node, sums, params)
            found.append(total.astype(node.dtype))
        return found

    def returned(self, arguments, results):
        n = len(self.shapes()) - len(self.places)
        last, outs = super().returned(arguments, results[:n])
        params, _, _ = jax.tree.unflatten(self.arguments_tree, arguments)
        leaves = [None] * len(self.params_in)
        for place, total in zip(self.places, results[n:], strict=True):
            leaves[place] = total
        return last, outs, jax.tree.unflatten(jax.tree.structure(params), leaves)


def _total(slab):
    """Returns the sum over the slabs of the threads. XLA is several times slower for `slab.sum(0)`."""
    return functools.reduce(operator.add, [slab[place] for place in range(slab.shape[0])])


def _aligned(gradients, params):
    """Returns the gradient of each leaf of params. A None, which may stand for a subtree, means no gradient."""
    leaves = []

    def note(gradient, of_params):
        leaves.extend([gradient] if gradient is not None else [None] * len(jax.tree.leaves(of_params)))

    jax.tree.map(note, gradients, params, is_leaf=lambda leaf: leaf is None)
    return leaves
