"""Mamba's block (Gu & Dao 2023): convolution and selective state-space model, multiplied by a gate.

    [u | z] = x W_enter
    mix(x) = (mamba(silu(conv(u))) ⊙ silu(z)) W_out
    x ← x + mix(rms(x))

The cell is `jaxseq.mamba` with W features and N state numbers per feature.

Params: `norm.scale [H]`; `enter [H, 2W]`, `out [W, H]`; `conv.params` (`CausalConvParams`), `cell.params`
(`MambaParams`).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.cells import mamba
from jaxseq.nn._flax import linear
from jaxseq.nn.blocks._block import Block
from jaxseq.nn.blocks._sublayers import convolution, over_time, rms_norm
from jaxseq.typing import Kernel


class MambaBlock(Block):
    """Mamba's block, a layer for sequences `[B, T, H]`; for use in `nn.Blocks`.

    Args:
      features: H, the features of inputs and outputs.
      inner: W, the features of the state-space model. None: 2 H.
      state: N, the state numbers of each of the W features.
      rank: R, the rank of the product that gives the step sizes. None: H / 16, rounded up.
      window: the width of the convolution, in steps.
      epsilon, dropout, kernel, dtype, param_dtype, rngs: as for `nn.GriffinBlock`.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> carry, ys = nn.MambaBlock(8, state=4, rngs=nnx.Rngs(0)).unroll(jnp.ones([2, 5, 8]))
    >>> ys.shape, carry.conv.shape, carry.cell.shape
    ((2, 5, 8), (2, 3, 16), (2, 16, 4))
    """

    def __init__(
        self,
        features: int,
        *,
        inner: int | None = None,
        state: int = 16,
        rank: int | None = None,
        window: int = 4,
        epsilon: float = 1e-5,
        dropout: float = 0.0,
        kernel: Kernel | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        own = self._given(features, dropout, dtype, param_dtype, rngs)
        H = self.size
        W = 2 * H if inner is None else check.positive_int("inner", inner)
        self.norm = rms_norm(H, epsilon, own)
        self.enter, self.out = linear(H, 2 * W, own, use_bias=False), linear(W, H, own, use_bias=False)
        self.conv = convolution(W, window, own)
        self.cell = over_time(mamba(W, state=state, rank=-(-H // 16) if rank is None else rank), W, own, kernel)

    def _mix(self, xs, conv, cell):
        hidden, gate = jnp.split(self.enter(xs), 2, axis=-1)
        return self.out(cell(jax.nn.silu(conv(hidden))) * jax.nn.silu(gate))
