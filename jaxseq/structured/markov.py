"""Markov chains (n-gram models): each of V symbols depends on the `order - 1` symbols before it.

    p(x) = Π_t p(x_t | x_{t-order+1} … x_{t-1})

Before a row's first symbol, contexts are filled with a start symbol of id V. Steps where the mask is False are left
out, so that contexts reach over them. Tables are dense, with an axis for each symbol of a context, the oldest first,
and one for the symbol that follows. They are meant for small V.

>>> from jaxseq.structured import markov
>>> ids = jnp.array([0, 1, 0, 1, 1])
>>> markov.count(ids, 2).tolist()  # after 0, after 1, first in a row
[[0, 2], [1, 1], [1, 0]]
>>> params = markov.fit(ids, 2, smoothing=markov.additive(1.0))
>>> print(jnp.exp(params.log_probs[0]))
[0.25 0.75]
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxseq import _meshes, check, masking
from jaxseq._promote import widen
from jaxseq.structured._chain import draw_states
from jaxseq.structured._indices import along_first
from jaxseq.structured._steps import step_before
from jaxseq.typing import AnyArray, Shape

__all__ = [
    "Params",
    "Smoothing",
    "additive",
    "count",
    "fit",
    "log_prob",
    "perplexity",
    "sample",
    "stationary",
    "witten_bell",
]

_LARGEST = 2**24

Smoothing: TypeAlias = Callable[[jax.Array], jax.Array]
"""A function from counts, as `count` returns them, to probabilities of the same shape."""


class Params(NamedTuple):
    """log p(symbol | context), `[V + 1, …, V + 1, V]`, with as many axes as the order.

    For order 2, `log_probs[:V]` are the transitions of a chain, from row to column, and `log_probs[V]` its start.
    """

    log_probs: AnyArray


def count(ids: AnyArray, V: int, order: int = 2, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns how often each symbol follows each context, int `[V + 1, …, V + 1, V]`, with `order` axes.

    Args:
      ids: int `[T, B]`, in 0 … V-1, with any number of batch axes.
      V: the number of symbols.
      order: the number of symbols in an n-gram; a context has one less.
      mask: bool `[T, B]`, True where a step is real, in any pattern; ids on False steps are ignored.

    Raises:
      TypeError, ValueError: an argument does not fit, the table would have more than 2²⁴ entries, or an id is not in
        0 … V-1. Traced ids are not checked; n-grams with a wrong id are not counted.
    """
    V, order = check.positive_int("V", V), check.positive_int("order", order)
    if (
        order > _LARGEST.bit_length() or (V + 1) ** (order - 1) * V > _LARGEST
    ):  # for a high order even the number of entries is too large to compute
        raise ValueError(
            f"a table of `order` = {order} over `V` = {V} symbols, (V + 1)**(order - 1) V entries, is too large; "
            "at most 2**24 entries are allowed"
        )
    contexts = (V + 1) ** (order - 1)
    ids, mask = _enter(ids, mask)
    real = ids if mask is None else jnp.where(mask, ids, 0)
    if not isinstance(real, Tracer) and jnp.any((real < 0) | (real >= V)):
        raise ValueError(f"`ids` must be in 0 … V-1 = {V - 1} on real steps; got {jnp.min(real)} … {jnp.max(real)}")
    rows, columns, _ = _places(ids, mask, V, order)
    table = jnp.zeros((contexts, V), int).at[rows, columns].add(1 if mask is None else mask.astype(int), mode="drop")
    return table.reshape((V + 1,) * (order - 1) + (V,))


def additive(amount: float = 1.0) -> Smoothing:
    """Returns the smoothing p(w | c) = (n(c, w) + amount) / (n(c) + amount V): Laplace's at 1, Lidstone's below.

    An amount of 0 gives the maximum likelihood estimate, with uniform probabilities for a context that does not occur.

    Args:
      amount: added to each count, at least 0.

    Raises:
      TypeError, ValueError: `amount` is not a number of at least 0.
    """
    amount = check.at_least_zero("amount", amount)

    def smooth(counts):
        counts = _counts(counts)
        return _shares(counts.astype(float) + amount, 1 / counts.shape[-1])

    return smooth


def witten_bell(counts: AnyArray) -> jax.Array:
    """Returns probabilities smoothed by Witten & Bell (1991): frequencies mixed with those of the shorter context.

        p(w | c) = (n(c, w) + d(c) p(w | c')) / (n(c) + d(c))

    d(c) is the number of different symbols that follow c, and c' is c without its oldest symbol. The empty context is
    mixed with the uniform distribution 1 / V.

    Args:
      counts: `[V + 1, …, V + 1, V]`, as `count` returns them.
    """
    counts = _counts(counts)
    uniform = jnp.full_like(counts, 1 / counts.shape[-1], float)
    shorter = uniform if counts.ndim == 1 else jnp.broadcast_to(witten_bell(jnp.sum(counts, 0)), counts.shape)
    different = jnp.sum(counts > 0, -1, keepdims=True, dtype=shorter.dtype)
    return _shares(counts.astype(shorter.dtype) + different * shorter, shorter)


def fit(
    ids: AnyArray, V: int, order: int = 2, *, mask: AnyArray | None = None, smoothing: Smoothing = witten_bell
) -> Params:
    """Returns the params of a model of the given order, estimated from counts.

    Args:
      ids, V, order, mask: as for `count`.
      smoothing: `witten_bell`, `additive(1.0)`, or another function from counts to probabilities.

    Raises:
      TypeError, ValueError: as for `count`; or `smoothing` does not keep the shape.
    """
    if not callable(smoothing):
        raise TypeError(f"`smoothing` must be a function of counts such as markov.additive(1.0); got {smoothing!r}")
    if smoothing is additive:
        raise TypeError("`smoothing` must be a function of counts; call the factory: markov.additive(1.0)")
    check.function_taking("smoothing", smoothing, 1)
    counts = count(ids, V, order, mask=mask)
    probabilities = smoothing(counts)
    if jnp.shape(probabilities) != counts.shape:
        raise ValueError(f"`smoothing` must keep the shape {counts.shape}; it returned {jnp.shape(probabilities)}")
    return Params(jnp.log(probabilities))


def log_prob(params: Params, ids: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns log p(x_t | its context) `[T, B]`, in nats; 0 on False steps, NaN where an id is not in 0 … V-1.

    Args:
      params: `Params`.
      ids: int `[T, B]`, with any number of batch axes.
      mask: bool `[T, B]`, True where a step is real, in any pattern.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    table, V, order = _table(params)
    ids, mask = _enter(ids, mask)
    rows, columns, inside = _places(ids, mask, V, order)
    return masking.keep(mask, jnp.where(inside, table[rows, columns], jnp.nan))


def perplexity(params: Params, ids: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns the perplexity, exp of the mean of -log p over all real steps, a scalar; NaN if there are none.

    Arguments as for `log_prob`.
    """
    log_probs = log_prob(params, ids, mask=mask)
    return jnp.exp(-jnp.sum(log_probs) / (log_probs.size if mask is None else jnp.sum(mask, dtype=log_probs.dtype)))


def sample(key: jax.Array, params: Params, T: int, *, batch_shape: Shape = ()) -> jax.Array:
    """Draws rows of symbols, int `[T, *batch_shape]`; -1 from the first step on without a possible symbol, or with NaN.

    Args:
      key: a random key.
      params: `Params`.
      T: the number of steps, at least 0.
      batch_shape: the batch axes.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from jaxseq.structured import markov
    >>> in_a_circle = jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> markov.sample(jax.random.key(0), markov.Params(jnp.log(in_a_circle)), 4).tolist()
    [1, 2, 0, 1]
    """
    check.given_key(key)
    table, V, _ = _table(params)
    return _sample(key, table, V, check.natural("T", T), check.shape("batch_shape", batch_shape))


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _sample(key, table, V, T, batch):
    def advance(row, key):
        symbol = jnp.where(row < 0, -1, draw_states(key, table[row], batch))
        return jnp.where(symbol < 0, -1, (row * (V + 1) + symbol) % len(table)), symbol

    return _meshes.scan(advance, jnp.full(batch, len(table) - 1), jax.random.split(key, T))[1]


def stationary(log_transition: AnyArray) -> jax.Array:
    """Returns the stationary probabilities π `[K]` of a chain, with π = π A.

    Args:
      log_transition: log A `[K, K]`, from row to column. The chain must have a single recurrent class, a set of states
        that it does not leave. With several classes there are many π, and the result is none of them.

    Raises:
      TypeError, ValueError: `log_transition` is not a square float array.

    >>> print(stationary(jnp.log(jnp.array([[0.9, 0.1], [0.3, 0.7]]))).round(4))
    [0.75 0.25]
    """
    log_transition = check.floating("log_transition", "K, K", log_transition)
    if log_transition.ndim != 2 or log_transition.shape[0] != log_transition.shape[1] or log_transition.size == 0:
        raise ValueError(f"`log_transition` must be square, [K, K]; got {log_transition.shape}")
    # π (I - A + 1) = π 1 = 1, where 1 is the matrix, and then the row, of ones.
    log_transition = log_transition.astype(widen(log_transition.dtype))
    one = jnp.ones_like(log_transition)
    p = jnp.linalg.solve((jnp.eye(len(one), dtype=one.dtype) - jnp.exp(log_transition) + one).T, one[0])
    return jnp.maximum(p, 0) / jnp.sum(jnp.maximum(p, 0))


def _shares(counts, where_none):
    """Returns each row divided by its sum, or `where_none` if the sum is 0."""
    total = jnp.sum(counts, -1, keepdims=True)
    return jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), where_none)


def _counts(counts):
    counts = check.real("counts", "V + 1, V", counts)
    if counts.ndim < 1 or counts.shape[-1] == 0:
        raise ValueError(f"`counts` must be [V + 1, …, V + 1, V] with V of at least 1; got {check.shaped(counts)}")
    return counts


def _enter(ids, mask):
    ids = check.integers("ids", "T, B", ids)
    return ids.astype(int), check.flags("mask", mask, ids.shape)


def _table(params):
    """Returns the log-probabilities with one row per context, V, and the order."""
    if not isinstance(params, Params):
        raise TypeError(f"`params` must be markov.Params; got {type(params).__name__}")
    table = check.floating("params.log_probs", "V + 1, V", params.log_probs)
    V, order = table.shape[-1] if table.ndim else 0, table.ndim
    if V < 1 or table.shape[:-1] != (V + 1,) * (order - 1):
        raise ValueError(f"`params.log_probs` must be [V + 1, …, V + 1, V]; got {table.shape}")
    return table.reshape(-1, V), V, order


def _places(ids, mask, V, order):
    """Returns the row of each step's context in the table, its symbol's column, and whether all its ids are valid.

    A context is a number whose digits in base V + 1 are its symbols, the oldest first. If an id is not valid, the place
    is outside the table.
    """
    before = step_before(jnp.ones(ids.shape, bool) if mask is None else mask)
    inside, rows, at = (ids >= 0) & (ids < V), jnp.zeros_like(ids), along_first(ids.shape)
    known = inside
    for place in range(order - 1 if ids.shape[0] > 0 else 0):
        at = jnp.where(at < 0, -1, jnp.take_along_axis(before, jnp.maximum(at, 0), 0))
        symbol, is_symbol = (jnp.take_along_axis(x, jnp.maximum(at, 0), 0) for x in (ids, known))
        rows += jnp.where(at < 0, V, symbol) * (V + 1) ** place
        inside &= (at < 0) | is_symbol
    return jnp.where(inside, rows, (V + 1) ** (order - 1)), jnp.where(inside, ids, V), inside
