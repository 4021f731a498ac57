"""The stock cells, one family a file; each opens with its equations, their backward, gate order and source."""

from jaxseq.cells._gru import GruParams as GruParams
from jaxseq.cells._gru import gru as gru
from jaxseq.cells._lstm import LstmCarry as LstmCarry
from jaxseq.cells._lstm import LstmParams as LstmParams
from jaxseq.cells._lstm import lstm as lstm
from jaxseq.cells._rnn import RnnParams as RnnParams
from jaxseq.cells._rnn import rnn as rnn

__all__ = ["GruParams", "LstmCarry", "LstmParams", "RnnParams", "gru", "lstm", "rnn"]
