"""The block of xLSTM 7B (Beck et al. 2025): the mLSTM in the place of attention, followed by a gated MLP.

    [q | k | v | o] = x W_enter        [i | f] = x W_gates
    mix(x) = (σ(o) ⊙ norm(mlstm(q, k, v, c tanh(i / c), c tanh(f / c)))) W_out      norm: a layer norm within each head
    x ← x + mix(rms(x))
    x ← x + (silu(rms(x) W_1) ⊙ rms(x) W_2) W_3

The recurrence is `jaxseq.mlstm`, with its output gate after the norm. The cap c bounds i and f including their biases.
There is no convolution.

Params: `norm.scale`, `mlp_norm.scale` `[H]`; `enter [H, 2 heads K + 2W]`, `gates [H, 2 heads]`, `out_norm.scale [W]`,
`out [W, H]`; `cell.params`, of `MlstmParams` the fields `b_i`, `b_f` `[heads]`; `mlp.gate`, `mlp.up` `[H, F]` and
`mlp.down [F, H]`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.cells._mlstm import projected_mlstm
from jaxseq.nn._flax import linear
from jaxseq.nn.blocks._block import Block
from jaxseq.nn.blocks._sublayers import GatedMLP, HeadNorm, divides, over_time, rms_norm
from jaxseq.typing import Kernel


class XlstmBlock(Block):
    """The block of xLSTM 7B, a layer for sequences `[B, T, H]`; for use in `nn.Blocks`.

    Args:
      features: H, the features of inputs and outputs.
      heads: the number of heads of the mLSTM, a divisor of W.
      inner: W, the features of the values. None: H.
      key_size: K, the features of the keys and queries in a head. None: half those of its values, rounded up.
      hidden: F, the hidden features of the MLP. None: 8 H / 3, rounded up to a multiple of 64.
      cap: c, the bound of the pre-activations of the input and forget gates. None: no bound.
      epsilon, dropout, kernel, dtype, param_dtype, rngs: as for `nn.GriffinBlock`.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> carry, ys = nn.XlstmBlock(8, heads=2, rngs=nnx.Rngs(0)).unroll(jnp.ones([2, 5, 8]))
    >>> ys.shape, carry.conv, carry.cell.c.shape
    ((2, 5, 8), None, (2, 2, 2, 4))
    """

    def __init__(
        self,
        features: int,
        *,
        heads: int,
        inner: int | None = None,
        key_size: int | None = None,
        hidden: int | None = None,
        cap: float | None = 15.0,
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
        heads = divides("heads", heads, "inner", W)
        K = -(-W // heads // 2) if key_size is None else check.positive_int("key_size", key_size)
        F = 64 * -(-8 * H // 192) if hidden is None else check.positive_int("hidden", hidden)
        cap = None if cap is None else check.positive("cap", cap)
        read = 2 * heads * K + W
        self.norm, self.mlp_norm = rms_norm(H, epsilon, own), rms_norm(H, epsilon, own)
        self.out_norm = HeadNorm(nnx.LayerNorm, heads, W, epsilon, own)
        self.enter, self.out = linear(H, read + W, own, use_bias=False), linear(W, H, own, use_bias=False)
        self.gates = linear(H, 2 * heads, own, use_bias=False, kernel_init=jax.nn.initializers.zeros)
        self.cell = over_time(projected_mlstm(W, heads, K, cap), read + 2 * heads, own, kernel)
        self.mlp = GatedMLP(H, F, jax.nn.silu, own)

    def _mix(self, xs, conv, cell):
        hidden, gate = jnp.split(self.enter(xs), [self.enter.out_features - self.out.in_features], axis=-1)
        found = cell(jnp.concatenate([hidden, self.gates(xs)], axis=-1))
        return self.out(jax.nn.sigmoid(gate) * self.out_norm(found))
