"""The backward of a cell around a cell, built from the backward of the inner cell. See `_around.py`.

The wrapper's functions are linear in floats, so JAX transposes them.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _cotangents, check
from jaxseq._carry_parts import parts_of
from jaxseq.typing import Augmented, Backward, Heard


@jax.tree_util.register_static
class _Frame(NamedTuple):
    """What the backward must know about a step's arguments besides their values: shapes of one row of `extra`."""

    leaves: tuple[Any, ...]
    tree: Any
    heard: bool


@dataclasses.dataclass(frozen=True, eq=False)
class OuterBackward:
    """Builds the functions of the outer cell's `Backward` from those of the inner cell."""

    outer: Any  # the `_Outer` of `around`
    inner: Backward

    def functions(self):
        return Backward(self.fwd, self.bwd, self.collect, None if self.inner.project is None else self.project)

    def fwd(self, params, carry, u):
        parts, u, stepwise, given, extra = self.outer.at_step(params, u)
        new, y, saved = check.by_fwd(self.inner.fwd(parts.inner, self.outer.enter(given, extra, carry), u))
        leaves, tree = jax.tree.flatten(jax.tree.map(_shape, extra))
        rows = [leaf.update(shape=leaf.shape[y.ndim - 1 :]) for leaf in leaves]
        frame = _Frame(tuple(rows), tree, isinstance(carry, Heard))
        after, y = self.outer.leave(given, extra, carry, new, y)
        return after, y, (saved, stepwise, frame)

    def bwd(self, params, saved, d_carry, d_y):
        outer, parts, (saved, stepwise, frame) = self.outer, self.outer.parts(params), saved
        given = parts.given if stepwise is None else stepwise
        leaves = [leaf.update(shape=(*d_y.shape[:-1], *leaf.shape)) for leaf in frame.leaves]
        extra, carry = jax.tree.unflatten(frame.tree, leaves), jax.tree.map(_shape, d_carry)

        d_extra = d_before = None
        if outer.own_leave is not None:
            shapes = extra, carry, carry, _shape(d_y).update(shape=(*d_y.shape[:-1], outer.cell.size))
            leave = lambda *step: outer.leave(given, *step)
            d_extra, d_before, d_carry, d_y = _cotangents.transpose("leave", leave, shapes, (d_carry, d_y))
        d_carry, d_u = check.by_bwd(self.inner.bwd(parts.inner, saved, d_carry, d_y), carry)
        if outer.own_enter is not None or outer.own_hear is not None or frame.heard:
            taken = Heard(carry, parts_of("Heard", carry)["h"]) if frame.heard else carry
            enter, name = lambda *step: outer.enter(given, *step), "hear" if outer.own_enter is None else "enter"
            d_entered, d_carry = _cotangents.transpose(name, enter, (extra, taken), d_carry)
            d_extra = _cotangents.add(d_extra, d_entered)
        if d_before is not None and frame.heard:
            d_carry = d_carry._replace(carry=_cotangents.add(d_carry.carry, d_before))
        elif d_before is not None:
            d_carry = _cotangents.add(d_carry, d_before)
        return d_carry, Augmented(d_u, (None, d_extra))

    def collect(self, params, saved, d_us):
        parts = self.outer.parts(params)
        return self.of_params(parts, self.inner.collect(parts.inner, saved[0], d_us.value))

    def project(self, params, xs, d_us):
        outer, project = self.outer, self.inner.project
        assert project is not None
        parts, x, stepwise, given = outer.split(params, xs)
        x_inner = outer.inputs(given, x)
        d_inner, d_x = check.by_project(project(parts.inner, x_inner, d_us.value), (parts.inner, x_inner))
        if outer.own_inputs is not None:
            (d_x,) = _cotangents.pull_back(lambda x: outer.inputs(given, x), (x,), d_x)
        d_params = self.of_params(parts, d_inner)
        if outer.own_extra is not None:
            d_own, d_read = _cotangents.pull_back(
                lambda own, x: outer.extra(given, own, x), (parts.own, x), d_us.extra[1]
            )
            d_params = _cotangents.add(d_params, d_own if parts.given is None else Augmented(d_own, None))
            d_x = _cotangents.add(d_x, d_read)
        return d_params, d_x if stepwise is None else Augmented(d_x, None)

    def of_params(self, parts, d_inner):
        """Returns the gradient of the params from the gradient of the inner cell's params."""
        d_own = d_inner
        if self.outer.own_init is not None:
            d_own = self.outer.with_inner(jax.tree.map(jnp.zeros_like, parts.own), d_inner)
        return d_own if parts.given is None else Augmented(d_own, None)


_shape = jax.typeof  # includes the mesh axes over which it varies
