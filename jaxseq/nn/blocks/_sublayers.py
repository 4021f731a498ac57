"""Sublayers of the blocks that Flax does not have: a gated MLP, and norms and products within heads."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq._cast import cast
from jaxseq._promote import expand_rank
from jaxseq.cells import causal_conv
from jaxseq.cells._heads import by_head, flat
from jaxseq.nn._flax import Given, linear
from jaxseq.nn.recurrent import Recurrent
from jaxseq.typing import Cell, Kernel


class GatedMLP(nnx.Module):
    """(activation(x W_gate) ⊙ x W_up) W_down (Shazeer 2020)."""

    def __init__(self, features: int, hidden: int, activation: Callable, given: Given, *, use_bias: bool = False):
        self.activation = activation
        self.gate = linear(features, hidden, given, use_bias=use_bias)
        self.up = linear(features, hidden, given, use_bias=use_bias)
        self.down = linear(hidden, features, given, use_bias=use_bias)

    def __call__(self, xs: jax.Array) -> jax.Array:
        return self.down(self.activation(self.gate(xs)) * self.up(xs))


class HeadNorm(nnx.Module):
    """A norm within each head, `nnx.RMSNorm` or `nnx.LayerNorm`, with a scale for every feature."""

    def __init__(self, norm: type, heads: int, features: int, epsilon: float, given: Given):
        without = {"use_scale": False} | ({"use_bias": False} if norm is nnx.LayerNorm else {})
        self.heads, self.dtype = heads, given.dtype
        self.norm = norm(features // heads, epsilon=epsilon, **without, **given._asdict())
        self.scale = nnx.Param(jnp.ones(features, given.param_dtype))

    def __call__(self, xs: jax.Array) -> jax.Array:
        return flat(self.norm(by_head(xs, self.heads))) * expand_rank(cast(self.scale[...], self.dtype), xs)


class HeadLinear(nnx.Module):
    """A product with a block-diagonal matrix, one block `[features / heads, features / heads]` per head."""

    def __init__(self, heads: int, features: int, given: Given):
        self.heads = heads
        init = jax.nn.initializers.lecun_normal(in_axis=1, out_axis=2, batch_axis=0)
        shape = (heads, features // heads, features // heads)
        self.blocks = nnx.Einsum("...hi,hio->...ho", shape, kernel_init=init, **given._asdict())

    def __call__(self, xs: jax.Array) -> jax.Array:
        return flat(self.blocks(by_head(xs, self.heads)))


def rms_norm(features: int, epsilon: float, given: Given) -> nnx.RMSNorm:
    """Returns an RMS norm (Zhang & Sennrich 2019)."""
    return nnx.RMSNorm(features, epsilon=check.positive("epsilon", epsilon), **given._asdict())


def layer_norm(features: int, epsilon: float, given: Given) -> nnx.LayerNorm:
    """Returns a layer norm without a bias."""
    epsilon = check.positive("epsilon", epsilon)
    return nnx.LayerNorm(features, epsilon=epsilon, use_bias=False, **given._asdict())


def convolution(features: int, window: int, given: Given) -> Recurrent:
    """Returns the causal convolution of each feature over `window` steps."""
    window = check.positive_int("window", window)
    return Recurrent(causal_conv(features, width=window), features, **given._asdict())


def over_time(cell: Cell, features: int, given: Given, kernel: Kernel | None) -> Recurrent:
    """Returns the recurrent layer of a cell with `features` inputs."""
    return Recurrent(cell, features, kernel=kernel, **given._asdict())


def divides(name: str, heads: int, of: str, features: int) -> int:
    """Returns `heads`, the argument `name`, after checking that it divides `features`, the argument `of`."""
    heads = check.positive_int(name, heads)
    if features % heads:
        raise ValueError(f"`{name}` must divide `{of}`; got {heads} and {features}")
    return heads
