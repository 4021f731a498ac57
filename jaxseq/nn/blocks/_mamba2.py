"""Mamba-2's block (Dao & Gu 2024): one convolution over values, keys and queries, and a gated norm.

    [z | u | dt] = x W_enter                      z [W], u [W + 2 G N], dt one number per head
    [v | b | c] = silu(conv(u))                   b and c [N] for each group
    mix(x) = rms_g(ssm(v, b, c, dt) ⊙ silu(z)) W_out
    x ← x + mix(rms(x))

The recurrence is `jaxseq.mamba2`, where each head uses b and c of its group. rms_g is taken within each group.

Params: `norm.scale [H]`; `enter [H, 2W + 2GN + heads]`, `out [W, H]`, `out_norm.scale [W]`; `conv.params`
(`CausalConvParams`); `cell.params`, of `Mamba2Params` the fields `b_dt`, `a_log`, `d` `[heads]`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.cells._mamba2 import projected_mamba2
from jaxseq.nn._flax import linear
from jaxseq.nn.blocks._block import Block
from jaxseq.nn.blocks._sublayers import HeadNorm, convolution, divides, over_time, rms_norm
from jaxseq.typing import Kernel


class Mamba2Block(Block):
    """Mamba-2's block, a layer for sequences `[B, T, H]`; for use in `nn.Blocks`.

    Args:
      features: H, the features of inputs and outputs.
      inner: W, the features of the values. None: 2 H.
      heads: the number of heads, a divisor of W; each has its own decay.
      state: N, the state numbers of each of the W features.
      groups: G, a divisor of `heads`; the heads of a group share b and c.
      window: the width of the convolution, in steps.
      epsilon, dropout, kernel, dtype, param_dtype, rngs: as for `nn.GriffinBlock`.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> carry, ys = nn.Mamba2Block(8, heads=4, state=6, rngs=nnx.Rngs(0)).unroll(jnp.ones([2, 5, 8]))
    >>> ys.shape, carry.conv.shape, carry.cell.shape
    ((2, 5, 8), (2, 3, 28), (2, 4, 6, 4))
    """

    def __init__(
        self,
        features: int,
        *,
        heads: int,
        inner: int | None = None,
        state: int = 128,
        groups: int = 1,
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
        heads = divides("heads", heads, "inner", W)
        groups, N = divides("groups", groups, "heads", heads), check.positive_int("state", state)
        convolved = W + 2 * groups * N
        self.places = (W, W + convolved)
        self.norm, self.out_norm = rms_norm(H, epsilon, own), HeadNorm(nnx.RMSNorm, groups, W, epsilon, own)
        self.enter = linear(H, W + convolved + heads, own, use_bias=False)
        self.out = linear(W, H, own, use_bias=False)
        self.conv = convolution(convolved, window, own)
        self.cell = over_time(projected_mamba2(W, heads, N, groups), convolved + heads, own, kernel)

    def _mix(self, xs, conv, cell):
        gate, hidden, dt = jnp.split(self.enter(xs), self.places, axis=-1)
        hidden = cell(jnp.concatenate([jax.nn.silu(conv(hidden)), dt], axis=-1))
        return self.out(self.out_norm(hidden * jax.nn.silu(gate)))
