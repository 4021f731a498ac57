"""Residual blocks of linear recurrent models, one per file, and a layer that stacks them."""

from jaxseq.nn.blocks._block import BlockCarry as BlockCarry
from jaxseq.nn.blocks._blocks import Blocks as Blocks
from jaxseq.nn.blocks._gated_delta_net import GatedDeltaNetBlock as GatedDeltaNetBlock
from jaxseq.nn.blocks._griffin import GriffinBlock as GriffinBlock
from jaxseq.nn.blocks._mamba import MambaBlock as MambaBlock
from jaxseq.nn.blocks._mamba2 import Mamba2Block as Mamba2Block
from jaxseq.nn.blocks._mlstm import MlstmBlock as MlstmBlock
from jaxseq.nn.blocks._slstm import SlstmBlock as SlstmBlock
from jaxseq.nn.blocks._xlstm import XlstmBlock as XlstmBlock
