"""Streaming: a sequence that arrives in pieces."""

import functools
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from jaxseq import check
from jaxseq._unroll import enter, unroll
from jaxseq.kernels._choice import chosen_values
from jaxseq.typing import Carry, Cell, Composite, Params


def stream(
    cell: Cell | Composite, params: Params, chunks: Iterable[jax.Array], carry: Carry | None = None
) -> Iterator[tuple[Carry, jax.Array]]:
    """Runs `cell` over a sequence that arrives in chunks, with the numbers of `unroll` on the whole, without noise.

    The program is compiled once for each size of chunk. For the shortest way from one step to its output, put
    `jaxseq.step` under `jax.jit`.

    Args:
      cell: a Cell, or a causal Composite.
      params: what `cell.init` returned.
      chunks: arrays `[t, B, D]`, any number of steps t each; taken from the iterable one at a time.
      carry: the carry to start from; None starts a sequence.

    Yields:
      For each chunk, the carry after it and its `ys [t, B, H]`. A stream resumes from any carry it gave.

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
        if carry is None:  # the first chunk runs the program of the others, which is handed a carry
            params, carry, xs = enter(cell, params, None, "xs", "T, B, D", xs)
        carry, ys = _run_chunk(cell, *check.as_jax((params, xs, carry), ("params", "xs", "carry")))
        yield carry, ys


@functools.partial(jax.jit, static_argnames="cell")
def _run_chunk(cell, params, xs, carry):
    return unroll(cell, params, xs, carry, kernel=chosen_values)
