"""Griffin's recurrent block (De et al. 2024): convolution and RG-LRU with a gate, followed by a gated MLP.

    mix(x) = (gelu(x W_gate) ⊙ rg_lru(conv(x W_enter))) W_out
    x ← x + mix(rms(x))
    x ← x + (gelu(rms(x) W_1) ⊙ rms(x) W_2) W_3

All products have biases. The cell is `jaxseq.rg_lru`. Published code leaves out √(1 - a²) at the first step of a
sequence, so the numbers equal those of RecurrentGemma from the carry after the first step on.

Params: `norm.scale`, `mlp_norm.scale` `[H]`; `gate`, `enter` `[H, W]` and `out [W, H]`; `conv.params`
(`CausalConvParams`), `cell.params` (`RgLruParams`); `mlp.gate`, `mlp.up` `[H, F]` and `mlp.down [F, H]`.
"""

import jax
from flax import nnx

from jaxseq import check
from jaxseq.cells import rg_lru
from jaxseq.nn._flax import linear
from jaxseq.nn.blocks._block import Block
from jaxseq.nn.blocks._sublayers import GatedMLP, convolution, divides, over_time, rms_norm
from jaxseq.typing import Kernel


class GriffinBlock(Block):
    """Griffin's recurrent block, a layer for sequences `[B, T, H]`; for use in `nn.Blocks`.

    Args:
      features: H, the features of inputs and outputs.
      inner: W, the features of the recurrence. None: H.
      heads: the number of heads of the RG-LRU's gates, a divisor of W.
      window: the width of the convolution, in steps.
      hidden: F, the hidden features of the MLP. None: 3 H.
      epsilon: the epsilon of the norms.
      dropout: the dropout rate after mixer and MLP; used only with a key.
      kernel: the kernel that runs the cell over time, see `jaxseq.kernels`. None: the default of `jaxseq.unroll`.
      dtype: the dtype of the computation; params and inputs are cast to it. None: that of the params.
      param_dtype: the dtype of the params. None: JAX's default float.
      rngs: random keys for the params.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> layer = nn.GriffinBlock(8, heads=2, rngs=nnx.Rngs(0))
    >>> carry, ys = layer.unroll(jnp.ones([2, 5, 8]))
    >>> ys.shape, carry.conv.shape, carry.cell.shape
    ((2, 5, 8), (2, 3, 8), (2, 8))
    """

    def __init__(
        self,
        features: int,
        *,
        inner: int | None = None,
        heads: int = 1,
        window: int = 4,
        hidden: int | None = None,
        epsilon: float = 1e-6,
        dropout: float = 0.0,
        kernel: Kernel | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        own = self._given(features, dropout, dtype, param_dtype, rngs)
        H = self.size
        W = H if inner is None else check.positive_int("inner", inner)
        F = 3 * H if hidden is None else check.positive_int("hidden", hidden)
        heads = divides("heads", heads, "inner", W)
        self.norm, self.mlp_norm = rms_norm(H, epsilon, own), rms_norm(H, epsilon, own)
        self.gate, self.enter, self.out = linear(H, W, own), linear(H, W, own), linear(W, H, own)
        self.conv = convolution(W, window, own)
        self.cell = over_time(rg_lru(W, heads=heads), W, own, kernel)
        self.mlp = GatedMLP(H, F, jax.nn.gelu, own, use_bias=True)

    def _mix(self, xs, conv, cell):
        return self.out(jax.nn.gelu(self.gate(xs)) * cell(conv(self.enter(xs))))
