"""A cell around a cell: a wrapper changes the carry before and after each step of an inner cell.

    s       = enter(given, extra, carry)            the carry that the inner step starts from
    h       = hear(given, extra, h of s)            the h that its recurrent weights see
    new, y  = step(params, s with h, u)             the inner cell's own step
    c', y'  = leave(given, extra, carry, new, y)    the next carry and the output

`given` are the flags or the noise of the step; they have no gradient. `extra` is what the wrapper computes from params
and inputs; it has a gradient. The wrapper's functions are linear in floats, so JAX transposes them. The backward of
the inner cell thus becomes a backward of the outer cell, which saves only `given` in addition. This is the only place
that passes on the optional fields of a `Cell`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxseq import check
from jaxseq._around_backward import OuterBackward
from jaxseq._carry_parts import parts_of, replace_parts
from jaxseq.typing import Augmented, Carry, Cell, Element, Heard, Inputs, Linear, Params


def around(
    cell: Cell,
    *,
    enter: Callable[[Any, Any, Carry], Carry] | None = None,
    leave: Callable[[Any, Any, Carry, Carry, jax.Array], tuple[Carry, jax.Array]] | None = None,
    hear: Callable[[Any, Any, jax.Array], jax.Array | None] | None = None,
    inputs: Callable[[Any, Inputs], Inputs] | None = None,
    extra: Callable[[Any, Params, Inputs], Any] | None = None,
    draw: Callable[[jax.Array, Params, Inputs], Any] | None = None,
    given: str | None = None,
    init: Callable[..., Params] | None = None,
    carry: Callable[..., Carry] | None = None,
    hears: bool | None = None,
    size: int | None = None,
    element: Callable[[Any, Params, Element], Element] | None = None,
    read: Callable[[Any, Callable[[Any], jax.Array], Any], jax.Array] | None = None,
) -> Cell:
    """Returns a cell that wraps `cell` and keeps its optional fields: backward, noise, `hears` and `linear`.

    Every function is optional and is called with positional arguments. `given` is what `draw` returned, or None if
    `unroll` got no key. `u` is what `extra` returned, at one step. The functions must be linear in floats, as
    `jnp.where`, sums, and products with constants are, because their gradient is their transpose, taken by JAX.
    A cell is identified by its functions, so make it once per set of options: put `jaxseq.factory` on your wrapper.

    Args:
      cell: the inner Cell.
      enter: `(given, u, carry) -> carry`: the carry that the inner step starts from.
      leave: `(given, u, before, new, y) -> (carry, y)`: the next carry and the output. `before` is the carry before
        the step; `new` and `y` are the results of the inner step. Shapes and dtypes stay the same, except for `size`.
      hear: `(given, u, h) -> h`: what the recurrent weights see in place of the carry's `h`. The carry still keeps its
        own `h`. If it returns None, they see `h` itself. The cell must support this: see `hears` of `Cell`.
      inputs: `(given, xs) -> xs`: the inputs of the inner cell, pointwise in time.
      extra: `(given, params, xs) -> u`: a pytree of floats whose leading axes are the time and batch axes of xs. It is
        called with a whole sequence `[T, B, ...]` or one step. Its gradient flows into params and xs.
      draw: `(key, params, xs) -> given`: bools or ints, drawn once for a whole sequence xs `[T, B, D]`.
      given: how `given` is passed. "xs": per step, with leaves `[T, B, ...]`. "params": constant in time, with leaves
        `[B, ...]`. Default: "xs" if there is a `draw`. With "xs" and no `draw`, xs must be `Augmented(xs, given)`.
      init: `(key, in_size, dtype=None) -> params`, a NamedTuple. Its first field holds what `cell.init` returned. Its
        other fields are the wrapper's own floats, which reach `enter` and `leave` through `extra`. None: `cell.init`.
      carry: `(params, batch_shape=()) -> carry`: the initial carry. None: that of the cell.
      hears: the field `hears` of the result. None: that of the cell.
      size: the number of features of the y that `leave` returns. None: that of the cell.
      element: `(given, params, element) -> element`: applies what `enter` and `leave` do to the carry to the steps of
        a linear cell, either `[T, B, ...]` or one step. `params` are the wrapper's. Without it, the result is linear
        only if there is no `enter` and no `leave`.
      read: `(given, read, observed) -> ys`: what `leave` does to the output of a linear cell. That output is
        `read(observed)`; the function may change `observed` first.

    Raises:
      TypeError, ValueError: `cell` is not a Cell, or an argument is not a function or cannot take its arguments.
        `unroll` raises them if a function returns other shapes; its gradient raises them if one is not linear.

    >>> def halved(cell):  # at every step half of the carry is forgotten
    ...     return around(cell, enter=lambda given, u, carry: jax.tree.map(lambda leaf: leaf / 2, carry))
    >>> cell = halved(jaxseq.lstm(4))
    >>> jaxseq.check_bptt(cell, cell.init(jax.random.key(0), 3), jnp.ones([5, 2, 3]))
    """
    check.inside("around", cell)
    check.backward_signatures(cell)
    check.functions_taking(enter=(enter, 3), leave=(leave, 5), hear=(hear, 3), inputs=(inputs, 2), extra=(extra, 3))
    check.functions_taking(draw=(draw, 3), init=(init, 3), carry=(carry, 2), element=(element, 3), read=(read, 3))
    check.one_of("given", given, (None, "xs", "params"))
    check.one_of("hears", hears, (None, True, False))
    if size is not None and leave is None:
        raise ValueError("`size` is the size of the outputs that `leave` returns, and there is no `leave`")
    size = cell.size if size is None else check.positive_int("size", size)
    given = "xs" if given is None and draw is not None else given
    noted = check.noting(enter=enter, leave=leave, hear=hear, inputs=inputs, extra=extra)
    enter, leave, hear, inputs, extra = noted
    outer = _Outer(cell, enter, leave, hear, inputs, extra, draw, given, init, carry, size, element, read)
    stays_linear = element is not None or (enter is None and leave is None)
    draws = draw is not None or (cell.noise is not None and given is None)
    return Cell(
        size,
        cell.init if init is None else outer.init,
        outer.carry,
        outer.project,
        outer.step,
        backward=None if cell.backward is None else OuterBackward(outer, cell.backward).functions(),
        noise=outer.noise if draws else None,
        hears=cell.hears if hears is None else hears,
        linear=Linear(outer.element, outer.read) if cell.linear is not None and stays_linear else None,
    )


class _Parts(NamedTuple):
    """The params of the outer cell, in parts."""

    inner: Params
    own: Params  # all params, including those of the inner cell
    given: Any  # the part of `given` that is constant in time


@dataclasses.dataclass(frozen=True, eq=False)
class _Outer:
    """The functions of the outer cell, built from those of `around`. Its us are `Augmented(us, (given, extra))`."""

    cell: Cell
    own_enter: Callable | None
    own_leave: Callable | None
    own_hear: Callable | None
    own_inputs: Callable | None
    own_extra: Callable | None
    own_draw: Callable | None
    travels: str | None
    own_init: Callable | None
    own_carry: Callable | None
    size: int
    own_element: Callable | None
    own_read: Callable | None

    def init(self, key, in_size, dtype=None):
        assert self.own_init is not None
        return check.own_params(self.own_init(key, in_size, dtype), self.cell, in_size)

    def parts(self, params):
        given = None
        if self.travels == "params" and isinstance(params, Augmented):
            params, given = params
        return _Parts(params if self.own_init is None else params[0], params, given)

    def with_inner(self, params, inner):
        return inner if self.own_init is None else params._replace(**{params._fields[0]: inner})

    def split(self, params, xs):
        """Returns the parts of the params, the inner cell's xs, the `given` of the xs, and the `given` to use."""
        parts, stepwise = self.parts(params), None
        if self.travels == "xs" and isinstance(xs, Augmented):
            xs, stepwise = xs
        return parts, xs, stepwise, parts.given if stepwise is None else stepwise

    def at_step(self, params, u):
        """Returns the parts of the params, the inner cell's u, the `given` of u, the `given` to use, and the extra."""
        parts, (u, (stepwise, extra)) = self.parts(params), u
        return parts, u, stepwise, parts.given if stepwise is None else stepwise, extra

    def inputs(self, given, xs):
        if self.own_inputs is None:
            return xs
        if isinstance(xs, Augmented):  # by the noise of the inner cell
            return xs._replace(value=self.inputs(given, xs.value))
        return self.own_inputs(given, xs)

    def extra(self, given, own, xs):
        if self.own_extra is None:
            return None
        if isinstance(xs, Augmented):
            return self.extra(given, own, xs.value)
        return check.extra(self.own_extra(given, own, xs), xs.shape[:-1])

    def enter(self, given, extra, carry):
        """Returns what the inner step takes: the carry, or a `Heard`."""
        carry, h = carry if isinstance(carry, Heard) else (carry, None)
        if self.own_enter is not None:
            carry = check.like_step("enter", self.own_enter(given, extra, carry), carry)
        if self.own_hear is not None:
            own = parts_of("hear", carry)["h"] if h is None else h
            heard = self.own_hear(given, extra, own)
            h = h if heard is None else check.like_step("hear", heard, own)
        if h is None:
            return carry
        return Heard(carry, h) if self.cell.hears else replace_parts(carry, {"h": h})

    def leave(self, given, extra, before, new, y):
        if self.own_leave is None:
            return new, y
        before = before.carry if isinstance(before, Heard) else before
        expected = new, jax.ShapeDtypeStruct((*y.shape[:-1], self.size), y.dtype)
        return check.like_step("leave", self.own_leave(given, extra, before, new, y), expected)

    def carry(self, params, batch_shape=()):
        parts = self.parts(params)
        if self.own_carry is not None:
            return self.own_carry(parts.own, batch_shape)
        return self.cell.carry(parts.inner, batch_shape)

    def noise(self, key, params, xs):
        inner, given = self.parts(params).inner, None
        if self.own_draw is not None:
            own_key, key = jax.random.split(key)
            given = check.drawn(self.own_draw(own_key, params, xs), xs.shape[:-1], self.travels)
        if self.cell.noise is not None:
            inner, xs = self.cell.noise(key, inner, xs)
        params = self.with_inner(params, inner)
        if given is None:
            return params, xs
        return (Augmented(params, given), xs) if self.travels == "params" else (params, Augmented(xs, given))

    def project(self, params, xs):
        parts, xs, stepwise, given = self.split(params, xs)
        us = self.cell.project(parts.inner, self.inputs(given, xs))
        return Augmented(us, (stepwise, self.extra(given, parts.own, xs)))

    def step(self, params, carry, u):
        parts, u, _, given, extra = self.at_step(params, u)
        new, y = self.cell.step(parts.inner, self.enter(given, extra, carry), u)
        return self.leave(given, extra, carry, new, y)

    def element(self, params, us):
        """Returns the steps of a linear cell."""
        assert self.cell.linear is not None
        parts, us, _, given, _ = self.at_step(params, us)
        element = self.cell.linear.element(parts.inner, us)
        return element if self.own_element is None else self.own_element(given, parts.own, element)

    def read(self, params, observed, us):
        """Returns the outputs of a linear cell."""
        assert self.cell.linear is not None
        parts, us, _, given, _ = self.at_step(params, us)
        read = functools.partial(self.cell.linear.read, parts.inner)
        if self.own_read is None:
            return read(observed, us)
        return self.own_read(given, lambda observed: read(observed, us), observed)
