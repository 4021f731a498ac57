"""The Transformer (Vaswani et al. 2017): a layer that reads sequences by attention."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check, masking
from jaxseq.nn._call import Module
from jaxseq.nn._flax import Embed, dropout, floats, given, linear, remade
from jaxseq.nn._layer import checked_carry
from jaxseq.nn.attention._block import Block, KeyValues, Shape, Sight
from jaxseq.nn.attention._cache import TransformerCarry, carry_after, places_of, sight
from jaxseq.nn.attention._positions import sinusoidal
from jaxseq.typing import AnyArray
from jaxseq.typing import Shape as BatchShape

POSITIONS = ("sinusoidal", "learned", "rotary", None)


class CrossMemory(NamedTuple):
    """A prepared memory: keys and values for each block, and its real steps, bool `[B, S]`, or None for all."""

    layers: tuple[KeyValues, ...]
    mask: jax.Array | None


class Transformer(Module):
    """A Transformer: encoder, decoder, or decoder with attention to a memory; usable wherever `nn.Recurrent` is.

    For example, `layer = nn.Transformer(64, 64, layers=2, heads=4, causal=True, max_length=256, rngs=rngs)` gives a
    language model by `nn.LanguageModel(layer, V, 64, rngs=rngs)`. Masked steps are left out, in any place. Sequences
    that resets pack into one row do not see each other. `step` uses a cache of keys and values, and returns the same
    numbers as a whole pass.

    Args:
      in_features: D, the features of the inputs. If D is not H, a linear layer comes first.
      features: H, the features of the outputs.
      layers: the number of blocks.
      heads: N, the number of query heads, with H / N features each.
      causal: whether steps do not see later steps.
      kv_heads: the number of heads of keys and values, which the N query heads share. None: N.
      hidden: the hidden features of the feed-forward nets. None: 4 H.
      norm: "pre" or "post".
      positions: "sinusoidal", "learned", "rotary" or None (no positions). The first two are added to the input, and are
        of a size of about 1: inputs should be of a similar size. Rotary positions act on queries and keys only, so a
        decoder that attends to the outputs as a memory does not see them.
      max_length: the greatest length of a sequence, for "learned" positions and for the carry of `step`; outputs of
        later steps are NaN. None: there is no carry.
      memory_features: the features of a memory that the blocks attend to, see `remember`. None: no memory.
      activation: the activation of the feed-forward nets.
      dropout: the dropout rate of the input, after each sublayer, and inside the feed-forward nets; used only with a
        key.
      remat: whether to recompute the blocks in the backward pass instead of storing their intermediate values.
      dtype: the dtype of the computation; params and inputs are cast to it. None: that of the params.
      param_dtype: the dtype of the params. None: JAX's default float.
      rngs: random keys for the params.

    Attributes:
      in_features, size, causal: D, H, and `causal` as given.
      embedding_scale: the factor by which the models of `nn` multiply embeddings, whose norm is about 1, before this
        layer reads them: √D if positions are added (Vaswani et al. 2017, §3.4), else 1.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> layer = nn.Transformer(3, 8, layers=2, heads=2, causal=True, max_length=16, rngs=nnx.Rngs(0))
    >>> carry, ys = layer.unroll(jnp.ones([2, 5, 3]))
    >>> carry, y = layer.step(carry, jnp.ones([2, 3]))
    >>> ys.shape, y.shape, carry.length.tolist()
    ((2, 5, 8), (2, 8), [6, 6])
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        layers: int,
        heads: int,
        causal: bool,
        kv_heads: int | None = None,
        hidden: int | None = None,
        norm: str = "pre",
        positions: str | None = "sinusoidal",
        max_length: int | None = None,
        memory_features: int | None = None,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
        dropout: float = 0.0,
        remat: bool = False,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        D, H = check.positive_int("in_features", in_features), check.positive_int("features", features)
        N, layers = check.positive_int("heads", heads), check.positive_int("layers", layers)
        K = N if kv_heads is None else check.positive_int("kv_heads", kv_heads)
        for name, flag in (("causal", causal), ("remat", remat)):
            check.one_of(name, flag, (True, False))
        check.one_of("norm", norm, ("pre", "post"))
        check.one_of("positions", positions, POSITIONS)
        check.function("activation", activation)
        if H % N or N % K:
            raise ValueError(
                f"`heads` must divide `features`, and `kv_heads` must divide `heads`; got {H}, {N} and {K}"
            )
        if (positions == "rotary" and H // N % 2) or (positions == "sinusoidal" and H % 2):
            raise ValueError(f'`positions` "{positions}" need pairs of features; got {H} in {N} heads')
        if positions == "learned" and max_length is None:
            raise ValueError('`positions` "learned" need a `max_length`')
        shape = Shape(H, N, K, 4 * H if hidden is None else check.positive_int("hidden", hidden))
        self.in_features, self.size, self.causal, self.heads, self.remat = D, H, bool(causal), (K, H // N), bool(remat)
        self.max_length = None if max_length is None else check.positive_int("max_length", max_length)
        self.dropout, self.positions = check.rate("dropout", dropout), positions
        self.embedding_scale = math.sqrt(D) if positions in ("sinusoidal", "learned") else 1.0
        if memory_features is not None:
            check.positive_int("memory_features", memory_features)
        self.memory_features = memory_features
        self.dtype = (own := given(dtype, param_dtype, rngs)).dtype
        self.enter = None if D == H else linear(D, H, own)
        options = {"norm": norm, "activation": activation, "rate": self.dropout, "memory_features": memory_features}
        self.blocks = nnx.List([Block(shape, **options, given=own) for _ in range(layers)])
        self.last_norm = nnx.LayerNorm(H, **own._asdict()) if norm == "pre" else None
        room = max_length if positions == "learned" else None
        draw = jax.nn.initializers.normal(1.0)
        self.places = None if room is None else Embed(room, H, embedding_init=draw, **own._asdict())

    def initial_carry(self, batch_shape: BatchShape = ()) -> TransformerCarry:
        """Returns the initial carry.

        Raises:
          ValueError: the layer is not causal, or has no `max_length`.
        """
        if not self.causal or self.max_length is None:
            raise ValueError("only a layer with causal=True and a `max_length` has a carry")
        batch_shape, (K, F) = check.shape("batch_shape", batch_shape), self.heads
        empty = jnp.zeros((*batch_shape, K, self.max_length, F), self.dtype or self._example().dtype)
        layers = tuple(KeyValues(empty, empty) for _ in self.blocks)
        return TransformerCarry(layers, jnp.zeros(batch_shape, jnp.int32))

    def remember(self, memory: AnyArray, *, mask: AnyArray | None = None) -> CrossMemory:
        """Returns the keys and values of a memory, to be computed once for any number of passes and steps.

        Args:
          memory: `[B, S, memory_features]`, such as the outputs of an encoder.
          mask: bool `[B, S]`, True where a step is real, in any pattern; each row needs a real step.

        Raises:
          TypeError, ValueError: an argument does not fit, or the layer takes no memory.
        """
        if self.memory_features is None:
            raise ValueError("`memory` needs a layer with `memory_features`; this one has none")
        memory = floats("memory", "B, S, M", memory, self._example(), self.dtype)
        check.features("memory", memory, self.memory_features)
        mask = check.flags("mask", mask, memory.shape[:-1], "B, S")
        memory = masking.keep(mask, memory)
        return CrossMemory(tuple(block.look_at(memory) for block in self.blocks), mask)

    def __call__(self, xs, carry=None, *, mask=None, reset=None, key=None, memory=None) -> jax.Array:
        """Returns the outputs of all steps, `[B, T, H]`; arguments as for `unroll`."""
        return self.unroll(xs, carry, mask=mask, reset=reset, key=key, memory=memory)[1]

    def unroll(
        self,
        xs: AnyArray,
        carry: TransformerCarry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
        memory: CrossMemory | None = None,
    ) -> tuple[TransformerCarry | None, jax.Array]:
        """Returns the last carry (None if the layer has none) and the outputs of all steps, `[B, T, H]`.

        Args:
          xs: `[B, T, D]`, cast to `dtype`; if that is None, `xs` must have the dtype of the params.
          carry: the initial carry. None: a new sequence, without the cost of an empty cache.
          mask: bool `[B, T]`, True where a step is real, in any pattern; outputs on padding are zero.
          reset: bool `[B, T]`, True where a new sequence starts.
          key: a random key for dropout. None: no dropout.
          memory: the result of `remember`, for a layer with a memory.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        xs = self._checked("xs", "B, T, D", xs)
        mask, reset = (check.flags(name, f, xs.shape[:-1], "B, T") for name, f in (("mask", mask), ("reset", reset)))
        check.random_key(key)
        memory = self._checked_memory(memory, xs.shape[:-2])
        if carry is not None:
            carry = checked_carry(carry, self.initial_carry, xs.shape[:-2])
        xs = masking.keep(mask, xs)
        places = places_of(xs, carry, mask, reset)
        ys, new = self._run(xs, carry, places, key, memory)
        if self.max_length is not None:
            ys = jnp.where((places.positions < self.max_length)[..., None], ys, jnp.nan)
        ys = masking.keep(mask, ys)
        if not self.causal or self.max_length is None:
            return None, ys
        if places.slots is not None:
            return TransformerCarry(tuple(new), places.length_after), ys
        return carry_after(self.initial_carry(xs.shape[:-2]) if carry is None else carry, places, new), ys

    def step(
        self,
        carry: TransformerCarry | None,
        x: AnyArray,
        *,
        reset: AnyArray | None = None,
        memory: CrossMemory | None = None,
    ) -> tuple[TransformerCarry, jax.Array]:
        """Returns the next carry and the output `[B, H]` of one step, equal to that of `unroll` without noise.

        Args:
          carry: the carry before the step. None: a new sequence starts.
          x: `[B, D]`.
          reset: bool `[B]`, True where a new sequence starts with this step.
          memory: as for `unroll`.

        Raises:
          TypeError, ValueError: an argument does not fit, or the layer has no carry.
        """
        x = self._checked("x", "B, D", x)
        reset = check.flags("reset", reset, x.shape[:-1], "B")
        carry = self.initial_carry(x.shape[:-1]) if carry is None else carry
        reset = None if reset is None else reset[..., None]
        after, ys = self.unroll(x[..., None, :], carry, reset=reset, memory=memory)
        assert after is not None
        return after, ys[..., 0, :]

    def rewind(self, carry: TransformerCarry, steps: AnyArray) -> TransformerCarry:
        """Returns the carry before each row's last `steps` steps, int `[B]`, of its sequence; copies nothing."""
        if not isinstance(carry, TransformerCarry):
            raise TypeError(f"`carry` must be what this layer returned; got {type(carry).__name__}")
        carry = checked_carry(carry, self.initial_carry, jnp.shape(carry.length))
        steps = check.array("steps", "B", steps)
        if not jnp.issubdtype(steps.dtype, jnp.integer) or steps.shape != carry.length.shape:
            raise ValueError(f"`steps` must be int [B] = {carry.length.shape}; got {check.shaped(steps)}")
        back = jnp.clip(steps, 0, carry.length).astype(jnp.int32)
        return carry._replace(length=carry.length - back)

    def _run(self, xs, carry, places, key, memory):
        xs = xs if self.enter is None else self.enter(xs)
        if self.positions == "sinusoidal":
            xs = xs + sinusoidal(places.positions, self.size, xs.dtype)
        elif self.places is not None:
            xs = xs + self.places(jnp.minimum(places.positions, self.places.num_embeddings - 1))
        keys = [None] * (len(self.blocks) + 1) if key is None else jax.random.split(key, len(self.blocks) + 1)
        xs = dropout(keys[0], self.dropout, xs)
        rotary = places.positions if self.positions == "rotary" else None
        remembered = None if memory is None else memory.mask
        seen = Sight(rotary, places.slots, sight(places, carry, self.causal), remembered)
        run, new = functools.partial(remade, Block.__call__) if self.remat else Block.__call__, []
        for i, block in enumerate(self.blocks):
            before = None if carry is None else carry.layers[i]
            xs, own = run(block, xs, before, None if memory is None else memory.layers[i], seen, keys[i + 1])
            new.append(own)
        return xs if self.last_norm is None else self.last_norm(xs), new

    def _checked(self, name, axes, xs):
        xs = floats(name, axes, xs, self._example(), self.dtype)
        check.features(name, xs, self.in_features)
        return xs

    def _checked_memory(self, memory, batch):
        if self.memory_features is None and memory is None:
            return None
        is_one = isinstance(memory, CrossMemory) and len(memory.layers) == len(self.blocks)
        if self.memory_features is None or not is_one:
            raise ValueError(
                "`memory` must be the result of `remember` of this layer if it has `memory_features`, else None; got "
                f"{type(memory).__name__}"
            )
        memory = check.as_jax(memory, "memory")
        if memory.layers[0].keys.shape[:-3] != batch:
            raise ValueError(f"`memory` must have the batch {batch} of `xs`; got {memory.layers[0].keys.shape[:-3]}")
        for leaf in jax.tree.leaves(memory.layers):
            check.inputs("memory", "B, K, S, F", leaf, None)
        check.flags("memory", memory.mask, (*batch, memory.layers[0].keys.shape[-2]), "B, S")
        return memory

    def _example(self):
        return self.blocks[0].wide.kernel[...]
