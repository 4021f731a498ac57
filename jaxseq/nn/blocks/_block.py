"""What all residual blocks share: a mixer over time and optionally an MLP, each after a norm.

    x ← x + dropout(mix(norm(x)))
    x ← x + dropout(mlp(norm(x)))                 if the block has an MLP

A mixer is pointwise in time except for two layers, a short causal convolution and a cell. Their carries form the carry
of the block. The same function therefore serves a single step and a whole pass.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxseq import check, masking
from jaxseq.nn._call import Module
from jaxseq.nn._flax import Given, dropout, floats, given
from jaxseq.nn._layer import checked_carry
from jaxseq.nn.recurrent import Recurrent
from jaxseq.typing import AnyArray, Carry, Shape

OverTime = Callable[[jax.Array], jax.Array]


class BlockCarry(NamedTuple):
    """The carry of a block: the last inputs of its convolution, or None if it has none, and the carry of its cell."""

    conv: Carry | None
    cell: Carry


class Block(Module):
    """The base class of blocks. A subclass makes `norm`, `cell`, and optionally `conv` and an MLP, and defines `_mix`.

    `_mix(xs, conv, cell)` gets xs `[..., H]` and the functions that run the two layers over time; it returns
    `[..., H]`.
    """

    causal = True
    conv: Recurrent | None = None
    mlp: nnx.Module | None = None
    mlp_norm: nnx.Module | None = None
    norm: nnx.RMSNorm | nnx.LayerNorm
    cell: Recurrent
    _mix: Callable[[jax.Array, OverTime, OverTime], jax.Array]

    def _given(self, features: int, rate: float, dtype: Any, param_dtype: Any, rngs: nnx.Rngs) -> Given:
        """Checks and stores the options that every block takes; returns the options of its layers."""
        own = given(dtype, param_dtype, rngs)
        self.in_features = self.size = check.positive_int("features", features)
        self.dropout, self.dtype = check.rate("dropout", rate), own.dtype
        return own

    def initial_carry(self, batch_shape: Shape = ()) -> BlockCarry:
        """Returns the initial carry."""
        batch_shape = check.shape("batch_shape", batch_shape)
        conv = None if self.conv is None else self.conv.initial_carry(batch_shape)
        return BlockCarry(conv, self.cell.initial_carry(batch_shape))

    def __call__(
        self,
        xs: AnyArray,
        carry: BlockCarry | None = None,
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
        carry: BlockCarry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> tuple[BlockCarry, jax.Array]:
        """Returns the last carry and the outputs of all steps, `[B, T, H]`; outputs on padding are zero.

        Args:
          xs: `[B, T, H]`, cast to `dtype`; if that is None, `xs` must have the dtype of the params.
          carry: the initial carry. None: that of `initial_carry`.
          mask: bool `[B, T]`, True where a step is real, in any pattern.
          reset: bool `[B, T]`, True where a new sequence starts.
          key: a random key for dropout. None: no dropout.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        xs = self._checked("xs", "B, T, D", xs)
        mask, reset = (check.flags(name, f, xs.shape[:-1], "B, T") for name, f in (("mask", mask), ("reset", reset)))
        check.random_key(key)

        def over_time(layer, carry, xs):
            return layer.unroll(xs, carry, mask=mask, reset=reset)

        carry, ys = self._run(over_time, masking.keep(mask, xs), carry, xs.shape[:-2], key)
        return carry, masking.keep(mask, ys)

    def step(
        self, carry: BlockCarry | None, x: AnyArray, *, reset: AnyArray | None = None
    ) -> tuple[BlockCarry, jax.Array]:
        """Returns the next carry and the output `[B, H]` of one step, equal to that of `unroll` without noise.

        Args:
          carry: the carry before the step. None: a new sequence starts.
          x: `[B, H]`.
          reset: bool `[B]`, True where a new sequence starts with this step.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        x = self._checked("x", "B, D", x)
        reset = check.flags("reset", reset, x.shape[:-1], "B")
        return self._run(lambda layer, carry, x: layer.step(carry, x, reset=reset), x, carry, x.shape[:-1], None)

    def _run(self, over_time, xs, carry, batch, key):
        if carry is not None:
            carry = checked_carry(carry, self.initial_carry, batch)
        before: BlockCarry = self.initial_carry(batch) if carry is None else carry
        keys, after = (None, None) if key is None else tuple(jax.random.split(key)), before

        def conv(xs):
            nonlocal after
            last, ys = over_time(self.conv, before.conv, xs)
            after = after._replace(conv=last)
            return ys

        def cell(xs):
            nonlocal after
            last, ys = over_time(self.cell, before.cell, xs)
            after = after._replace(cell=last)
            return ys

        xs = xs + dropout(keys[0], self.dropout, self._mix(self.norm(xs), conv, cell))
        if self.mlp is not None and self.mlp_norm is not None:
            xs = xs + dropout(keys[1], self.dropout, self.mlp(self.mlp_norm(xs)))
        return after, xs

    def _checked(self, name, axes, xs):
        assert self.norm.scale is not None
        xs = floats(name, axes, xs, self.norm.scale[...], self.dtype)
        check.features(name, xs, self.in_features)
        return xs
