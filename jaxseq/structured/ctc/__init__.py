"""Connectionist temporal classification (Graves et al. 2006): labels for frames that nobody has aligned with them.

A model says at every frame which label is heard there, or the blank, that none is. A path, one of these a frame, stands
for the labels that remain when repeats are made one and blanks are then dropped; what counts is the sum over all paths
that stand for the same labels.

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
