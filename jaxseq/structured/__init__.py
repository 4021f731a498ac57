"""Structure over time: hidden Markov models, conditional random fields and CTC, on one recurrence over a semiring."""

from jaxseq.structured import crf as crf
from jaxseq.structured import ctc as ctc
from jaxseq.structured import hmm as hmm
from jaxseq.structured import kalman as kalman
from jaxseq.structured import markov as markov
