"""Sampling from logits: temperature, top-k (Fan et al. 2018), top-p (Holtzman et al. 2020) and typical sampling.

    p = softmax(logits / temperature)
    top_k    keeps the k most probable tokens
    top_p    keeps the fewest most probable tokens whose probabilities add up to at least `top_p`
    typical  keeps the fewest tokens, those whose surprise -log p is nearest to its mean (the entropy) first, whose
             probabilities add up to at least `typical` (Meister et al. 2023)

The filters are applied in this order; each renormalises what the one before kept. Of equally probable tokens, the one
with the lower id comes first. Temperature 0 is the limit: greedy.
"""

import functools
import math
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._promote import widen
from jaxseq.typing import AnyArray


def filter_logits(
    logits: AnyArray,
    *,
    temperature: float | AnyArray = 1.0,
    top_k: int | None = None,
    top_p: float | AnyArray | None = None,
    typical: float | AnyArray | None = None,
) -> jax.Array:
    """Returns logits / temperature, `[..., V]`, with -inf for the tokens that are filtered out.

    At least one token is kept: the most probable one, or with `typical` the most typical one. 16-bit logits are widened
    to float32.

    Args:
      logits: float `[..., V]`.
      temperature: a number of at least 0. At 0 only the most probable token is kept, and logits are not divided.
      top_k: the number of tokens to keep, an int; above V it keeps all.
      top_p, typical: the probability to keep, a number in (0, 1]; 1 keeps all.

    Raises:
      TypeError, ValueError: an argument does not fit. Traced numbers are not checked.

    >>> filter_logits(jnp.array([1.0, 3.0, 2.0]), top_k=2)
    Array([-inf,   3.,   2.], dtype=float32)
    """
    logits = check.array("logits", "..., V", logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating) or logits.ndim < 1:
        raise TypeError(f"`logits` must be floating [..., V]; got {logits.dtype} {logits.shape}")
    if logits.shape[-1] == 0:
        raise ValueError(f"`logits` must be [..., V] with V of at least 1; got {logits.dtype} {logits.shape}")
    options = options_of(temperature, top_k, top_p, typical)
    return _filtered(logits, options.top_k, **options.numbers)


class Options(NamedTuple):
    """Checked options of `filter_logits`: `top_k`, which is static, and the numbers, which may be arrays."""

    top_k: int | None
    numbers: dict[str, Any]


def options_of(temperature: Any, top_k: Any, top_p: Any, typical: Any) -> Options:
    """Returns the options of `filter_logits` after checking them."""
    numbers = {
        "temperature": check.number("temperature", temperature, "of at least 0", lambda number: 0 <= number < math.inf),
        "top_p": None if top_p is None else check.number("top_p", top_p, "in (0, 1]", lambda number: 0 < number <= 1),
        "typical": None if typical is None else check.number("typical", typical, "in (0, 1]", lambda n: 0 < n <= 1),
    }
    return Options(None if top_k is None else check.positive_int("top_k", top_k), numbers)


@functools.partial(jax.jit, static_argnames="top_k")
def _filtered(logits: jax.Array, top_k: int | None, temperature: Any, top_p: Any, typical: Any) -> jax.Array:
    greedy = jnp.asarray(temperature) == 0
    best = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
    logits = logits.astype(widen(logits.dtype))
    logits = logits / jnp.where(greedy, 1, jnp.asarray(temperature, logits.dtype))
    logits = jnp.where(best | ~greedy, logits, -jnp.inf)
    if top_k is not None:
        logits = jnp.where(_rank(logits) < top_k, logits, -jnp.inf)
    if top_p is not None:
        logits = _fewest(logits, logits, top_p)
    if typical is not None:
        log_p = jax.nn.log_softmax(logits)
        entropy = -jnp.sum(jnp.where(jnp.isneginf(log_p), 0, jnp.exp(log_p) * log_p), axis=-1, keepdims=True)
        distance = jnp.where(jnp.isneginf(log_p), jnp.inf, jnp.abs(log_p + entropy))
        logits = _fewest(logits, -distance, typical)
    return logits


def draw(
    key: jax.Array | None,
    logits: AnyArray,
    *,
    temperature: float | AnyArray = 1.0,
    top_k: int | None = None,
    top_p: float | AnyArray | None = None,
    typical: float | AnyArray | None = None,
) -> jax.Array:
    """Returns ids drawn from `softmax(filter_logits(logits, ...))`, int32 `[...]`.

    Args:
      key: a random key; may be None if `temperature` is the number 0, since nothing is drawn then.
      logits, temperature, top_k, top_p, typical: as `filter_logits` takes them.

    Raises:
      TypeError, ValueError: as `filter_logits`; or `key` is None where one is needed.

    >>> draw(None, jnp.array([[0.1, 0.6, 0.3]]), temperature=0)
    Array([1], dtype=int32)
    """
    check_key(key, temperature)
    logits = filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p, typical=typical)
    return _drawn(key, logits)


@jax.jit
def _drawn(key: jax.Array | None, logits: jax.Array) -> jax.Array:
    drawn = jnp.argmax(logits, axis=-1) if key is None else jax.random.categorical(key, logits)
    return drawn.astype(jnp.int32)


def check_key(key: jax.Array | None, temperature: float | AnyArray) -> None:
    """Raises unless `key` is a random key, or None where nothing is drawn."""
    check.random_key(key)
    if key is None and not (isinstance(temperature, numbers.Real) and temperature == 0):
        raise ValueError("`key` must be a jax.random.key; it may be None only if temperature=0, which is greedy")


def _fewest(logits, merit, share):
    """Returns logits with -inf, except for the fewest tokens of the highest merit whose probabilities reach `share`."""
    order = jnp.argsort(merit, axis=-1, descending=True, stable=True)
    rank = jnp.argsort(order, axis=-1)
    sums = jnp.cumsum(jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1), axis=-1)
    before = jnp.pad(sums[..., :-1], [(0, 0)] * (sums.ndim - 1) + [(1, 0)])
    share = jnp.asarray(share, sums.dtype)
    kept = (jnp.take_along_axis(before, rank, axis=-1) < share) | (rank == 0) | (share >= 1)
    return jnp.where(kept, logits, -jnp.inf)


def _rank(merit):
    """Returns the rank of each entry along the last axis; the highest has rank 0."""
    return jnp.argsort(jnp.argsort(merit, axis=-1, descending=True, stable=True), axis=-1)
