"""Sequence to sequence: an encoder that reads the source, and a decoder that writes the target."""

from jaxseq.nn.decoders._decoders import Seq2SeqCarry as Seq2SeqCarry
from jaxseq.nn.decoders._seq2seq import Seq2Seq as Seq2Seq
