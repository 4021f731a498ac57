"""From a model's step to sequences: over any step function, and any carry.

A step is `(carry, token int32 [B]) -> (carry, logits [B, V])`, such as `nn.LanguageModel.step`; the carry is any pytree
of arrays `[B, ...]`. Sequences are time-major, `[T, B]`.

An eager call traces its step each time, and so reads the present params of a model, and compiles where what it computes
is new. A step that calls back to Python is compiled at each eager call.
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
