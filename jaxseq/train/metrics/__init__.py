"""Metrics as sums: a NamedTuple of what is added up over batches, made from a batch by a function of the same name.

`.value` gives the number, or a dict of numbers. As each is a pytree of sums, batches of any size weigh as they should
however they are put together:

    total = metrics.merge(total, metrics.accuracy(predicted, labels, mask=mask))      two batches are one
    jax.lax.psum(metrics.mean(loss, mask=mask), "devices")                            devices too
    jax.tree.map(jnp.zeros_like, total)                                               nothing yet: where a scan starts
    metrics.compute({"valid": {"accuracy": total}})                                   {"valid/accuracy": 0.93}

Counts are integers, exact up to 2³¹ - 1 steps (2⁶³ - 1 with `jax_enable_x64`), where a float32 count would stand still
at 2²⁴; a `Mean` that has run over gives NaN. Sums of numbers are float32 at least. Where nothing was counted a mean is
NaN, not zero; precision, recall and F1 are zero where undefined, as in scikit-learn and conlleval.

Arrays and their mask, bool, True = real, are of one shape, and what stands where it is False counts nowhere. All but
the error rates of strings and `compute` run under jit.
"""

from jaxseq.train.metrics._compute import Metric as Metric
from jaxseq.train.metrics._compute import compute as compute
from jaxseq.train.metrics._compute import merge as merge
from jaxseq.train.metrics._confusion import Confusion as Confusion
from jaxseq.train.metrics._confusion import confusion as confusion
from jaxseq.train.metrics._edits import Edits as Edits
from jaxseq.train.metrics._edits import character_error_rate as character_error_rate
from jaxseq.train.metrics._edits import edit_distance as edit_distance
from jaxseq.train.metrics._edits import edits as edits
from jaxseq.train.metrics._edits import word_error_rate as word_error_rate
from jaxseq.train.metrics._forecasts import Rmse as Rmse
from jaxseq.train.metrics._forecasts import coverage as coverage
from jaxseq.train.metrics._forecasts import mae as mae
from jaxseq.train.metrics._forecasts import mase as mase
from jaxseq.train.metrics._forecasts import naive_scale as naive_scale
from jaxseq.train.metrics._forecasts import rmse as rmse
from jaxseq.train.metrics._mean import Mean as Mean
from jaxseq.train.metrics._mean import Perplexity as Perplexity
from jaxseq.train.metrics._mean import accuracy as accuracy
from jaxseq.train.metrics._mean import mean as mean
from jaxseq.train.metrics._mean import perplexity as perplexity
from jaxseq.train.metrics._scores import Scores as Scores
from jaxseq.train.metrics._spans import Spans as Spans
from jaxseq.train.metrics._spans import spans as spans
