"""The user's loss function: how it is called, and checks of what it returns."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq.train._elementwise import wide
from jaxseq.train.metrics import Mean
from jaxseq.train.metrics._compute import is_metric
from jaxseq.typing import Params

LossFn = Callable[..., tuple]
"""`(params, batch, key) -> (loss, aux)`, or with a carry `(params, batch, key, carry) -> (loss, aux, carry)`."""


def check_loss(loss_fn: LossFn) -> None:
    """Raises unless `loss_fn` takes the arguments of a loss function."""
    if not callable(loss_fn):
        raise TypeError(f"`loss_fn` must be (params, batch, key) -> (loss, aux); got {check.short(loss_fn)}")
    if not check.takes(loss_fn, 3) and not check.takes(loss_fn, 4):
        raise TypeError("`loss_fn` must take (params, batch, key), or with a carry (params, batch, key, carry)")


def check_arguments(loss_fn: LossFn, carry: Any) -> None:
    """Raises if `loss_fn` takes a carry and `carry` is None, or the reverse."""
    if carry is None and not check.takes(loss_fn, 3) and check.takes(loss_fn, 4):
        raise TypeError("`loss_fn` takes a carry; pass `carry=` to `train.init`, or to `train.evaluator`")
    if carry is not None and not check.takes(loss_fn, 4) and check.takes(loss_fn, 3):
        raise TypeError("`loss_fn` takes no carry; leave `carry` out, or make it the fourth argument of `loss_fn`")


def apply_loss(loss_fn: LossFn, params: Params, batch: Any, key: jax.Array | None, carry: Any) -> tuple[Mean, Any, Any]:
    """Calls `loss_fn`; returns its loss as a Mean, its aux and its carry after checking them."""
    check_arguments(loss_fn, carry)
    arguments, results = (4, "(loss, aux, carry)") if carry is not None else (3, "(loss, aux)")
    try:
        result = loss_fn(*(params, batch, key, carry)[:arguments])
    except Exception as error:  # whatever the user's function raises gets a note and is raised again
        if isinstance(error, KeyError) and isinstance(batch, Mapping) and error.args and error.args[0] not in batch:
            hint = " (data.batches makes it where `last` is pad)" if error.args[0] == "real" else ""
            there = check.short(", ".join(map(str, batch)))
            raise KeyError(f"`loss_fn` reads {error.args[0]} of the batch{hint}, which has {there}") from error
        and_carry = "" if carry is None else f" and a `carry` of {_shapes(carry)}"
        error.add_note(f"raised in `loss_fn`, which was given a `batch` of {_shapes(batch)}{and_carry}")
        raise
    if type(result) is not tuple or len(result) != arguments - 1:
        kind = f"a tuple of {len(result)}" if type(result) is tuple else type(result).__name__
        raise TypeError(f"`loss_fn` must return {results}; got {kind}. Without metrics, aux is {{}}.")
    loss, aux, *rest = result
    new_carry = rest[0] if rest else None
    _check_carry(new_carry, carry)
    if isinstance(loss, Mean):
        return loss, aux, new_carry
    if is_metric(loss):
        raise TypeError(f"the loss of `loss_fn` must be a floating scalar or a metrics.Mean; got {type(loss).__name__}")
    if jnp.shape(loss) != () or not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        raise TypeError(
            f"the loss of `loss_fn` must be a floating scalar or a metrics.Mean; got {jnp.result_type(loss)} "
            f"{jnp.shape(loss)}. Reduce it: losses.mean(values, mask)."
        )
    loss = jnp.asarray(loss)
    return Mean(loss.astype(wide(loss)), jnp.ones((), int)), aux, new_carry


def _check_carry(new, old):
    """Raises unless the carry keeps its shapes: others would recompile the step, and could not be stored."""
    if jax.tree.map(check.shaped, new) != jax.tree.map(check.shaped, old):
        raise ValueError(f"`loss_fn` must return a carry like the one it was given, {_shapes(old)}; got {_shapes(new)}")


def _shapes(tree):
    return check.brief(jax.tree.map(check.shaped, tree))
