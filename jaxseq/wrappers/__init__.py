"""Nets put together from cells, and cells with something around them.

What works on whole sequences gives a `Composite`: `stack`, `residual`, `bidirectional`, `backwards`, `dropout` of
inputs and outputs. What works on the carry gives a `Cell`, with a backward where the cell has one: `zoneout`,
`learned_carry`, recurrent `dropout`. `jaxseq.unroll` takes either, so they nest to any depth; parts run through it in
turn, so that a kernel, masks, resets and keys reach every cell. Wrappers without params of their own keep the cell's.
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
