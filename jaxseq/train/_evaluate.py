"""Evaluation: the loss and metrics of a loss function over a whole set of batches, without dropout or other noise."""

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
    """Returns a function `params -> {"loss": ..., **aux}` over all batches, for `fit(validate=...)` or a test set.

    Args:
      loss_fn: as in `make_step`. Its key is None here, so it draws no noise. Return the loss as a `metrics.Mean`, and
        metrics that count real steps, to weigh batches of different size correctly; plain scalars are averaged over
        batches.
      batches: a loader of `jaxseq.data`, of which epoch 0 is used, or a sequence of batches.
      carry: the carry for the first batch, if `loss_fn` takes one; it is handed on from batch to batch.
      ensemble: True if params, and the carry if any, have a leading axis of ensemble members; the numbers are then over
        all members. To evaluate the members' joint prediction instead, pass a loss of `train.average`, and leave this
        False.
      partial: whether the loader may leave examples out (`dropped`), as `data.batches` does by default. The numbers are
        then those of the other examples.
      sharding: the sharding of the batches, as in `fit`. None: batches are not split, and each device that holds the
        params evaluates all of each batch.

    Raises:
      TypeError, ValueError: there are no batches; the loader leaves examples out and `partial` is False; `loss_fn`
        takes a carry, and `carry` is None.
    """
    check_loss(loss_fn)
    loader = as_loader(batches)
    check.switch("ensemble", ensemble)
    check.switch("partial", partial)
    check.sharding(sharding)
    if (dropped := getattr(loader, "dropped", 0)) and not partial:
        raise ValueError(
            f"`batches` leaves out {dropped} examples, which would not be evaluated. Use data.batches(last='pad') and "
            "mask by batch['real'], or last='keep'; or pass partial=True to evaluate the other examples only."
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
