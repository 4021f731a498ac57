"""Griffin's recurrent block (De et al. 2024): a gated branch around convolution and RG-LRU, then a gated MLP.

    mix(x) = (gelu(x W_gate) ⊙ rg_lru(conv(x W_enter))) W_out
    x ← x + mix(rms(x))
    x ← x + (gelu(rms(x) W_1) ⊙ rms(x) W_2) W_3

All products have biases. The cell is `jaxseq.rg_lru`; published code leaves √(1 - a²) out at a sequence's first step,
so from the carry after that step on the numbers are those of RecurrentGemma.

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
    """Griffin's recurrent block, a layer that reads sequences `[B, T, H]`; goes into `nn.Blocks`.

    Args:
      features: H, of inputs and outputs.
      inner: W, of the recurrence; None: H.
      heads: of the gates of the RG-LRU, a divisor of W.
      window: of the convolution, in steps.
      hidden: F, inside the MLP; None: 3 H.
      epsilon: of the norms.
      dropout: the rate of dropout after mixer and MLP, drawn where a key is given.
      kernel: how to run the cell over time, see `jaxseq.kernels`; None: the default of `jaxseq.unroll`.
      dtype: the dtype of the computation, to which params and inputs are cast; None: that of the params.
      param_dtype: the dtype of the params; None: JAX's default float.
      rngs: draws the params.

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
