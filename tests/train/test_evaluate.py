"""An evaluation is of all examples, or says that it is not."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq import data, train
from jaxseq.train import metrics
from tests.untyped import untyped

ARRAYS = {"y": np.arange(100, dtype=np.float32)}


def loss_fn(params, batch, key):
    return metrics.mean(batch["y"] * params, mask=batch.get("real")), {}


@pytest.mark.parametrize("last", ["pad", "keep"])
def test_the_mean_is_over_all_examples(last):
    assert train.evaluator(loss_fn, data.batches(ARRAYS, 64, last=last))(jnp.ones(())) == {"loss": np.mean(range(100))}
    assert train.evaluator(loss_fn, data.batches(ARRAYS, 50))(jnp.ones(())) == {"loss": np.mean(range(100))}


def test_a_loader_that_leaves_examples_out_is_refused_unless_that_is_wanted():
    loader = data.batches(ARRAYS, 64)
    for each in (loader, loader.map(lambda batch: batch)):
        with pytest.raises(ValueError, match="`batches` leaves out 36 examples, which would not be evaluated"):
            train.evaluator(loss_fn, each)
        assert train.evaluator(loss_fn, each, partial=True)(jnp.ones(())) == {"loss": np.mean(range(64))}


@pytest.mark.parametrize("name", ["partial", "ensemble"])
def test_a_switch_is_a_bool(name):
    with pytest.raises(TypeError, match=f"`{name}` must be True or False; got 'no'"):
        train.evaluator(loss_fn, [ARRAYS], **untyped({name: "no"}))
