"""From one sequence to another: an encoder, and a decoder that writes on from what it has read."""

from jaxseq.nn.decoders._decoders import Seq2SeqCarry as Seq2SeqCarry
from jaxseq.nn.decoders._seq2seq import Seq2Seq as Seq2Seq
