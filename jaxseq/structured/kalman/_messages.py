"""Messages of a linear-Gaussian chain: filtered states forward, information from later observations backward.

A segment of steps is summarised by a function of the state z' at its end and the state z before it,

    p(z', x | z) ∝ N(z'; A z + b, C) exp(ηᵀ z - zᵀ J z / 2)            x: the observations in the segment

Two segments, the first with subscript 1, combine into one by an associative operation (Särkkä & García-Fernández 2021):

    W = (I + C_1 J_2)⁻¹
    A = A_2 W A_1                 b = A_2 W (b_1 + C_1 η_2) + b_2               C = A_2 W C_1 A_2ᵀ + C_2
    J = A_1ᵀ Wᵀ J_2 A_1 + J_1     η = A_1ᵀ Wᵀ (η_2 - J_2 b_1) + η_1

A row's first step has no predecessor, so A = 0. The b and C of all steps up to t are therefore the filtered mean and
covariance; η and J of all steps after t are the backward message. Neither needs the inverse of a state's covariance,
which may be singular. A False step is a segment with A = I and zeros otherwise. A feature that is not seen gives no
information on the state; see `of_seen`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes, masking
from jaxseq.structured.kalman._given import Steps, by_step, initial
from jaxseq.structured.kalman._model import Gaussians, Model, correct, eye, move, of_seen, product, symmetric, times


class Information(NamedTuple):
    """exp(ηᵀ z - zᵀ J z / 2), a Gaussian of z that may not be normalisable: η `[..., Z]`, J `[..., Z, Z]`."""

    vector: jax.Array
    matrix: jax.Array


class Stretch(NamedTuple):
    """A segment of steps, as above: A `[..., Z, Z]`, b `[..., Z]`, C `[..., Z, Z]`, and η and J."""

    transition: jax.Array
    bias: jax.Array
    cov: jax.Array
    information: Information


def forward(model: Model, steps: Steps, each: Stretch | None = None) -> tuple[Gaussians, jax.Array]:
    """Returns the filtered states, held on False steps, and log p(x_t | x_1 … x_{t-1}) `[T, *B]`.

    The latter is 0 where x_t is not seen. If the steps are given as segments, the states that enter each step are found
    by an associative scan, and then all steps run in parallel.
    """
    start = initial(model, steps)

    def advance(model, before, step):
        prior = masking.choose(step.moves, move(model, before), before)
        model = of_seen(model, step.seen)
        correction = correct(model, prior, step.xs)
        return correction.posterior, correction.log_density(step.seen)

    if each is not None:
        upto = jax.lax.associative_scan(combine, each)
        entering = jax.tree.map(_shifted_on, start, Gaussians(upto.bias, upto.cov))
        return advance(model, masking.choose(steps.follows, entering, start), steps)
    same, changing = by_step(model)

    def body(before, now):
        step, changed = now
        after, log_density = advance(same._replace(**changed), before, step)
        return after, (after, log_density)

    return _meshes.scan(body, start, (steps, changing))[1]


def backward(each: Stretch, *, parallel: bool) -> tuple[Information, jax.Array]:
    """Returns the information of later steps on each step's state, and W of each step and its followers, `[T, ...]`."""
    end = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), each.information)
    if parallel:
        onwards = jax.lax.associative_scan(lambda late, early: combine(early, late), each, reverse=True).information
        later = jax.tree.map(lambda end, x: jnp.concatenate([x[1:], end[None]])[: x.shape[0]], end, onwards)
        return later, weight(each.cov, later.matrix)

    def advance(after, step):
        w = weight(step.cov, after.matrix)
        return _absorb(step, after, w), (after, w)

    return _meshes.scan(advance, end, each, reverse=True)[1]


def informed(states: Gaussians, information: Information) -> Gaussians:
    """Returns N(z; mean, cov) exp(ηᵀ z - zᵀ J z / 2), normalised; its covariance is semidefinite by construction."""
    mean, cov = states
    w = weight(cov, information.matrix)
    cov_after = product(w, cov + product(cov, information.matrix, cov), w.mT)
    return Gaussians(times(w, mean + times(cov, information.vector)), symmetric(cov_after))


def weight(cov: jax.Array, precision: jax.Array) -> jax.Array:
    """Returns W = (I + cov precision)⁻¹, which exists for all positive semidefinite matrices."""
    return jnp.linalg.inv(eye(cov) + product(cov, precision))


def stretches(model: Model, steps: Steps) -> Stretch:
    """Returns each step as a segment, `[T, ...]`."""
    start = initial(model, steps)
    moves, starts = steps.moves, steps.real & ~steps.follows

    def pick(moving, starting, still):
        """Selects by the kind of a step: with a predecessor, the first of a row, or False."""
        return masking.choose(moves, moving, masking.choose(starts, starting, still))

    matrix = jnp.zeros((steps.xs.shape[0], *start.cov.shape), steps.xs.dtype)
    vector = jnp.zeros((steps.xs.shape[0], *start.mean.shape), steps.xs.dtype)
    transition = pick(model.transition + matrix, matrix, matrix + eye(matrix))
    noise = Gaussians(
        pick(model.transition_bias + vector, start.mean[None], vector),
        pick(model.transition_cov + matrix, start.cov[None], matrix),
    )
    model = of_seen(model, steps.seen)
    correction = correct(model, noise, steps.xs)
    back = product(correction.whiten, model.observation, transition)
    said = Information(times(back.mT, correction.white), product(back.mT, back))
    kept = transition - product(correction.gain, model.observation, transition)
    return Stretch(kept, *correction.posterior, said)


def combine(first: Stretch, second: Stretch) -> Stretch:
    """Returns the segment that consists of two consecutive ones."""
    w = weight(first.cov, second.information.matrix)
    through = product(second.transition, w)
    return Stretch(
        transition=product(through, first.transition),
        bias=times(through, first.bias + times(first.cov, second.information.vector)) + second.bias,
        cov=symmetric(product(through, first.cov, second.transition.mT)) + second.cov,
        information=_absorb(first, second.information, w),
    )


def _absorb(stretch, after, w):
    """Returns the information on the state before a segment, from the segment and the information on its end."""
    back = product(w, stretch.transition).mT
    return Information(
        vector=times(back, after.vector - times(after.matrix, stretch.bias)) + stretch.information.vector,
        matrix=symmetric(product(back, after.matrix, stretch.transition)) + stretch.information.matrix,
    )


def _shifted_on(first, xs):
    return jnp.concatenate([first[None], xs])[: xs.shape[0]]
