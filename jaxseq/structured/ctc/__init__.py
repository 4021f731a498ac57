"""Connectionist temporal classification, CTC (Graves et al. 2006): labels for frames without an alignment.

For each frame a model gives the probability of each label, and of the blank, which stands for no label. A path has one
symbol per frame. To read its labels, merge repeated symbols, then drop blanks. The probability of labels is the sum
over all paths that read as these labels.

>>> from jaxseq.structured import ctc
>>> log_probs = jnp.log(jnp.array([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.5, 0.1, 0.4], [0.1, 0.1, 0.8]]))
>>> print(f"{jnp.exp(-ctc.loss(log_probs, jnp.array([1, 2]))):.4f}")
0.6852
>>> ctc.align(log_probs, jnp.array([1, 2])).tokens.tolist()
[1, 1, 0, 2]
>>> ctc.greedy(log_probs).labels.tolist()
[1, 2, -1, -1]
>>> ctc.beam_search(log_probs, 4).labels[:, 0].tolist()
[1, 2, -1, -1]
"""

from jaxseq.structured.ctc._beam import beam_search as beam_search
from jaxseq.structured.ctc._greedy import Decoded as Decoded
from jaxseq.structured.ctc._greedy import collapse as collapse
from jaxseq.structured.ctc._greedy import greedy as greedy
from jaxseq.structured.ctc._loss import Alignment as Alignment
from jaxseq.structured.ctc._loss import align as align
from jaxseq.structured.ctc._loss import loss as loss
