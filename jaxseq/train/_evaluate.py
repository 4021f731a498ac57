"""A loss function's own metrics over a whole set of batches, without noise."""

from collections.abc import Callable
from typing import Any

import jax

from jaxseq import check
from jaxseq.train import _params
from jaxseq.train._batches import as_loader, remaining
from jaxseq.train._devices import put_batch, put_state
from jaxseq.train._loss import LossFn, apply_loss, check_arguments, check_loss
from jaxseq.train._processes import on_host
from jaxseq.train._report import evaluation_sums, numbers
from jaxseq.train.metrics import merge
from jaxseq.typing import Params


def evaluator(
    loss_fn: LossFn,
    batches: Any,
    *,
    carry: Any = None,
    ensemble: bool = False,
    partial: bool = False,
    sharding: jax.sharding.Sharding | None = None,
) -> Callable[[Params], dict[str, float]]:
    """A function `params -> {"loss": ..., **aux}` over all `batches`, for `fit(validate=...)` and for a test part.

    Args:
      loss_fn: as in `make_step`; its key is None here, so that nothing is drawn. A loss or metric that counts what is
        real weighs batches of different size rightly; plain scalars are averaged over batches.
      batches: a loader of `jaxseq.data` (its epoch 0), or a sequence of batches.
      carry: what the first batch starts from, where `loss_fn` takes a carry; it goes from batch to batch.
      ensemble: params, and the carry if any, lead with the members, and the numbers are over all of these. For what
        the members say together, give a loss of `train.average` instead, and leave this False.
      partial: whether a loader may leave examples out (its `dropped`), as `data.batches` does by default; the numbers
        are then of the others.
      sharding: where batches go, as in `fit`; None: each device goes through all of each batch.

    Raises:
      TypeError, ValueError: there are no batches, or the loader leaves examples out and `partial` is False; `loss_fn`
        takes a carry and none is given.
    """
    check_loss(loss_fn)
    loader = as_loader(batches)
    check.switch("ensemble", ensemble)
    check.switch("partial", partial)
    check.sharding(sharding)
    if (dropped := getattr(loader, "dropped", 0)) and not partial:
        raise ValueError(
            f"`batches` leaves out {dropped} examples, which would count nowhere. Give data.batches last='pad', and "
            "mask by batch['real'], or last='keep'; or partial=True for the numbers of the others."
        )
    check_arguments(loss_fn, carry)
    if carry is not None:
        _params.numbers("carry", carry)

    def measure(params, batch, carry):
        loss, aux, carry = apply_loss(loss_fn, params, batch, None, carry)
        return evaluation_sums(loss, aux), carry

    @jax.jit
    def add(sums, params, batch, carry):
        if ensemble:
            more, carry = jax.vmap(measure, in_axes=(0, None, 0))(params, batch, carry)
            more = jax.tree.map(lambda leaf: leaf.sum(0), more)
        else:
            more, carry = measure(params, batch, carry)
        return (more if sums is None else merge(sums, more)), carry

    def run(params):
        sums, at = None, put_state(carry, sharding)
        params = put_state(params, sharding)
        for batch in remaining(loader, 0, len(loader)):
            placed = put_batch(batch, sharding, getattr(loader, "parts", 1))
            sums, at = jax.block_until_ready(add(sums, params, placed, at))
        return numbers(on_host(sums))

    return run
