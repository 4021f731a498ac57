"""Decoding: token sequences from any step function, with any carry.

A step is `(carry, token int32 [B]) -> (carry, logits [B, V])`, such as `nn.LanguageModel.step`. The carry is any pytree
of arrays `[B, ...]`. Sequences are time-major, `[T, B]`.

Each eager call traces its step, so that it uses the current params of a model. It compiles only what was not compiled
before. A step that calls back to Python is compiled at each eager call.
"""

from jaxseq._serialise import register as _register
from jaxseq.decoding._beam import beam_search as beam_search
from jaxseq.decoding._logits import draw as draw
from jaxseq.decoding._logits import filter_logits as filter_logits
from jaxseq.decoding._one_by_one import greedy as greedy
from jaxseq.decoding._one_by_one import sample as sample
from jaxseq.decoding._speculative import Read as Read
from jaxseq.decoding._speculative import Speculated as Speculated
from jaxseq.decoding._speculative import speculative as speculative
from jaxseq.decoding._step import Allowed as Allowed
from jaxseq.decoding._step import Decoded as Decoded
from jaxseq.decoding._step import Step as Step

_register(__name__)
