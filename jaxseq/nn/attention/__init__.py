"""Attention: from a decoder to a memory, and the Transformer with its positions, blocks and cache."""

from jaxseq.nn.attention._attention import Attended as Attended
from jaxseq.nn.attention._attention import Attention as Attention
from jaxseq.nn.attention._attention import Memory as Memory
from jaxseq.nn.attention._cache import TransformerCarry as TransformerCarry
from jaxseq.nn.attention._transformer import CrossMemory as CrossMemory
from jaxseq.nn.attention._transformer import Transformer as Transformer
