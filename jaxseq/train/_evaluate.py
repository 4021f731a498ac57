"""A loss function's own metrics over a whole set of batches, without noise."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import jax

from jaxseq.data import prefetch
from jaxseq.train._batches import as_loader
from jaxseq.train._report import as_metrics, numbers
from jaxseq.train._step import LossFn, apply_loss
from jaxseq.train.metrics import merge
from jaxseq.typing import Params


def evaluator(loss_fn: LossFn, batches: Any, *, carry: Any = None) -> Callable[[Params], dict[str, float]]:
    """A function `params -> {"loss": ..., **aux}` over all `batches`, for `fit(validate=...)` and for a test part.

    Args:
      loss_fn: as in `make_step`; its key is None here, so that nothing is drawn. A loss or metric that counts what is
        real weighs batches of different size rightly; plain scalars are averaged over batches.
      batches: a loader of `jaxseq.data` (its epoch 0), or a sequence of batches.
      carry: what the first batch starts from, where `loss_fn` takes a carry; it goes from batch to batch.
    """
    loader = as_loader(batches)

    @jax.jit
    def add(sums, params, batch, carry):
        loss, aux, carry = apply_loss(loss_fn, params, batch, None, carry)
        more = {"loss": loss, **as_metrics(aux)}
        return (more if sums is None else merge(sums, more)), carry

    def run(params):
        sums, at = None, carry
        with closing(prefetch(loader.epoch(0))) as ready:
            for batch in ready:
                sums, at = add(sums, params, batch, at)
        return numbers(sums)

    return run
