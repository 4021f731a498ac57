"""The loss function, which is the user's: how it is called, and what it has to return."""

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
    """Raises unless `loss_fn` may be called as one."""
    if not callable(loss_fn):
        raise TypeError(f"`loss_fn` must be (params, batch, key) -> (loss, aux); got {check.short(loss_fn)}")
    if not check.takes(loss_fn, 3) and not check.takes(loss_fn, 4):
        raise TypeError("`loss_fn` must take (params, batch, key), or with a carry (params, batch, key, carry)")


def check_arguments(loss_fn: LossFn, carry: Any) -> None:
    """Raises where `loss_fn` takes a carry and there is none, or the other way round."""
    if carry is None and not check.takes(loss_fn, 3) and check.takes(loss_fn, 4):
        raise TypeError("`loss_fn` takes a carry; give `train.init`, or `train.evaluator`, one: carry=...")
    if carry is not None and not check.takes(loss_fn, 4) and check.takes(loss_fn, 3):
        raise TypeError("`loss_fn` takes no carry; leave `carry` out, or take it as the fourth argument")


def apply_loss(loss_fn: LossFn, params: Params, batch: Any, key: jax.Array | None, carry: Any) -> tuple[Mean, Any, Any]:
    """Calls `loss_fn` and returns its loss as a Mean, its aux and its carry; raises where they are no such things."""
    check_arguments(loss_fn, carry)
    arguments, results = (4, "(loss, aux, carry)") if carry is not None else (3, "(loss, aux)")
    try:
        result = loss_fn(*(params, batch, key, carry)[:arguments])
    except Exception as error:  # a user's function, whatever it raises: it is told where, and raised on
        if isinstance(error, KeyError) and isinstance(batch, Mapping) and error.args and error.args[0] not in batch:
            hint = " (data.batches makes it where `last` is pad)" if error.args[0] == "real" else ""
            there = check.short(", ".join(map(str, batch)))
            raise KeyError(f"`loss_fn` reads {error.args[0]} of the batch{hint}, which has {there}") from error
        and_carry = "" if carry is None else f" and a `carry` of {_shapes(carry)}"
        error.add_note(f"raised in `loss_fn`, which was given a `batch` of {_shapes(batch)}{and_carry}")
        raise
    if type(result) is not tuple or len(result) != arguments - 1:
        kind = f"a tuple of {len(result)}" if type(result) is tuple else type(result).__name__
        raise TypeError(f"`loss_fn` must return {results}; got {kind}. An aux of nothing is {{}}.")
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
    """A carry of another shape would compile a program a step, and could not be stored."""
    if jax.tree.map(check.shaped, new) != jax.tree.map(check.shaped, old):
        raise ValueError(f"`loss_fn` must return a carry like the one it was given, {_shapes(old)}; got {_shapes(new)}")


def _shapes(tree):
    return check.brief(jax.tree.map(check.shaped, tree))
