"""The stock cells, one family a file; each opens with its equations, their backward, gate order and source."""

from jaxseq.cells._conv_lstm import ConvLstmParams as ConvLstmParams
from jaxseq.cells._conv_lstm import conv_lstm as conv_lstm
from jaxseq.cells._gru import GruParams as GruParams
from jaxseq.cells._gru import gru as gru
from jaxseq.cells._layer_norm_gru import LayerNormGruParams as LayerNormGruParams
from jaxseq.cells._layer_norm_gru import layer_norm_gru as layer_norm_gru
from jaxseq.cells._layer_norm_lstm import LayerNormLstmParams as LayerNormLstmParams
from jaxseq.cells._layer_norm_lstm import layer_norm_lstm as layer_norm_lstm
from jaxseq.cells._lstm import LstmCarry as LstmCarry
from jaxseq.cells._lstm import LstmParams as LstmParams
from jaxseq.cells._lstm import lstm as lstm
from jaxseq.cells._rnn import RnnParams as RnnParams
from jaxseq.cells._rnn import rnn as rnn
from jaxseq.cells._slstm import SlstmCarry as SlstmCarry
from jaxseq.cells._slstm import SlstmParams as SlstmParams
from jaxseq.cells._slstm import slstm as slstm
