"""The block of the gated DeltaNet (Yang, Kautz & Hatamizadeh 2024), as in Qwen3-Next, followed by a gated MLP.

    [q | k | v | z] = x W_enter        [b | a] = x W_gates
    [q | k | v] ← silu(conv([q | k | v]))
    mix(x) = (rms(delta(q, k, v, b, a)) ⊙ silu(z)) W_out          rms within each head, with a scale that heads share
    x ← x + mix(rms(x))
    x ← x + (silu(rms(x) W_1) ⊙ rms(x) W_2) W_3

The recurrence is `jaxseq.gated_delta_net`; neighbouring heads may share queries and keys. Unlike the published one, the
convolution has a bias, which starts at 0.

Params: `norm.scale`, `mlp_norm.scale` `[H]`; `enter [H, 2 key_heads K + 2W]`, `gates [H, 2 heads]`,
`out_norm.scale [V]`, `out [W, H]`; `conv.params` (`CausalConvParams`); `cell.params`, of `GatedDeltaNetParams` the
fields `a_log`, `b_a` `[heads]`; `mlp.gate`, `mlp.up` `[H, F]` and `mlp.down [F, H]`. W is heads · V.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.cells._gated_delta_net import projected_gated_delta_net
from jaxseq.cells._heads import by_head, flat
from jaxseq.nn._flax import linear
from jaxseq.nn.blocks._block import Block
from jaxseq.nn.blocks._sublayers import GatedMLP, convolution, divides, over_time, rms_norm
from jaxseq.typing import Kernel


class GatedDeltaNetBlock(Block):
    """The block of the gated DeltaNet, a layer for sequences `[B, T, H]`; for use in `nn.Blocks`.

    Args:
      features: H, the features of inputs and outputs.
      heads: the number of heads of values, decays and β.
      key_size: K, the features of the keys and queries in a head.
      value_size: V, the features of the values in a head. None: K.
      key_heads: the number of heads of keys and queries, which the `heads` share; a divisor of `heads`. None: `heads`.
      window: the width of the convolution, in steps.
      hidden: F, the hidden features of the MLP. None: 3 H.
      epsilon, dropout, kernel, dtype, param_dtype, rngs: as for `nn.GriffinBlock`.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> carry, ys = nn.GatedDeltaNetBlock(8, heads=2, key_size=3, rngs=nnx.Rngs(0)).unroll(jnp.ones([2, 5, 8]))
    >>> ys.shape, carry.conv.shape, carry.cell.shape
    ((2, 5, 8), (2, 3, 18), (2, 2, 3, 3))
    """

    def __init__(
        self,
        features: int,
        *,
        heads: int,
        key_size: int,
        value_size: int | None = None,
        key_heads: int | None = None,
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
        H, heads, K = self.size, check.positive_int("heads", heads), check.positive_int("key_size", key_size)
        V = K if value_size is None else check.positive_int("value_size", value_size)
        key_heads = heads if key_heads is None else divides("key_heads", key_heads, "heads", heads)
        F = 3 * H if hidden is None else check.positive_int("hidden", hidden)
        W, convolved = heads * V, 2 * key_heads * K + heads * V
        self.heads = heads
        self.norm, self.mlp_norm, self.out_norm = (rms_norm(size, epsilon, own) for size in (H, H, V))
        self.enter = linear(H, convolved + W, own, use_bias=False)
        self.gates, self.out = linear(H, 2 * heads, own, use_bias=False), linear(W, H, own, use_bias=False)
        self.conv = convolution(convolved, window, own)
        cell = projected_gated_delta_net(W, heads, key_heads, K)
        self.cell = over_time(cell, convolved + 2 * heads, own, kernel)
        self.mlp = GatedMLP(H, F, jax.nn.silu, own)

    def _mix(self, xs, conv, cell):
        hidden, gate = jnp.split(self.enter(xs), [self.enter.out_features - self.out.in_features], axis=-1)
        hidden = cell(jnp.concatenate([jax.nn.silu(conv(hidden)), self.gates(xs)], axis=-1))
        return self.out(flat(self.out_norm(by_head(hidden, self.heads))) * jax.nn.silu(gate))
