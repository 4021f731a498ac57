"""A stack of blocks as a layer, with a linear layer before the first if needed, and a norm after the last."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check, masking
from jaxseq.nn._call import Module
from jaxseq.nn._flax import floats, given, linear, remade
from jaxseq.nn._layer import Layer, asked, causal, check_layer, checked_carry
from jaxseq.nn.blocks._sublayers import layer_norm, rms_norm
from jaxseq.typing import AnyArray, Shape

NORMS = {"rms": rms_norm, "layer": layer_norm, None: lambda features, epsilon, own: None}


class Blocks(Module):
    """A stack of residual blocks with a norm after the last; usable wherever `nn.Recurrent` is.

    For example, `layer = nn.Blocks([nn.MambaBlock(64, rngs=rngs) for _ in range(8)], rngs=rngs)` gives a language model
    by `nn.LanguageModel(layer, V, 64, rngs=rngs)`. Blocks may be of several kinds, and a causal `nn.Transformer` of one
    layer may be among them. The carry is a tuple of the blocks' carries.

    Args:
      blocks: layers, each of which reads as many features as the one before returns.
      in_features: D, the features of the inputs. If D is not that of the first block, a linear layer comes first. None:
        that of the first block.
      norm: the norm after the last block: "rms", "layer" (without bias), or None for no norm.
      epsilon: the epsilon of that norm.
      remat: whether to recompute the blocks in the backward pass instead of storing their intermediate values.
      dtype: the dtype of the linear layer and the norm; their params and inputs are cast to it. None: that of the
        params.
      param_dtype: the dtype of their params. None: JAX's default float.
      rngs: random keys for their params.

    Attributes:
      in_features: D.
      size: H, the features of the last block.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> rngs = nnx.Rngs(0)
    >>> layer = nn.Blocks([nn.GriffinBlock(8, rngs=rngs) for _ in range(2)], in_features=3, rngs=rngs)
    >>> carry, ys = nnx.jit(lambda layer, xs: layer.unroll(xs))(layer, jnp.ones([2, 5, 3]))
    >>> ys.shape, len(carry)
    ((2, 5, 8), 2)
    """

    causal = True

    def __init__(
        self,
        blocks: Sequence[Layer],
        *,
        in_features: int | None = None,
        norm: str | None = "rms",
        epsilon: float = 1e-6,
        remat: bool = False,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        blocks = check.sequence("blocks", blocks, "blocks")
        if not blocks:
            raise ValueError("`blocks` must hold at least one block; got none")
        for place, block in enumerate(blocks):
            check_layer(block, f"blocks[{place}]")
            causal(block, f"blocks[{place}]")
            for param in jax.tree.leaves(nnx.state(block, nnx.Param)):
                if not jnp.issubdtype(param.dtype, jnp.floating):
                    raise TypeError(f"`blocks[{place}]` must have floating params; got {check.shaped(param)}")
            if place and block.in_features != blocks[place - 1].size:
                raise ValueError(
                    f"`blocks[{place}]` must read the {blocks[place - 1].size} features that the block before it "
                    f"returns; got {block.in_features}"
                )
        check.one_of("norm", norm, tuple(NORMS))
        check.switch("remat", remat)
        H = blocks[0].in_features
        self.in_features = H if in_features is None else check.positive_int("in_features", in_features)
        self.size, self.remat = blocks[-1].size, bool(remat)
        self.dtype = (own := given(dtype, param_dtype, rngs)).dtype
        self.enter = None if self.in_features == H else linear(self.in_features, H, own)
        self.blocks = nnx.List(blocks)
        self.last_norm = NORMS[norm](self.size, check.positive("epsilon", epsilon), own)

    @property
    def max_length(self) -> int | None:
        """The greatest length of a sequence, in steps; None: no limit."""
        room = [asked(block, "max_length") for block in self.blocks]
        return min((steps for steps in room if steps is not None), default=None)

    @property
    def embedding_scale(self) -> float:
        """The factor by which models multiply embeddings before the first block reads them."""
        return asked(self.blocks[0], "embedding_scale") if self.enter is None else 1.0

    def initial_carry(self, batch_shape: Shape = ()) -> tuple[Any, ...]:
        """Returns the initial carry."""
        batch_shape = check.shape("batch_shape", batch_shape)
        return tuple(block.initial_carry(batch_shape) for block in self.blocks)

    def __call__(
        self,
        xs: AnyArray,
        carry: tuple[Any, ...] | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the outputs of all steps, `[B, T, H]`; arguments as for `unroll`."""
        return self.unroll(xs, carry, mask=mask, reset=reset, key=key)[1]

    def unroll(
        self,
        xs: AnyArray,
        carry: tuple[Any, ...] | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> tuple[tuple[Any, ...], jax.Array]:
        """Returns the last carry and the outputs of all steps, `[B, T, H]`; outputs on padding are zero.

        Args:
          xs: `[B, T, D]`, cast to `dtype`; if that is None, `xs` must have the dtype of the params.
          carry: the initial carry. None: that of `initial_carry`.
          mask: bool `[B, T]`, True where a step is real, in any pattern.
          reset: bool `[B, T]`, True where a new sequence starts.
          key: a random key for the dropout of the blocks. None: no dropout.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        xs = self._checked("xs", "B, T, D", xs)
        mask, reset = (check.flags(name, f, xs.shape[:-1], "B, T") for name, f in (("mask", mask), ("reset", reset)))
        check.random_key(key)
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))

        def run(place, block, carry, xs):
            return block.unroll(xs, carry, mask=mask, reset=reset, key=keys[place])

        carry, ys = self._run(run, carry, masking.keep(mask, xs), xs.shape[:-2])
        return carry, masking.keep(mask, ys)

    def step(
        self, carry: tuple[Any, ...] | None, x: AnyArray, *, reset: AnyArray | None = None
    ) -> tuple[tuple[Any, ...], jax.Array]:
        """Returns the next carry and the output `[B, H]` of one step, equal to that of `unroll` without noise.

        Args:
          carry: the carry before the step. None: a new sequence starts.
          x: `[B, D]`.
          reset: bool `[B]`, True where a new sequence starts with this step.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        x = self._checked("x", "B, D", x)
        reset = check.flags("reset", reset, x.shape[:-1], "B")
        return self._run(lambda place, block, carry, x: block.step(carry, x, reset=reset), carry, x, x.shape[:-1])

    def _run(self, run, carry, xs, batch):
        if carry is not None:
            carry = checked_carry(carry, self.initial_carry, batch)
        xs, after = xs if self.enter is None else self.enter(xs), []
        for place, block in enumerate(self.blocks):
            before = None if carry is None else carry[place]
            of_block = functools.partial(run, place)
            last, xs = remade(of_block, block, before, xs) if self.remat else of_block(block, before, xs)
            after.append(last)
        return tuple(after), xs if self.last_norm is None else self.last_norm(xs)

    def _checked(self, name, axes, xs):
        xs = floats(name, axes, xs, nnx.state(self, nnx.Param), self.dtype)
        check.features(name, xs, self.in_features)
        return xs
