"""Markov chains, n-gram models: each of V symbols given the `order - 1` before it.

    p(x) = Π_t p(x_t | x_{t-order+1} … x_{t-1})

Before a row's first symbol stands one that is no other, of id V, as often as a context needs it. A step that the mask
leaves out is as if it were not there: contexts reach over it. Tables are dense, an axis for each symbol of a context,
the oldest first, and one for the symbol that follows: they are for small V.

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
from jaxseq.typing import Shape

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
"""Counts, as those of `count`, to probabilities of the same shape."""


class Params(NamedTuple):
    """log p(symbol | context), `[V + 1, …, V + 1, V]`, of as many axes as the order.

    Of order 2, `log_probs[:V]` are a chain's transitions, from row to column, and `log_probs[V]` its start.
    """

    log_probs: jax.Array


def count(ids: jax.Array, V: int, order: int = 2, *, mask: jax.Array | None = None) -> jax.Array:
    """Returns how often each symbol follows each context, int `[V + 1, …, V + 1, V]`, of `order` axes.

    Args:
      ids: int `[T, B]`, in 0 … V-1, any number of batch axes, also none.
      V: the number of symbols.
      order: how many symbols make an n-gram, its context one less.
      mask: bool `[T, B]`, True = real, of any pattern; what stands in False steps is not looked at.

    Raises:
      TypeError, ValueError: an argument does not fit, the table has more than 2²⁴ entries, or an id is none of a
        symbol; traced ids are not looked at, and n-grams with such a one are not counted.
    """
    V, order = check.positive_int("V", V), check.positive_int("order", order)
    if (
        order > _LARGEST.bit_length() or (V + 1) ** (order - 1) * V > _LARGEST
    ):  # of a high order even the size is too large
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
    """Returns the smoothing p(w | c) = (n(c, w) + amount) / (n(c) + amount V), Laplace's at 1, Lidstone's below.

    An amount of 0 is maximum likelihood; a context that was not seen then gives each symbol the same.

    Raises:
      TypeError, ValueError: `amount` is not a number of at least 0.
    """
    amount = check.at_least_zero("amount", amount)

    def smooth(counts):
        counts = _counts(counts)
        return _shares(counts.astype(float) + amount, 1 / counts.shape[-1])

    return smooth


def witten_bell(counts: jax.Array) -> jax.Array:
    """The smoothing by Witten & Bell 1991: each context's frequencies, mixed with what the shorter context says.

        p(w | c) = (n(c, w) + d(c) p(w | c')) / (n(c) + d(c))

    with d(c) the number of different symbols seen after c, and c' as c without its oldest symbol; below the context of
    no symbols stands 1 / V.
    """
    counts = _counts(counts)
    uniform = jnp.full_like(counts, 1 / counts.shape[-1], float)
    shorter = uniform if counts.ndim == 1 else jnp.broadcast_to(witten_bell(jnp.sum(counts, 0)), counts.shape)
    different = jnp.sum(counts > 0, -1, keepdims=True, dtype=shorter.dtype)
    return _shares(counts.astype(shorter.dtype) + different * shorter, shorter)


def fit(
    ids: jax.Array, V: int, order: int = 2, *, mask: jax.Array | None = None, smoothing: Smoothing = witten_bell
) -> Params:
    """Returns the `Params` of a model of `order`, from counts.

    Args:
      ids, V, order, mask: as for `count`.
      smoothing: `witten_bell`, `additive(1.0)`, or another function of counts, which returns probabilities.

    Raises:
      TypeError, ValueError: as `count` does, or `smoothing` does not keep the shape.
    """
    if not callable(smoothing):
        raise TypeError(f"`smoothing` must be a function of counts such as markov.additive(1.0); got {smoothing!r}")
    if smoothing is additive:
        raise TypeError("`smoothing` must be a function of counts; call the factory: markov.additive(1.0)")
    check.function_taking("smoothing", smoothing, 1)
    counts = count(ids, V, order, mask=mask)
    probabilities = smoothing(counts)
    if jnp.shape(probabilities) != counts.shape:
        raise ValueError(f"`smoothing` must keep the shape {counts.shape}; it gave {jnp.shape(probabilities)}")
    return Params(jnp.log(probabilities))


def log_prob(params: Params, ids: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Returns log p(x_t | the context of t) `[T, B]`, in nats; 0 on False steps, NaN where an id is none of a symbol.

    Args:
      params: `Params`.
      ids: int `[T, B]`, any number of batch axes, also none.
      mask: bool `[T, B]`, True = real, of any pattern.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    table, V, order = _table(params)
    ids, mask = _enter(ids, mask)
    rows, columns, inside = _places(ids, mask, V, order)
    return masking.keep(mask, jnp.where(inside, table[rows, columns], jnp.nan))


def perplexity(params: Params, ids: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Returns exp of the mean of -log p over all real steps; NaN where there is none. Arguments as for `log_prob`."""
    log_probs = log_prob(params, ids, mask=mask)
    return jnp.exp(-jnp.sum(log_probs) / (log_probs.size if mask is None else jnp.sum(mask, dtype=log_probs.dtype)))


def sample(key: jax.Array, params: Params, T: int, *, batch_shape: Shape = ()) -> jax.Array:
    """Draws rows of symbols, int `[T, *batch_shape]`; -1 where none is possible or its probability NaN, and after it.

    Args:
      key: a key.
      params: `Params`.
      T: the number of steps, also 0.
      batch_shape: how many rows, by axes.

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


def stationary(log_transition: jax.Array) -> jax.Array:
    """Returns the probabilities π `[K]` with π = π A, of the states of a chain in the long run.

    Args:
      log_transition: log A `[K, K]`, from row to column. The chain must have one recurrent class, one set of states
        that is not left once entered; with several there are many π, and what is returned is none of them.

    Raises:
      TypeError, ValueError: it is not a square float array.

    >>> print(stationary(jnp.log(jnp.array([[0.9, 0.1], [0.3, 0.7]]))).round(4))
    [0.75 0.25]
    """
    log_transition = check.floating("log_transition", "K, K", log_transition)
    if log_transition.ndim != 2 or log_transition.shape[0] != log_transition.shape[1] or log_transition.size == 0:
        raise ValueError(f"`log_transition` must be square, [K, K]; got {log_transition.shape}")
    # π (I - A + 1) = π 1 = 1, with 1 the matrix and the row of ones.
    log_transition = log_transition.astype(widen(log_transition.dtype))
    one = jnp.ones_like(log_transition)
    p = jnp.linalg.solve((jnp.eye(len(one), dtype=one.dtype) - jnp.exp(log_transition) + one).T, one[0])
    return jnp.maximum(p, 0) / jnp.sum(jnp.maximum(p, 0))


def _shares(counts, where_none):
    """Each row's shares; of one without any, `where_none`."""
    total = jnp.sum(counts, -1, keepdims=True)
    return jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), where_none)


def _counts(counts):
    counts = check.real("counts", "V + 1, V", counts)
    if counts.ndim < 1 or counts.shape[-1] == 0:
        raise ValueError(f"`counts` must be [V + 1, …, V + 1, V], of a symbol at least; got {check.shaped(counts)}")
    return counts


def _enter(ids, mask):
    ids = check.integers("ids", "T, B", ids)
    return ids.astype(int), check.flags("mask", mask, ids.shape)


def _table(params):
    """The log-probabilities with contexts as rows, V, and the order."""
    if not isinstance(params, Params):
        raise TypeError(f"`params` must be markov.Params; got {type(params).__name__}")
    table = check.floating("params.log_probs", "V + 1, V", params.log_probs)
    V, order = table.shape[-1] if table.ndim else 0, table.ndim
    if V < 1 or table.shape[:-1] != (V + 1,) * (order - 1):
        raise ValueError(f"`params.log_probs` must be [V + 1, …, V + 1, V]; got {table.shape}")
    return table.reshape(-1, V), V, order


def _places(ids, mask, V, order):
    """The row of each step's context in the table, its symbol's column, and whether all its ids are of symbols.

    A context is a number, its symbols the digits of base V + 1, the oldest first. Where it is not of symbols the place
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
