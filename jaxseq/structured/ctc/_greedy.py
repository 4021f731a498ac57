"""Labels from frames: the reading of a path as labels, and the most probable path."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq.structured._indices import along_first
from jaxseq.structured.ctc._inputs import frames, to_front
from jaxseq.typing import AnyArray


class Decoded(NamedTuple):
    """Labels int `[T, B]`, -1 after their end; their number, int `[B]`; and their score `[B]`.

    If the score is -inf or NaN, there are no labels.
    """

    labels: jax.Array
    lengths: jax.Array
    score: jax.Array


def collapse(tokens: AnyArray, *, mask: AnyArray | None = None, blank: int = 0) -> tuple[jax.Array, jax.Array]:
    """Returns the labels of paths, by merging repeats and then dropping blanks: `(labels [T, B], lengths [B])`.

    Args:
      tokens: int `[T, B]`, labels or the blank, with any number of batch axes.
      mask: bool `[T, B]`, True where a frame is real, in any pattern; False frames are left out.
      blank: the id of the blank.

    Returns:
      The labels, int `[T, B]`, -1 after their end, and their number, int `[B]`.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> labels, length = collapse(jnp.array([3, 3, 0, 3, 5, 0]))
    >>> labels.tolist(), length.item()
    ([3, 3, 5, -1, -1, -1], 3)
    """
    tokens = check.integers("tokens", "T, B", tokens)
    mask = check.flags("mask", mask, tokens.shape)
    blank = check.natural("blank", blank)
    tokens = tokens.astype(jnp.int32)
    if mask is not None:
        tokens, _ = _gathered(tokens, mask, blank)
    before = jnp.concatenate([jnp.full_like(tokens[:1], blank), tokens[:-1]])
    keep = (tokens != blank) & (tokens != before)
    return _gathered(tokens, keep, -1)


def greedy(log_probs: AnyArray, *, mask: AnyArray | None = None, blank: int = 0) -> Decoded:
    """Returns the labels of the most probable path, as `Decoded(labels, lengths, score)`.

    The score is the log-probability of the path. Other labels may be more probable, because they have more paths; see
    `beam_search`.

    Args:
      log_probs: float `[T, B, V]`, with any number of batch axes.
      mask: bool `[T, B]`, True where a frame is real, in any pattern; False frames are left out.
      blank: the id of the blank among the V symbols.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    log_probs, mask, blank = frames(log_probs, mask, blank)
    labels, lengths = collapse(jnp.argmax(log_probs, -1), mask=mask, blank=blank)
    score = jnp.sum(jnp.max(log_probs, -1), 0)
    is_some = score > -jnp.inf
    return Decoded(jnp.where(is_some[None], labels, -1), jnp.where(is_some, lengths, 0), score)


def _gathered(tokens, keep, fill):
    """Returns the tokens where `keep` is True, moved to the front, and their number."""
    order, count = to_front(keep)
    return jnp.where(along_first(tokens.shape) < count[None], jnp.take_along_axis(tokens, order, 0), fill), count
