"""Models on a stream: results step by step, with the carry in and out.

A model of either base below reads `xs` by its `recurrent` layer, after an `embedding` if it takes ids. Subclasses say
what becomes of the layer's outputs in `_result`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.masking import choose
from jaxseq.nn._call import Module
from jaxseq.nn._ids import inputs
from jaxseq.nn._layer import Layer
from jaxseq.nn.models._pooling import Pool, fold_of
from jaxseq.typing import AnyArray, Carry, Shape


class PerStep(Module):
    """The base of models with a result for each step. Their carry is that of their layer."""

    recurrent: Layer
    embedding: nnx.Embed | None = None

    def unroll(
        self,
        xs: AnyArray,
        carry: Carry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, jax.Array]:
        """Returns the last carry, and the results of a call. Arguments as for a call.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        xs = inputs(self.embedding, self.recurrent, "xs", "B, T", xs, mask)
        carry, ys = self.recurrent.unroll(xs, carry, mask=mask, reset=reset, key=key)
        return carry, self._result(ys)

    def step(self, carry: Carry | None, x: AnyArray, *, reset: AnyArray | None = None) -> tuple[Carry, jax.Array]:
        """Returns the next carry and the result of one step.

        Args:
          carry: the carry before the step. None: a new sequence starts.
          x: float `[B, D]`, or ids `[B]`, int.
          reset: bool `[B]`, True where a new sequence starts with this step.

        Raises:
          TypeError, ValueError: an argument does not fit, or the net is not causal.
        """
        x = inputs(self.embedding, self.recurrent, "x", "B", x)
        carry, y = self.recurrent.step(carry, x, reset=reset)
        return carry, self._result(y)

    def initial_carry(self, batch_shape: Shape = ()) -> Carry:
        """Returns the initial carry."""
        return self.recurrent.initial_carry(batch_shape)

    def _result(self, ys: jax.Array) -> jax.Array:
        raise NotImplementedError


class PooledCarry(NamedTuple):
    """The carry of a model with one result per sequence: that of its layer, and what its pool keeps of the outputs."""

    recurrent: Any
    pooled: Any


class PerSequence(Module):
    """The base of models with one result per sequence, which they pool from the outputs of all its steps."""

    recurrent: Layer
    embedding: nnx.Embed | None = None
    pool: Pool

    def unroll(
        self,
        xs: AnyArray,
        carry: PooledCarry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> tuple[PooledCarry, jax.Array]:
        """Returns the last carry, and the result for the steps so far, these and those before. Arguments as for a call.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        before, pooled = _parts(carry)
        xs = inputs(self.embedding, self.recurrent, "xs", "B, T", xs, mask)
        last, ys = self.recurrent.unroll(xs, before, mask=mask, reset=reset, key=key)
        mask, reset = (check.flags(name, f, ys.shape[:-1], "B, T") for name, f in (("mask", mask), ("reset", reset)))
        pooled = self._pooled(pooled, ys, mask, reset)
        return PooledCarry(last, pooled), self._read(pooled, ys.dtype)

    def step(
        self, carry: PooledCarry | None, x: AnyArray, *, reset: AnyArray | None = None
    ) -> tuple[PooledCarry, jax.Array]:
        """Returns the next carry and the result for the steps so far: what a call returns for them.

        Args:
          carry: the carry before the step. None: a new sequence starts.
          x: float `[B, D]`, or ids `[B]`, int.
          reset: bool `[B]`, True where a new sequence starts with this step.

        Raises:
          TypeError, ValueError: an argument does not fit, or the net is not causal.
        """
        before, pooled = _parts(carry)
        x = inputs(self.embedding, self.recurrent, "x", "B", x)
        last, y = self.recurrent.step(before, x, reset=reset)
        reset = check.flags("reset", reset, y.shape[:-1], "B")
        pooled = self._pooled(pooled, y[..., None, :], None, None if reset is None else reset[..., None])
        return PooledCarry(last, pooled), self._read(pooled, y.dtype)

    def initial_carry(self, batch_shape: Shape = ()) -> PooledCarry:
        """Returns the initial carry."""
        carry = self.recurrent.initial_carry(batch_shape)
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(nnx.state(self.recurrent))]
        dtype = next((dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)), jnp.result_type(float))
        one = jax.ShapeDtypeStruct((*check.shape("batch_shape", batch_shape), 1, self.recurrent.in_features), dtype)
        ys = jax.eval_shape(self.recurrent, one)
        none = jnp.zeros((*ys.shape[:-2], 0, ys.shape[-1]), ys.dtype)
        return PooledCarry(carry, fold_of(self.pool).of(none, None))

    def _pooled(self, before, ys, mask, reset):
        """Returns what the pool keeps of the steps before and of `ys`, since the last reset."""
        fold = fold_of(self.pool)
        if reset is not None:
            resets = reset.astype(jnp.int32)
            since = jnp.flip(jnp.cumsum(jnp.flip(resets, -1), axis=-1), -1) == resets  # no reset after the step
            mask = since if mask is None else mask & since
        after = fold.of(ys, mask)
        if before is None:
            return after
        if reset is not None:
            before = choose(jnp.any(reset, axis=-1), fold.of(ys[..., :0, :], None), before)
        return fold.merge(before, after)

    def _read(self, pooled, dtype):
        return self._result(fold_of(self.pool).value(pooled).astype(dtype))

    def _result(self, pooled: jax.Array) -> jax.Array:
        raise NotImplementedError


def _parts(carry):
    if carry is not None and not isinstance(carry, PooledCarry):
        raise TypeError(f"`carry` must be the nn.PooledCarry that this model returns; got {type(carry).__name__}")
    return (None, None) if carry is None else carry
