"""The probability of labels, and their best alignment, from messages over the states blank, label, blank, …, blank.

    e_t[s] = log p_t(symbol of s)
    α_t[s] = e_t[s] + (α_{t-1}[s] ⊕ α_{t-1}[s-1] ⊕ α_{t-1}[s-2])
    β_t[s] = e_t[s] + (β_{t+1}[s] ⊕ β_{t+1}[s+1] ⊕ β_{t+1}[s+2])

where a step of two states skips the blank between two different labels. Before the first frame α is 0 at the first
blank, and after the last frame β is 0 at the last blank; both are -inf elsewhere. With ⊕ = log Σ exp and n labels,

    log p(labels) = α_T[2n] ⊕ α_T[2n-1]        ∂ log p(labels) / ∂ log p_t(v) = Σ_{s emits v} p(s_t = s | labels)
    p(s_t = s | labels) ∝ exp(α_t[s] + β_t[s] - e_t[s])

With ⊕ = max they give the best alignment. Source: Graves et al. 2006.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes
from jaxseq.structured import semiring
from jaxseq.structured._indices import along_last
from jaxseq.structured.ctc._inputs import Target, frames, target
from jaxseq.structured.semiring import log_sum
from jaxseq.typing import AnyArray


class Alignment(NamedTuple):
    """The best path: its symbol at each frame `[T, B]`, -1 on False frames, and its log-probability `[B]`.

    `tokens` are labels or the blank. `positions` are indices into the given labels, or -1 for the blank.
    """

    tokens: jax.Array
    positions: jax.Array
    score: jax.Array


def loss(
    log_probs: AnyArray,
    labels: AnyArray,
    *,
    mask: AnyArray | None = None,
    label_mask: AnyArray | None = None,
    blank: int = 0,
) -> jax.Array:
    """Returns -log p(labels | log_probs) `[B]`, in nats, summed over all alignments and not divided by any length.

    If no path gives the labels, because there are too few frames or a probability is 0, the loss is inf and its
    gradient 0. The same holds if a label is the blank or not among the V symbols. To average, drop such rows:
    `jnp.where(jnp.isinf(losses), 0, losses)`. Without frames and labels the loss is 0.

    Args:
      log_probs: float `[T, B, V]`, with any number of batch axes: natural logarithms of probabilities, as
        `jax.nn.log_softmax` returns them. They are not normalised again. 16-bit ones are widened to float32.
      labels: int `[L, B]`.
      mask: bool `[T, B]`, True where a frame is real, in any pattern; False frames are left out.
      label_mask: bool `[L, B]`, True where a label is real, in any pattern; False labels are left out.
      blank: the id of the blank among the V symbols.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> log_probs = jnp.log(jnp.array([[0.4, 0.6], [0.3, 0.7]]))
    >>> print(f"{jnp.exp(-loss(log_probs, jnp.array([1]))):.2f}")  # all but two blanks
    0.88
    >>> loss(log_probs, jnp.array([1, 1])).item()  # a repeat needs a blank between
    inf
    """
    log_probs, mask, blank = frames(log_probs, mask, blank)
    return -_compiled(log_probs, target(labels, label_mask, log_probs, blank), mask)


def align(
    log_probs: AnyArray,
    labels: AnyArray,
    *,
    mask: AnyArray | None = None,
    label_mask: AnyArray | None = None,
    blank: int = 0,
) -> Alignment:
    """Returns the most probable path that gives the labels, as `Alignment(tokens, positions, score)`.

    If there is no such path, the score is -inf, and tokens and positions are -1; they are also -1 if the score is NaN.
    Arguments as for `loss`.

    >>> log_probs = jnp.log(jnp.array([[0.6, 0.4], [0.3, 0.7], [0.8, 0.2]]))
    >>> align(log_probs, jnp.array([1])).positions.tolist()
    [-1, 0, -1]
    """
    log_probs, mask, blank = frames(log_probs, mask, blank)
    return _align(log_probs, target(labels, label_mask, log_probs, blank), mask)


@jax.jit
def _align(log_probs, goal, mask):
    alphas, score = _alphas(semiring.maximum, _emitted(log_probs, goal), goal, mask)
    states = _walk_back(alphas, goal, mask)
    states = jnp.where(score[None] > -jnp.inf, states, -1)

    def of_states(values):
        found = jnp.take_along_axis(values[None], jnp.maximum(states, 0)[..., None], -1)[..., 0]
        return jnp.where(states < 0, -1, found)

    return Alignment(of_states(goal.symbols), of_states(goal.places), score)


@jax.custom_jvp
def _log_probability(log_probs: jax.Array, goal: Target, mask: jax.Array | None) -> jax.Array:
    """Returns log p(labels) `[*B]`; its derivative is the posterior of the symbols at each frame."""
    return _alphas(semiring.log, _emitted(log_probs, goal), goal, mask)[1]


@_log_probability.defjvp
def _log_probability_jvp(primals, tangents):
    log_probs, goal, mask = primals
    emitted = _emitted(log_probs, goal)
    alphas, total = _alphas(semiring.log, emitted, goal, mask)
    scores = alphas + _betas(emitted, goal, mask) - jnp.where(jnp.isneginf(emitted), 0, emitted)
    largest = log_sum(scores, -1)[..., None]
    posteriors = jnp.exp(scores - jnp.where(jnp.isneginf(largest), 0, largest))
    if mask is not None:
        posteriors = jnp.where(mask[..., None], posteriors, 0)
    # The posteriors of states are added up by symbol with a matrix product: a scatter would apply updates one by one.
    symbols = jax.nn.one_hot(goal.symbols, log_probs.shape[-1], dtype=log_probs.dtype)
    said = jnp.matmul(jnp.moveaxis(posteriors, 0, -2), symbols, precision=jax.lax.Precision.HIGHEST)
    moved = jnp.sum(jnp.moveaxis(said, -2, 0) * tangents[0], (0, -1))
    return total, jnp.where(jnp.isneginf(total), 0, moved)


_compiled = jax.jit(_log_probability)  # otherwise each eager call would compile its loops again


def _emitted(log_probs, goal):
    """Returns log p_t(symbol of s), `[T, *B, S]`."""
    found = jnp.take_along_axis(log_probs, goal.symbols[None], -1, mode="promise_in_bounds")
    return jnp.where(goal.possible[None], found, -jnp.inf)


def _alphas(ring, emitted, goal, mask):
    """Returns the α of all frames, scaled, and the score of all paths."""

    def move(alpha, emitted):
        return _sum_of(ring, alpha, _shifted(alpha, 1), jnp.where(goal.skips, _shifted(alpha, 2), -jnp.inf)) + emitted

    start = _only(jnp.zeros_like(goal.last), emitted)
    messages = semiring.run(ring, move, start, emitted, mask)
    return messages.v, jnp.sum(messages.scale, 0) + ring.sum(_ending(messages.last, goal), -1)


def _betas(emitted, goal, mask):
    """Returns the β of all frames, scaled."""

    def move(beta, emitted):
        skipping = _shifted(jnp.where(goal.skips, beta, -jnp.inf), -2)
        return _sum_of(semiring.log, beta, _shifted(beta, -1), skipping) + emitted

    return semiring.run(semiring.log, move, _only(goal.last, emitted), emitted, mask, reverse=True).v


def _walk_back(alphas, goal, mask):
    """Returns the states int `[T, *B]` of the best path, -1 on False frames."""
    before = jnp.concatenate([_only(jnp.zeros_like(goal.last), alphas)[None], alphas])
    state = jnp.argmax(_ending(before[-1], goal), -1)

    def step(state, inputs):
        before, real = inputs
        sources = jnp.stack([state, state - 1, state - 2], -1)
        skips = jnp.take_along_axis(goal.skips, state[..., None], -1)
        allowed = jnp.concatenate([jnp.ones_like(skips), state[..., None] > 0, skips], -1)
        scores = jnp.take_along_axis(before, jnp.maximum(sources, 0), -1)
        moved = jnp.argmax(jnp.where(allowed, scores, -jnp.inf), -1)
        return jnp.where(real, state - moved, state), jnp.where(real, state, -1)

    real = jnp.ones(alphas.shape[:-1], bool) if mask is None else mask
    return _meshes.scan(step, state, (before[:-1], real), reverse=True)[1]


def _only(state, emitted):
    """Returns the messages before the first or after the last frame, `[*B, S]`: 0 at `state` int `[*B]`, else -inf."""
    at = along_last(emitted.shape[1:]) == state[..., None]
    return jnp.where(at, 0, -jnp.inf).astype(emitted.dtype)


def _ending(alpha, goal):
    """Returns the α of the states in which a path may end, the last label and the blank after it; -inf elsewhere."""
    state = along_last(alpha.shape)
    ends = (state == goal.last[..., None]) | (state == goal.last[..., None] - 1)
    return jnp.where(ends, alpha, -jnp.inf)


def _shifted(x, count):
    """Returns x shifted right by `count` states, or left if it is negative; -inf moves in."""
    return jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), [(0, 0, 0)] * (x.ndim - 1) + [(count, -count, 0)])


def _sum_of(ring, *terms):
    return ring.sum(jnp.stack(terms), 0)
