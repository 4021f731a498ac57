"""How noise reaches a cell: drawn before the loop, handed on beside the params or the xs, as bools without gradient."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.typing import Carry, Cell, Heard, Inputs, Params, Shape


class Noisy(NamedTuple):
    """Params or xs of a cell, and beside them the noise that its outermost wrapper drew."""

    value: Params | Inputs
    noise: Any


def apart(tree: Any) -> Noisy:
    """Returns params or xs, and the noise beside them or None. Only for a wrapper that puts its noise there."""
    return tree if isinstance(tree, Noisy) else Noisy(tree, None)


def alone(tree: Any) -> Noisy:
    """Returns params or xs as they are: what stands beside them is for a cell further inside."""
    return Noisy(tree, None)


def beside(value: Any, noise: Any, drawn: Any) -> Any:
    """Returns `value` with `noise` beside it where noise was `drawn`, otherwise `value` alone."""
    return value if drawn is None else Noisy(value, noise)


def draw_inner(cell: Cell, key: jax.Array, params: Params, xs: Inputs) -> tuple[Params, Inputs]:
    """Returns params and xs with the noise of the cell inside."""
    return (params, xs) if cell.noise is None else cell.noise(key, params, xs)


def leading(xs: Inputs) -> Shape:
    """Returns the steps and the batch axes of xs `[T, B, D]` with any noise beside them."""
    return jax.tree.leaves(xs)[0].shape[:-1]


def drop(keep: jax.Array, rate: float, x: jax.Array) -> jax.Array:
    """Returns x / (1 - rate) where kept, zero elsewhere; NaN that is dropped is gone. It is its own transpose."""
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))


def named_leaves(wrapper: str, carry: Carry) -> dict[str, jax.Array]:
    """Returns the leaves of a carry by their names: the fields of a NamedTuple or a dict; an array alone is `h`."""
    if isinstance(carry, dict):
        return carry
    if hasattr(carry, "_asdict"):
        return carry._asdict()
    if hasattr(carry, "shape"):
        return {"h": carry}
    raise ValueError(
        f"`{wrapper}` acts on parts of the carry by name: it must be an array, which is `h`, a NamedTuple or a dict; "
        f"got a {type(carry).__name__}"
    )


def replace_leaves(carry: Carry, leaves: dict[str, jax.Array]) -> Carry:
    """Returns the carry with some leaves replaced."""
    if isinstance(carry, dict):
        return {**carry, **leaves}
    return carry._replace(**leaves) if hasattr(carry, "_replace") else leaves.get("h", carry)


def remembered(carry: Carry | Heard) -> Carry:
    """Returns the carry without what is heard in place of its h."""
    return carry.carry if isinstance(carry, Heard) else carry


def show(cell: Cell, carry: Carry | Heard) -> Carry | Heard:
    """Returns the carry as `cell` takes it: one that does not hear finds what is heard in the place of h."""
    if not isinstance(carry, Heard) or cell.hears:
        return carry
    return replace_leaves(carry.carry, {"h": carry.h})


def show_back(cell: Cell, d_carry: Carry | Heard, was_heard: bool) -> Carry | Heard:
    """Returns the cotangent of what `show` was given."""
    if not was_heard or cell.hears:
        return d_carry
    d_h = named_leaves("Heard", d_carry)["h"]
    return Heard(replace_leaves(d_carry, {"h": jnp.zeros_like(d_h)}), d_h)


def mark(carry: Carry | Heard) -> tuple | None:
    """Returns what tells `bwd` whether the carry was a `Heard`: a difference in structure, which a loop can save."""
    return () if isinstance(carry, Heard) else None
