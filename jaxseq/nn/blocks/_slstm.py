"""xLSTM's sLSTM block (Beck et al. 2024), followed by a gated MLP.

    s = silu(conv(x))
    [i | f | g | o] = [s B_i | s B_f | x B_g | x B_o]             B block-diagonal, one block per head
    mix(x) = norm(slstm(i, f, g, o))                              norm within each head
    x ← x + mix(norm(x))
    x ← x + (gelu(norm(x) W_1) ⊙ norm(x) W_2) W_3

The recurrence is `jaxseq.slstm`; norm is a layer norm without bias.

Params: `norm.scale`, `mlp_norm.scale`, `out_norm.scale` `[H]`; `input`, `forget`, `candidate`, `output` of blocks
`[heads, H / heads, H / heads]`; `conv.params` (`CausalConvParams`); `cell.params`, of `SlstmParams` the fields
`w_h [heads, H / heads, 4H / heads]` and `b [4H]`; `mlp.gate`, `mlp.up` `[H, F]` and `mlp.down [F, H]`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.cells._slstm import projected_slstm
from jaxseq.nn.blocks._block import Block
from jaxseq.nn.blocks._sublayers import GatedMLP, HeadLinear, HeadNorm, convolution, divides, layer_norm, over_time
from jaxseq.typing import Kernel


class SlstmBlock(Block):
    """xLSTM's sLSTM block, a layer for sequences `[B, T, H]`; for use in `nn.Blocks`.

    Args:
      features: H, the features of inputs and outputs.
      heads: the number of heads, a divisor of H; recurrent weights connect only units of the same head.
      window: the width of the convolution, in steps.
      hidden: F, the hidden features of the MLP. None: 4 H / 3, rounded up.
      epsilon, dropout, kernel, dtype, param_dtype, rngs: as for `nn.GriffinBlock`.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> carry, ys = nn.SlstmBlock(8, heads=2, rngs=nnx.Rngs(0)).unroll(jnp.ones([2, 5, 8]))
    >>> ys.shape, carry.conv.shape, carry.cell.h.shape
    ((2, 5, 8), (2, 3, 8), (2, 8))
    """

    def __init__(
        self,
        features: int,
        *,
        heads: int,
        window: int = 4,
        hidden: int | None = None,
        epsilon: float = 1e-5,
        dropout: float = 0.0,
        kernel: Kernel | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        own = self._given(features, dropout, dtype, param_dtype, rngs)
        H = self.size
        heads = divides("heads", heads, "features", H)
        F = -(-4 * H // 3) if hidden is None else check.positive_int("hidden", hidden)
        self.norm, self.mlp_norm = layer_norm(H, epsilon, own), layer_norm(H, epsilon, own)
        self.out_norm = HeadNorm(nnx.LayerNorm, heads, H, epsilon, own)
        self.input, self.forget, self.candidate, self.output = (HeadLinear(heads, H, own) for _ in range(4))
        self.conv = convolution(H, window, own)
        self.cell = over_time(projected_slstm(H, heads), 4 * H, own, kernel)
        self.mlp = GatedMLP(H, F, jax.nn.gelu, own)

    def _mix(self, xs, conv, cell):
        convolved = jax.nn.silu(conv(xs))
        gates = [self.input(convolved), self.forget(convolved), self.candidate(xs), self.output(xs)]
        return self.out_norm(cell(jnp.concatenate(gates, axis=-1)))
