"""A linear chain of states, which hidden Markov models and conditional random fields share.

A path s has the score

    initial[s_1] + Σ_t scores_t[s_t] + Σ_t transition_t[s_{t-1}, s_t] + final[s_T]

over the steps where the mask is True. With forward messages α and backward messages β,

    α_t[j] = scores_t[j] + ⊕_i α_{t-1}[i] + transition_t[i, j]            α before the first step: initial
    β_{t-1}[i] = ⊕_j transition_t[i, j] + scores_t[j] + β_t[j]            β after the last step: final

the log-partition is ⊕_j α_T[j] + final[j], and the marginals are

    p(s_t = j) ∝ exp(α_t[j] + β_t[j])
    p(s_{t-1} = i, s_t = j) ∝ exp(α_{t-1}[i] + transition_t[i, j] + scores_t[j] + β_t[j])

A best or sampled path is traced from its end: s_t is chosen by α_t[i] + transition_{t+1}[i, s_{t+1}].
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from jaxseq import _meshes
from jaxseq._promote import expand_rank
from jaxseq.structured import _probabilities, semiring
from jaxseq.structured._steps import shifted
from jaxseq.structured.semiring import Messages, Semiring, log_sum
from jaxseq.typing import AnyArray, Shape


class Chain(NamedTuple):
    """The scores of a chain, as in the formulas above; B stands for any number of batch axes.

    `transition` is `[K, K]`, from row to column; or one matrix for each step but the first, `[T-1, K, K]` or
    `[T-1, *B, K, K]`.
    """

    initial: jax.Array  # [K]
    transition: jax.Array
    scores: jax.Array  # [T, *B, K]
    final: jax.Array  # [K]


class Path(NamedTuple):
    """States, int `[T, B]`, -1 on False steps and for a row without a possible path; and the path's score `[B]`."""

    states: jax.Array
    score: jax.Array


class _Step(NamedTuple):
    scores: jax.Array  # [*B, K]
    follows: jax.Array | None  # bool [*B]: True unless it is a row's first real step; None: True everywhere
    transition: jax.Array | None  # [*B or 1s, K, K]; None: the same at all steps


@functools.partial(jax.jit, static_argnames="parallel")
def forward(
    ring: Semiring, chain: Chain, mask: jax.Array | None, *, parallel: bool | NamedSharding = False
) -> tuple[Messages, jax.Array]:
    """Returns α after each step, scaled, and the log-partition or best score `[*B]`; 0 for a row without steps."""

    def move(alpha, step):
        moved = ring.sum(alpha[..., None] + _transition(chain, step, alpha[..., None]), -2)
        return _where(step.follows, moved, alpha) + step.scores

    start, taken_off = _start(chain)
    if mask is None:
        v, scale = semiring.scaled(start[None] + chain.scores[:1])  # of the first step
        later = _run(ring, move, v[-1] if chain.scores.shape[0] > 0 else start, chain, mask, parallel=parallel)
        messages = Messages(jnp.concatenate([v, later.v]), jnp.concatenate([scale, later.scale]), later.last)
    else:
        messages = _run(ring, move, start, chain, mask, parallel=parallel)
    total = jnp.sum(messages.scale, 0) + taken_off + ring.sum(messages.last + _final(chain), -1)
    return messages, jnp.where(_has_step(chain, mask), total, 0)


@functools.partial(jax.jit, static_argnames="parallel")
def backward(
    ring: Semiring, chain: Chain, mask: jax.Array | None, *, parallel: bool | NamedSharding = False
) -> jax.Array:
    """Returns β at each step, scaled, `[T, *B, K]`."""

    def move(beta, step):
        moved = ring.sum(_transition(chain, step, beta[..., None]) + (step.scores + beta)[..., None, :], -1)
        return _where(step.follows, moved, beta)

    start, _ = semiring.scaled(_final(chain))
    before = _run(ring, move, start, chain, mask, reverse=True, parallel=parallel).v
    if mask is None:
        return jnp.concatenate([before, start[None]])[: chain.scores.shape[0]]
    steps = before.shape[0]
    is_last = jnp.arange(steps).reshape(-1, *[1] * start.ndim) == steps - 1
    return jnp.where(is_last, start[None], shifted(before, -1))


def both_ways(
    chain: Chain, mask: jax.Array | None, *, parallel: bool | NamedSharding = False
) -> tuple[jax.Array, jax.Array]:
    """Returns α and β in the semiring `log`, scaled, `[T, *B, K]` each."""
    alphas = forward(semiring.log, chain, mask, parallel=parallel)[0].v
    return alphas, backward(semiring.log, chain, mask, parallel=parallel)


def best(chain: Chain, mask: jax.Array | None, *, parallel: bool | NamedSharding = False) -> Path:
    """Returns the path with the highest score; ties go to the lower state, compared from the last step back."""
    messages, score = forward(semiring.maximum, chain, mask, parallel=parallel)
    return Path(_if_possible(score, _trace(chain, messages.v, mask)), score)


def draw(key: jax.Array, chain: Chain, mask: jax.Array | None) -> jax.Array:
    """Draws paths with probability ∝ exp(score), int `[T, *B]`; -1 on False steps and where no path is possible."""
    (alphas, *_), total = forward(semiring.log, chain, mask)
    return _if_possible(total, _trace(chain, alphas, mask, jax.random.gumbel(key, alphas.shape, alphas.dtype)))


def draw_states(key: jax.Array, log_probs: AnyArray, shape: Shape) -> jax.Array:
    """Draws states int `shape` from scores `[*shape or (), K]`; -1 where the scores are NaN or all -inf."""
    return jnp.where(jnp.max(log_probs, -1) > -jnp.inf, jax.random.categorical(key, log_probs, shape=shape), -1)


@jax.jit
def log_marginals(alphas: jax.Array, betas: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns log p(s_t) `[T, *B, K]`; -inf on False steps, and in rows where no path is possible."""
    return _hide(normalised(alphas + betas), mask)


def log_last(chain: Chain, alphas: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns log p(s) for each row's last real step, `[*B, K]`; -inf for a row without real steps."""
    last = normalised((alphas[-1] if alphas.shape[0] > 0 else _start(chain)[0]) + _final(chain))
    return jnp.where(_has_step(chain, mask)[..., None], last, -jnp.inf)


@jax.jit
def log_pairs(chain: Chain, alphas: jax.Array, betas: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns log p(s_{t-1}, s_t) `[T-1, *B, K, K]`; -inf on False steps and at a row's first real step.

    For a step after False ones, s_{t-1} is the state of the last real step before.
    """
    later = jax.tree.map(lambda x: x[1:], _steps(chain, mask))
    ahead = (later.scores + betas[1:])[..., None, :]
    pairs = alphas[:-1, ..., :, None] + _transition(chain, later, ahead) + ahead
    real = later.follows if mask is None else later.follows & mask[1:]
    log_probs = normalised(pairs.reshape(*pairs.shape[:-2], pairs.shape[-1] ** 2)).reshape(pairs.shape)
    return jnp.where(real[..., None, None], log_probs, -jnp.inf)


@jax.jit
def _trace(chain, alphas, mask, noise=None):
    """Returns the states int `[T, *B]` of the best path, -1 on False steps, given the α of `maximum`.

    With standard Gumbel `noise` `[T, *B, K]`, and the α of `log`, the path is a random draw.
    """
    steps = _steps(chain, mask)
    if chain.scores.shape[0] == 0:
        return jnp.zeros(chain.scores.shape[:-1], int)
    noise = jnp.zeros_like(alphas) if noise is None else noise
    state = jnp.argmax(alphas[-1] + _final(chain) + noise[-1], -1)
    real = jnp.ones(alphas.shape[:-1], bool) if mask is None else mask

    def step(state, inputs):
        at, real, before, noise = inputs
        chosen = jnp.argmax(before + _into(chain, at, state) + noise, -1)
        return jnp.where(real & at.follows, chosen, state), jnp.where(real, state, -1)

    start = _meshes.for_each_row(chain.initial, alphas)
    before = jnp.concatenate([start[None], alphas[:-1]])
    noise = jnp.concatenate([noise[:1], noise[:-1]])
    _, states = _meshes.scan(step, state, (steps, real, before, noise), reverse=True)
    return states


def _run(ring, move, start, chain, mask, *, reverse=False, parallel: bool | NamedSharding = False) -> Messages:
    """Runs the messages over all steps; without a mask, over all but the first, since each of those follows another."""
    steps = _steps(chain, mask)
    if mask is None:
        steps = jax.tree.map(lambda x: x[1:], steps._replace(follows=None))

    def exactly() -> Messages:
        return semiring.run(ring, move, start, steps, mask, reverse=reverse, parallel=parallel)

    if ring is not semiring.log or parallel or steps.transition is not None:
        return exactly()
    return _probabilities.run_or(exactly, start, steps.scores, steps.follows, chain.transition, mask, reverse=reverse)


def _steps(chain: Chain, mask) -> _Step:
    T, *batch, K = chain.scores.shape
    follows = follows_one(chain, mask)
    if chain.transition.ndim == 2:
        return _Step(chain.scores, follows, None)
    transition = chain.transition
    if transition.ndim == 3:
        transition = transition.reshape(len(transition), *[1] * len(batch), K, K)
    if mask is not None:  # transitions that no row uses, into False or first steps, must not reach a result or gradient
        own_rows = transition.shape[1:-2] == tuple(batch)
        taken = mask & follows
        taken = taken if own_rows else jnp.any(taken, range(1, mask.ndim), keepdims=True)
        transition = jnp.where(taken[1:, ..., None, None], transition, 0)
    into_first = jnp.zeros((1, *transition.shape[1:]), transition.dtype)
    return _Step(chain.scores, follows, jnp.concatenate([into_first, transition])[:T])


def follows_one(chain: Chain, mask: jax.Array | None) -> jax.Array:
    """Returns which steps follow another, bool `[T, *B]`: False up to and including a row's first real step."""
    T, *batch, _ = chain.scores.shape
    if mask is None:
        return jnp.broadcast_to((jnp.arange(T) > 0).reshape(T, *[1] * len(batch)), (T, *batch))
    steps = jnp.arange(T).reshape(T, *[1] * len(batch))
    never = jnp.iinfo(steps.dtype).max
    return steps > jnp.min(jnp.where(mask, steps, never), 0, keepdims=True, initial=never)


def _where(follows, moved, v):
    return moved if follows is None else jnp.where(follows[..., None], moved, v)


def _transition(chain, step, messages):
    return expand_rank(chain.transition if step.transition is None else step.transition, messages)


def _into(chain, step, state):
    """Returns the scores `[*B, K]` of moving from each state to `state` `[*B]`."""
    if step.transition is None:
        return _meshes.rows(chain.transition.T, state)
    K = chain.transition.shape[-1]
    transition = jnp.broadcast_to(step.transition, (*state.shape, K, K))
    return jnp.take_along_axis(transition, state[..., None, None], -1)[..., 0]


def _start(chain):
    """Returns α before the first step, `[*B, K]`, scaled, and the scale that was subtracted."""
    return semiring.scaled(_meshes.for_each_row(chain.initial, chain.scores))


def _if_possible(score, states):
    """Returns the states `[T, *B]` of paths; -1 where the path's score `[*B]` is -inf or NaN."""
    return jnp.where(score[None] > -jnp.inf, states, -1)


def _final(chain):
    """Returns the final scores, `[*B, K]`."""
    return _meshes.for_each_row(chain.final, chain.scores)


def _has_step(chain, mask):
    T, *batch, _ = chain.scores.shape
    return jnp.full(batch, T > 0) if mask is None else jnp.any(mask, 0)


def normalised(scores: jax.Array) -> jax.Array:
    """Returns log-probabilities over the last axis; -inf where all scores are -inf."""
    total = log_sum(scores, -1)[..., None]
    return scores - jnp.where(jnp.isneginf(total), 0, total)


def _hide(log_probs, mask):
    return log_probs if mask is None else jnp.where(mask[..., None], log_probs, -jnp.inf)
