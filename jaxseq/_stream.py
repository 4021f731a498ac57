"""Streaming: runs a cell over a sequence that arrives in pieces."""

import functools
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from jaxseq import check
from jaxseq._unroll import enter, unroll
from jaxseq.kernels._choice import chosen_values
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Params


def stream(
    cell: Cell | Composite, params: Params, chunks: Iterable[AnyArray], carry: Carry | None = None
) -> Iterator[tuple[Carry, jax.Array]]:
    """Runs `cell` over a sequence that arrives in chunks. Equals `unroll` of the whole sequence, without noise.

    The program is compiled once per chunk size. For the lowest latency of a single step, use `jax.jit` of
    `jaxseq.step`.

    Args:
      cell: a Cell, or a causal Composite.
      params: what `cell.init` returned.
      chunks: an iterable of arrays `[t, B, D]`, each with any number of steps t. They are taken one at a time.
      carry: the initial carry. None: `cell.carry(params, batch_shape)`.

    Yields:
      For each chunk, the carry after it and its `ys [t, B, H]`. A stream can resume from any of these carries.

    Raises:
      TypeError, ValueError: an argument does not fit, or the net is not causal.

    >>> cell = jaxseq.gru(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> xs = jax.random.normal(jax.random.key(1), (7, 2, 3))
    >>> ys = [ys for carry, ys in stream(cell, params, (xs[:3], xs[3:4], xs[4:]))]
    >>> bool(jnp.allclose(jnp.concatenate(ys), jaxseq.unroll(cell, params, xs)[1], atol=1e-6))
    True
    """
    check.causal(cell)
    if isinstance(chunks, jax.Array | np.ndarray) or not isinstance(chunks, Iterable):
        raise TypeError(
            f"`chunks` must be an iterable of arrays [t, B, D]; got {type(chunks).__name__}. For one array: [xs]"
        )
    return _chunk_by_chunk(cell, params, chunks, carry)


def _chunk_by_chunk(cell, params, chunks, carry):
    for xs in chunks:
        if carry is None:  # so that the first chunk runs the same program as the others, which get a carry
            params, carry, xs = enter(cell, params, None, "xs", "T, B, D", xs)
        carry, ys = _run_chunk(cell, *check.as_jax((params, xs, carry), ("params", "xs", "carry")))
        yield carry, ys


@functools.partial(jax.jit, static_argnames="cell")
def _run_chunk(cell, params, xs, carry):
    return unroll(cell, params, xs, carry, kernel=chosen_values)
