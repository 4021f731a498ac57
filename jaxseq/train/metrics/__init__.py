"""Metrics as sums that are added up over batches; the function of a metric makes it from one batch.

Each metric is a NamedTuple of sums. `.value` is its number, or a dict of numbers. Since sums are added up, batches of
different size have the right weight, in whatever order they are combined:

    total = metrics.merge(total, metrics.accuracy(predicted, labels, mask=mask))      two batches
    jax.lax.psum(metrics.mean(loss, mask=mask), "devices")                            several devices
    jax.tree.map(jnp.zeros_like, total)                                               the initial value of a scan
    metrics.compute({"valid": {"accuracy": total}})                                   {"valid/accuracy": 0.93}

Counts are integers, exact up to 2³¹ - 1 steps (2⁶³ - 1 with `jax_enable_x64`); a float32 count would stop at 2²⁴. A
`Mean` whose count has overflowed gives NaN. Sums of numbers are float32 at least. A mean over no steps is NaN, not
zero. Precision, recall and F1 are zero where undefined, as in scikit-learn and conlleval.

Arrays and their mask (bool, True where a step is real) have one shape. Padding never counts. All functions run under
jit, except `compute` and the error rates of strings.
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
