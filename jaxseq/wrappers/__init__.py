"""Wrappers that combine cells into nets, or change the behaviour of a cell.

Wrappers that work on whole sequences return a `Composite`: `stack`, `residual`, `bidirectional`, `backwards`, and
`dropout` of inputs and outputs. Wrappers that work on the carry return a `Cell`, with a backward if the inner cell has
one: `zoneout`, `learned_carry`, and recurrent `dropout`. `jaxseq.unroll` takes either, so wrappers nest to any depth.
It also runs the parts of a net, so kernels, masks, resets and keys reach every cell. Wrappers that add no params have
the params of the inner cell.
"""

from jaxseq.wrappers._backwards import backwards as backwards
from jaxseq.wrappers._bidirectional import Bidirectional as Bidirectional
from jaxseq.wrappers._bidirectional import bidirectional as bidirectional
from jaxseq.wrappers._dropout import dropout as dropout
from jaxseq.wrappers._learned_carry import LearnedCarry as LearnedCarry
from jaxseq.wrappers._learned_carry import learned_carry as learned_carry
from jaxseq.wrappers._pipeline import pipeline as pipeline
from jaxseq.wrappers._residual import residual as residual
from jaxseq.wrappers._stack import stack as stack
from jaxseq.wrappers._zoneout import zoneout as zoneout
