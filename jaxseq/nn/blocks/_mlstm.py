"""xLSTM's mLSTM block (Beck et al. 2024): the mLSTM between an up and a down projection.

    [u | z] = x W_enter
    s = silu(conv(u))
    q = s B_q        k = s B_k        v = u B_v                   B block-diagonal
    [i | f] = [q | k | v] W_gates
    mix(x) = ((norm(mlstm(q, k, v, i, f)) + w_skip ⊙ s) ⊙ silu(z)) W_out
    x ← x + mix(norm(x))

The recurrence is `jaxseq.mlstm` without its output gate, whose place z takes. norm is a layer norm without bias; inside
the mixer it is taken within each head.

Params: `norm.scale [H]`; `enter [H, 2W]`, `out [W, H]`, `query`, `key`, `value` of blocks `[W / block, block, block]`,
`gates [3W, 2 heads]`, `out_norm.scale`, `skip` `[W]`; `conv.params` (`CausalConvParams`); `cell.params`, of
`MlstmParams` the fields `b_i`, `b_f` `[heads]`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq._cast import cast
from jaxseq._promote import expand_rank
from jaxseq.cells._mlstm import projected_mlstm
from jaxseq.nn._flax import linear
from jaxseq.nn.blocks._block import Block
from jaxseq.nn.blocks._sublayers import HeadLinear, HeadNorm, convolution, divides, layer_norm, over_time
from jaxseq.typing import Kernel


class MlstmBlock(Block):
    """xLSTM's mLSTM block, a layer for sequences `[B, T, H]`; for use in `nn.Blocks`.

    Args:
      features: H, the features of inputs and outputs.
      heads: the number of heads of the mLSTM, a divisor of W.
      inner: W, the features of the mLSTM. None: 2 H.
      block: the features of a diagonal block of the projections to q, k and v, a divisor of W.
      window: the width of the convolution, in steps.
      epsilon, dropout, kernel, dtype, param_dtype, rngs: as for `nn.GriffinBlock`.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> carry, ys = nn.MlstmBlock(8, heads=2, rngs=nnx.Rngs(0)).unroll(jnp.ones([2, 5, 8]))
    >>> ys.shape, carry.conv.shape, carry.cell.c.shape
    ((2, 5, 8), (2, 3, 16), (2, 2, 8, 8))
    """

    def __init__(
        self,
        features: int,
        *,
        heads: int,
        inner: int | None = None,
        block: int = 4,
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
        heads, blocks = divides("heads", heads, "inner", W), W // divides("block", block, "inner", W)
        self.norm, self.out_norm = layer_norm(H, epsilon, own), HeadNorm(nnx.LayerNorm, heads, W, epsilon, own)
        self.enter, self.out = linear(H, 2 * W, own, use_bias=False), linear(W, H, own, use_bias=False)
        self.query, self.key, self.value = (HeadLinear(blocks, W, own) for _ in range(3))
        self.gates = linear(3 * W, 2 * heads, own, use_bias=False, kernel_init=jax.nn.initializers.zeros)
        self.skip = nnx.Param(jnp.ones(W, own.param_dtype))
        self.conv = convolution(W, window, own)
        self.cell = over_time(projected_mlstm(W, heads, W // heads, None), 3 * W + 2 * heads, own, kernel)

    def _mix(self, xs, conv, cell):
        hidden, gate = jnp.split(self.enter(xs), 2, axis=-1)
        convolved = jax.nn.silu(conv(hidden))
        qkv = jnp.concatenate([self.query(convolved), self.key(convolved), self.value(hidden)], axis=-1)
        found = self.out_norm(cell(jnp.concatenate([qkv, self.gates(qkv)], axis=-1)))
        skip = expand_rank(cast(self.skip[...], self.dtype), convolved)
        return self.out((found + skip * convolved) * jax.nn.silu(gate))
