"""`jax.lax.scan` of a function that treats rows independently, as machine code.

    carry_t, outs_t = function(params, carry_{t-1}, inputs_t)            for each row and step

The function is traced for one row. Outs that it passes through unchanged are not written. An input is returned as the
array that was passed in. The carry before each step, except the first, is the carry after the previous step: it is
returned as a `Before`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq._handed import handed_to_steps
from jaxseq.kernels._rows import of_rows
from jaxseq.kernels._wide import widened
from jaxseq.kernels.native import _call, _program
from jaxseq.kernels.native._elementwise import check
from jaxseq.kernels.native._fuse import fuse_products
from jaxseq.kernels.native._graph import Traced
from jaxseq.kernels.native._loop import Loop
from jaxseq.kernels.native._nodes import Node, Unsupported, base, evaluate, reached
from jaxseq.kernels.native._row_by_row import ROWS, mixing
from jaxseq.kernels.native._sums import Term
from jaxseq.kernels.native._two_forms import in_two_forms

Function = Callable[[Any, Any, Any], tuple[Any, Any]]


@functools.partial(jax.tree_util.register_dataclass, data_fields=("first", "after"), meta_fields=("reverse",))
@dataclasses.dataclass(frozen=True)
class Before:
    """The values that a loop passed to each step: `first [B, ...]`, then the results `after [T, B, ...]`."""

    first: jax.Array
    after: jax.Array
    reverse: bool

    def whole(self) -> jax.Array:
        """Returns one array `[T, B, ...]`."""
        return handed_to_steps(self.first, self.after, self.reverse)


def whole(tree: Any) -> Any:
    """Returns the tree with every `Before` replaced by an array."""
    return jax.tree.map(lambda leaf: leaf.whole() if _is_before(leaf) else leaf, tree, is_leaf=_is_before)


def scan(
    function: Function, prepare: Callable[[Any, Any], Any], params: Any, carry: Any, inputs: Any, reverse: bool
) -> tuple[Any, Any]:
    """Returns the last carry and the outs of all steps, with one batch axis. Leaves of the outs may be `Before`.

    Args:
      function: as above, for one step of one or many rows. It is traced for one row. The leaves in the `extra` of an
        `Augmented` params are that row's own. Its inputs are the results of `prepare`.
      prepare: `(params, inputs) -> inputs`, pointwise in time. It runs inside the native loop; in plain JAX it runs for
        all steps at once.
      params, carry: pytrees of arrays, with carry `[B, ...]`.
      inputs: a pytree of arrays `[T, B, ...]` and `Before`.
      reverse: run from the last step to the first.

    Raises:
      Unsupported: the function has no native form.
    """
    return Scan(function, prepare, params, carry, inputs, reverse).run()


def _is_before(leaf):
    return isinstance(leaf, Before)


def _shape(leaf, lead):
    leaf = leaf.after if _is_before(leaf) else leaf
    return jax.ShapeDtypeStruct(leaf.shape[lead:], leaf.dtype)


def _many(shape):
    """Returns the shape for many rows, from that for one row."""
    return jax.ShapeDtypeStruct((ROWS, *shape.shape), shape.dtype)


class Scan:
    """One call of `scan`."""

    def __init__(self, function, prepare, params, carry, inputs, reverse):
        self.after_prepare, self.prepare = function, prepare
        self.params, self.carry, self.reverse = params, carry, reverse
        self.inputs, self.inputs_tree = jax.tree.flatten(inputs, is_leaf=_is_before)
        first = self.inputs[0].after if _is_before(self.inputs[0]) else self.inputs[0]
        self.T, self.B = first.shape[:2]
        self.of_rows = of_rows(params)
        self.added: list[tuple[Node, Node]] = []  # carried besides the carry, from 0; see `scan_and_sum`
        self.terms: list[Term] = []
        self.trace()
        self.find_outs()

    def function(self, params, carry, inputs):
        """Runs one step from unprepared inputs."""
        return self.after_prepare(params, carry, self.prepare(params, inputs))

    def trace(self):
        """Traces the function for one row, and compares the result with a trace for many rows."""
        leaves, tree = jax.tree.flatten(self.params)
        one = [_shape(leaf, int(flag)) for leaf, flag in zip(leaves, self.of_rows, strict=True)]
        rows = (
            jax.tree.map(lambda leaf: _shape(leaf, 1), self.carry),
            jax.tree.unflatten(self.inputs_tree, [_shape(leaf, 2) for leaf in self.inputs]),
        )
        traced = Traced(self.function, jax.tree.unflatten(tree, one), rows, self.of_rows)
        params = [_many(shape) if flag else shape for shape, flag in zip(one, self.of_rows, strict=True)]
        many = jax.tree.unflatten(tree, params), *jax.tree.map(_many, rows)
        closed, (after, outs, *_) = jax.make_jaxpr(self.function, return_shape=True)(*many)
        self.check_rows(closed.jaxpr)
        n, m = len(jax.tree.leaves(after)), len(jax.tree.leaves(outs))
        self.params_in, self.carry_in, self.inputs_in = traced.params, traced.rows[:n], traced.rows[n:]
        self.results, self.outs_tree = traced.results[: n + m], jax.tree.structure(outs)
        self.carry_out, self.outs_out = self.results[:n], self.results[n:]
        for node, shape in zip(self.results, jax.tree.leaves((after, outs)), strict=True):
            if (ROWS, *node.shape) != shape.shape or node.dtype != shape.dtype:
                raise Unsupported(f"a result is {shape.shape} for {ROWS} rows, {node.shape} for one")
        for leaf, after in zip(self.carry_in, self.carry_out, strict=True):
            if (leaf.shape, leaf.dtype) != (after.shape, after.dtype):
                raise Unsupported(f"a carry of {leaf.shape} {leaf.dtype} becomes {after.shape} {after.dtype}")
        self.find_sums(traced)
        fuse_products(self.roots())
        self.terms = [term.of_bases() for term in self.terms]  # a sum of one product has become a view of it
        for node in reached(self.roots()):
            check(node)

    def check_rows(self, jaxpr: Any):
        """Raises if the function of many rows mixes them."""
        across = mixing(jaxpr)
        if across is not None:
            raise Unsupported(f"it looks across the rows of a batch, by `{across}`")

    def find_sums(self, traced: Traced):
        """Does nothing: a plain scan has no sums."""

    def roots(self) -> list[Node]:
        """Returns the nodes that the loop must compute or read."""
        factors = [node for term in self.terms for node in (term.x, term.d) if node is not None]
        return [*self.results, *(result for _, result in self.added), *factors]

    def find_outs(self):
        """Chooses what the loop writes: one result for each node."""
        self.written: dict[Node, int] = {}
        for place, result in enumerate(self.outs_out, len(self.carry_out)):
            node = base(result)
            if node in self.carry_in:
                place = self.carry_in.index(node)
                node = base(self.carry_out[place])
            if node not in self.inputs_in:
                self.written.setdefault(node, place)

    def shapes(self) -> list[jax.ShapeDtypeStruct]:
        """Returns the shapes of the last carry and of what is written."""
        shapes = [jax.ShapeDtypeStruct((self.B, *leaf.shape), leaf.dtype) for leaf in self.carry_in]
        for place in self.written.values():
            result = self.results[place]
            shapes.append(jax.ShapeDtypeStruct((self.T, self.B, *result.shape), result.dtype))
        return shapes

    def run(self) -> Any:
        """Returns the results of `scan`."""
        arguments, self.arguments_tree = jax.tree.flatten((self.params, self.carry, self.inputs))
        del self.params, self.carry, self.inputs  # this object outlives the trace to which they may belong
        return self.returned(arguments, in_two_forms(self.plain, self.native, self.shapes(), *arguments))

    def returned(self, arguments, results) -> Any:
        """Returns the last carry and the outs, from the arrays of `shapes`."""
        _, carry, inputs = jax.tree.unflatten(self.arguments_tree, arguments)
        first, n = jax.tree.leaves(carry), len(self.carry_in)
        arrays = dict(zip(self.written, results[n:], strict=False))
        outs = []
        for result in self.outs_out:
            node = base(result)
            if node in arrays:
                out = arrays[node]
            elif node in self.inputs_in:
                out = inputs[self.inputs_in.index(node)]
            else:
                place = self.carry_in.index(node)
                after = base(self.carry_out[place])
                is_input = after in self.inputs_in
                array = whole(inputs[self.inputs_in.index(after)]) if is_input else arrays[after]
                out = Before(first[place], array.reshape(self.T, *first[place].shape), self.reverse)
            outs.append(_reshaped(out, (self.T, self.B), result.shape))
        return jax.tree.unflatten(jax.tree.structure(carry), results[:n]), jax.tree.unflatten(self.outs_tree, outs)

    def plain(self, *arguments):
        """Returns the arrays of `shapes`, computed by JAX."""
        params, carry, inputs = jax.tree.unflatten(self.arguments_tree, arguments)

        wide, narrow = widened(params)

        def step(carry, inputs):
            after, outs = self.after_prepare(narrow(wide), carry, inputs)
            results = jax.tree.leaves((after, outs))
            return after, [results[place] for place in self.written.values()]

        inputs = self.prepare(params, jax.tree.unflatten(self.inputs_tree, whole(inputs)))
        if self.T == 1:  # one step of a stream: its derivatives need no loop either
            last, outs = step(carry, jax.tree.map(lambda leaf: leaf[0], inputs))
            return [*jax.tree.leaves(last), *(out[None] for out in outs)]
        last, outs = jax.lax.scan(step, carry, inputs, reverse=self.reverse)
        return [*jax.tree.leaves(last), *outs]

    def native(self, keep, *arguments):
        """Returns the arrays of `shapes`, computed by a program."""
        if not (self.T and self.B):
            return self.plain(*arguments)
        params, carry, inputs = jax.tree.unflatten(self.arguments_tree, arguments)
        needed = set(reached(self.roots()))
        given = [(leaf, array) for leaf, array in zip(self.inputs_in, inputs, strict=True) if leaf in needed]
        before = [(leaf, array) for leaf, array in given if _is_before(array)]
        streams = [(leaf, array) for leaf, array in given if not _is_before(array)]
        of_params = zip(self.params_in, jax.tree.leaves(params), self.of_rows, strict=True)
        fixed = [(leaf, array) for leaf, array, flag in of_params if flag and leaf in needed]
        loop = Loop(
            self.T,
            self.B,
            self.reverse,
            carry=[*zip(self.carry_in, map(base, self.carry_out), strict=True), *self.added],
            fixed=[leaf for leaf, _ in fixed],
            streams=[leaf for leaf, _ in streams],
            before=[leaf for leaf, _ in before],
            outs=list(self.written),
            sums=self.terms,
        )
        arrays = [*jax.tree.leaves(carry), *(jnp.zeros((self.B, *leaf.shape), leaf.dtype) for leaf, _ in self.added)]
        arrays += [array.first for _, array in before] + [array.after for _, array in before]
        arrays += [array for _, array in (*fixed, *streams)]
        memo = dict(zip(self.params_in, jax.tree.leaves(params), strict=True))
        return self.called(keep, loop, memo, arrays)

    def called(self, keep, loop, params, arrays):
        """Returns the arrays of `shapes`, computed by the program of `loop`."""
        text = _program.write(loop)
        program = _call.program(text.module)
        keep(program)
        memo = dict(params)
        first = [evaluate(node, memo) for node in text.params]
        shapes = [jax.ShapeDtypeStruct((self.B, *leaf.shape), leaf.dtype) for leaf, _ in loop.carry]
        shapes += [jax.ShapeDtypeStruct((self.T, self.B, *node.shape), node.dtype) for node in loop.outs]
        shapes += [jax.ShapeDtypeStruct(slabs, term.d.dtype) for slabs, term in zip(text.sums, self.terms, strict=True)]
        results = jax.ffi.ffi_call(_call.TARGET, shapes)(*first, *arrays, program=np.int64(program.number))
        n, m, k = len(self.carry_in), len(loop.carry), len(loop.carry) + len(loop.outs)
        outs = [
            array.reshape(self.T, self.B, *self.results[place].shape)
            for array, place in zip(results[m:k], self.written.values(), strict=True)
        ]
        return [*results[:n], *outs, *self.gradients(params, results[n:m], results[k:])]

    def gradients(self, params, added, slabs) -> list[jax.Array]:
        """Returns nothing: a plain scan has no gradients."""
        return []


def _reshaped(out, lead, shape):
    """Returns an array or a `Before` of all steps with `shape` as the shape per row and step."""
    if _is_before(out):
        return Before(out.first.reshape(*lead[1:], *shape), out.after.reshape(*lead, *shape), out.reverse)
    return out.reshape(*lead, *shape)
