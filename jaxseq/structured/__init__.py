"""Structured models over time: hidden Markov models, CRFs, CTC, Markov chains and Kalman filters.

All but the Kalman filters run on one recurrence over a semiring.
"""

from jaxseq._serialise import register as _register
from jaxseq.structured import crf as crf
from jaxseq.structured import ctc as ctc
from jaxseq.structured import hmm as hmm
from jaxseq.structured import kalman as kalman
from jaxseq.structured import markov as markov

_register(__name__, *(f"{__name__}.{name}" for name in ("crf", "ctc", "hmm", "kalman", "markov", "semiring")))
