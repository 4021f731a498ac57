"""A cell around a cell: what is done to the carry before a step and after it, and everything else follows.

    s       = enter(given, extra, carry)            what the inner step starts from
    h       = hear(given, extra, h of s)            what its recurrent weights see of it
    new, y  = step(params, s with h, u)             the inner cell's own step
    c', y'  = leave(given, extra, carry, new, y)    what is handed on, and what comes out

`given` are the flags or the noise of the step, without a gradient; `extra` is what the wrapper makes of params and
inputs, with one. The wrapper's functions are linear in floats, so JAX transposes them: the backward of the inner cell
becomes a backward of the outer one, and nothing is saved for it but what was given. Every optional fact of a `Cell` is
handed on here, and nowhere else.
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
    """Returns a cell around `cell`, with all that the library knows of it: its backward, noise, and every other fact.

    Each function may be left out. `given` is what `draw` drew, None where `unroll` was given no key; `u` is what
    `extra` returned, of one step. Functions take their arguments by position. They must be linear in floats, as
    `jnp.where`, sums, and products with constants are: the gradient is their transpose, taken by JAX. A cell is known
    by the identity of its functions, so make it once for the same options: put `jaxseq.factory` on your wrapper.

    Args:
      cell: the inner Cell.
      enter: `(given, u, carry) -> carry`: what the inner step starts from.
      leave: `(given, u, before, new, y) -> (carry, y)`: the carry handed on and the output, from the carry before the
        step and what the inner step returned; shapes and dtypes stay, but for `size`.
      hear: `(given, u, h) -> h`: what the recurrent weights see in place of the carry's `h`, which is still what is
        remembered; None: the `h` itself. The cell must know the two apart, see `hears` of `Cell`.
      inputs: `(given, xs) -> xs`: what the inner cell reads, pointwise in time.
      extra: `(given, params, xs) -> u`: a pytree of floats that lead with the steps and the batch of xs, of a whole
        sequence `[T, B, ...]` or of one step; its gradient flows on into params and xs.
      draw: `(key, params, xs) -> given`: bools or ints, drawn for a whole sequence xs `[T, B, D]`.
      given: where that travels. "xs": its leaves lead with the steps `[T, B, ...]`; "params": it is constant in time,
        `[B, ...]`. Default: "xs" where there is a `draw`. "xs" without one: xs are `Augmented(xs, given)` already.
      init: `(key, in_size, dtype=None) -> params`, a NamedTuple whose first field holds what `cell.init` returned and
        the others floats of the wrapper's own, which reach `enter` and `leave` by `extra`. None: `cell.init`.
      carry: `(params, batch_shape=()) -> carry`: the initial carry; None: the cell's.
      hears: the fact `hears` of the result; None: the cell's.
      size: the features of the y that `leave` returns; None: the cell's.
      element: `(given, params, element) -> element`: what `enter` and `leave` do to the carry, done to the steps of a
        linear cell, `[T, B, ...]` or one; `params` are the wrapper's. Without it the result is linear only where
        nothing is done to the carry and the output.
      read: `(given, read, observed) -> ys`: what `leave` does to the output of a linear cell, which is
        `read(observed)`; it may do something to what is observed first.

    Raises:
      TypeError, ValueError: `cell` is not a Cell, an argument is no function or does not take what it is called with.
        `unroll` raises them where a function returns other shapes, and its gradient where one is not linear.

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
        raise ValueError("`size` is that of the outputs which `leave` returns; there is no `leave`")
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
    """The params of the outer cell."""

    inner: Params
    own: Params  # all of them, the inner cell's too
    given: Any  # what is constant in time


@dataclasses.dataclass(frozen=True, eq=False)
class _Outer:
    """The functions of a cell around a cell, from those of `around`; us are `Augmented(inner us, (given, extra))`."""

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
        """Returns the parts of the params, the inner cell's xs, and what is given with the xs and in all."""
        parts, stepwise = self.parts(params), None
        if self.travels == "xs" and isinstance(xs, Augmented):
            xs, stepwise = xs
        return parts, xs, stepwise, parts.given if stepwise is None else stepwise

    def at_step(self, params, u):
        """Returns the parts of the params, the inner cell's u, what is given with the us and in all, and the extra."""
        parts, (u, (stepwise, extra)) = self.parts(params), u
        return parts, u, stepwise, parts.given if stepwise is None else stepwise, extra

    def inputs(self, given, xs):
        if self.own_inputs is None:
            return xs
        if isinstance(xs, Augmented):  # by the noise of a cell inside
            return xs._replace(value=self.inputs(given, xs.value))
        return self.own_inputs(given, xs)

    def extra(self, given, own, xs):
        if self.own_extra is None:
            return None
        if isinstance(xs, Augmented):
            return self.extra(given, own, xs.value)
        return check.extra(self.own_extra(given, own, xs), xs.shape[:-1])

    def enter(self, given, extra, carry):
        """What the inner step takes: the carry, or a `Heard`."""
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
        """The steps of a linear cell."""
        assert self.cell.linear is not None
        parts, us, _, given, _ = self.at_step(params, us)
        element = self.cell.linear.element(parts.inner, us)
        return element if self.own_element is None else self.own_element(given, parts.own, element)

    def read(self, params, observed, us):
        """Its outputs."""
        assert self.cell.linear is not None
        parts, us, _, given, _ = self.at_step(params, us)
        read = functools.partial(self.cell.linear.read, parts.inner)
        if self.own_read is None:
            return read(observed, us)
        return self.own_read(given, lambda observed: read(observed, us), observed)
