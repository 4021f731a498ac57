"""Messages of a linear-Gaussian chain: forward the filtered states, backward what later observations say.

A stretch of steps is summed up by what it says of the state z' at its end and of the state z before it,

    p(z', x | z) ∝ N(z'; A z + b, C) exp(ηᵀ z - zᵀ J z / 2)            x: the observations in the stretch

Two stretches, the first with subscript 1, make one, by an associative operation (Särkkä & García-Fernández 2021):

    W = (I + C_1 J_2)⁻¹
    A = A_2 W A_1                 b = A_2 W (b_1 + C_1 η_2) + b_2               C = A_2 W C_1 A_2ᵀ + C_2
    J = A_1ᵀ Wᵀ J_2 A_1 + J_1     η = A_1ᵀ Wᵀ (η_2 - J_2 b_1) + η_1

A row's first step comes from nowhere, with A = 0, so that b and C of all steps up to t are the filtered mean and
covariance; η and J of all steps after t are the backward message. Neither needs the inverse of a state's covariance,
which may be singular. A step that the mask leaves out is the stretch A = I, of zeros else.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq.structured.kalman._model import (
    Gaussians,
    Params,
    Steps,
    correct,
    initial,
    move,
    product,
    symmetric,
    times,
)


class Information(NamedTuple):
    """exp(ηᵀ z - zᵀ J z / 2), a Gaussian of z that need not be normalised: η `[..., Z]`, J `[..., Z, Z]`."""

    vector: jax.Array
    matrix: jax.Array


class Stretch(NamedTuple):
    """Steps in a row, as above: A `[..., Z, Z]`, b `[..., Z]`, C `[..., Z, Z]`, and η, J."""

    transition: jax.Array
    bias: jax.Array
    cov: jax.Array
    information: Information


@functools.partial(jax.jit, static_argnames="parallel")
def forward(params: Params, steps: Steps, *, parallel: bool = False) -> tuple[Gaussians, jax.Array]:
    """Returns the filtered states, held on False steps, and log p(x_t | x_1 … x_{t-1}) `[T, *B]`.

    The latter are 0 where x_t is not seen. In parallel the states that enter all steps are found at once, and then all
    steps run side by side.
    """
    start = initial(params, steps)

    def advance(before, step):
        prior = masking.choose(step.follows, move(params, before), before)
        correction = correct(params, prior, step.xs, step.observed)
        after = masking.choose(step.observed, correction.posterior, prior)
        after = masking.choose(step.real, after, before)
        return after, (after, jnp.where(step.observed, correction.log_density, 0))

    if not parallel:
        return jax.lax.scan(advance, start, steps)[1]
    upto = jax.lax.associative_scan(combine, stretches(params, steps))
    entering = jax.tree.map(_shifted_on, start, Gaussians(upto.bias, upto.cov))
    return advance(masking.choose(steps.follows, entering, start), steps)[1]


@functools.partial(jax.jit, static_argnames="parallel")
def backward(params: Params, steps: Steps, *, parallel: bool = False) -> Information:
    """Returns what the steps after each one say of its state, `[T, ...]`."""
    each = stretches(params, steps)
    end = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), each.information)
    if parallel:
        onwards = jax.lax.associative_scan(lambda late, early: combine(early, late), each, reverse=True).information
    else:

        def advance(after, step):
            before = _absorb(step, after, weight(step.cov, after.matrix))
            return before, before

        _, onwards = jax.lax.scan(advance, end, each, reverse=True)
    return jax.tree.map(lambda end, x: jnp.concatenate([x[1:], end[None]])[: x.shape[0]], end, onwards)


def informed(states: Gaussians, information: Information) -> Gaussians:
    """Returns N(z; mean, cov) exp(ηᵀ z - zᵀ J z / 2), normalised, with a covariance semidefinite by its form."""
    mean, cov = states
    w = weight(cov, information.matrix)
    cov_after = product(w, cov + product(cov, information.matrix, cov), w.mT)
    return Gaussians(times(w, mean + times(cov, information.vector)), symmetric(cov_after))


def weight(cov: jax.Array, precision: jax.Array) -> jax.Array:
    """Returns W = (I + cov precision)⁻¹, which exists for any two positive semidefinite matrices."""
    return jnp.linalg.inv(jnp.eye(cov.shape[-1], dtype=cov.dtype) + product(cov, precision))


def stretches(params: Params, steps: Steps) -> Stretch:
    """Returns each step as a stretch, `[T, ...]`."""
    nowhere = jnp.zeros_like(params.transition)
    first = _stretch(params, nowhere, Gaussians(params.initial_mean, params.initial_cov), steps)
    push = Gaussians(params.transition_bias, params.transition_cov)  # pyright: ignore[reportArgumentType]
    later = _stretch(params, params.transition, push, steps)
    each = masking.choose(steps.follows, later, first)
    none = jax.tree.map(jnp.zeros_like, each)
    none = none._replace(transition=none.transition + jnp.eye(nowhere.shape[-1], dtype=nowhere.dtype))
    return masking.choose(steps.real, each, none)


def combine(first: Stretch, second: Stretch) -> Stretch:
    """Returns the stretch that two make, one after the other."""
    w = weight(first.cov, second.information.matrix)
    through = product(second.transition, w)
    return Stretch(
        transition=product(through, first.transition),
        bias=times(through, first.bias + times(first.cov, second.information.vector)) + second.bias,
        cov=symmetric(product(through, first.cov, second.transition.mT)) + second.cov,
        information=_absorb(first, second.information, w),
    )


def _absorb(stretch, after, w):
    """What is known of the state before a stretch, by it and by what is known of the state at its end."""
    back = product(w, stretch.transition).mT
    return Information(
        vector=times(back, after.vector - times(after.matrix, stretch.bias)) + stretch.information.vector,
        matrix=symmetric(product(back, after.matrix, stretch.transition)) + stretch.information.matrix,
    )


def _stretch(params: Params, transition: jax.Array, noise: Gaussians, steps: Steps) -> Stretch:
    """Each step, if all came by the same transition and noise."""
    correction = correct(params, noise, steps.xs)
    back = product(correction.whiten, params.observation, transition)
    said = Information(times(back.mT, correction.white), product(back.mT, back))
    kept = transition - product(correction.gain, params.observation, transition)
    seen = Stretch(kept, *correction.posterior, said)
    unseen = Stretch(transition, *noise, jax.tree.map(jnp.zeros_like, said))
    Z = transition.shape[-1]
    vector, matrix = (*steps.xs.shape[:-1], Z), (*steps.observed.shape, Z, Z)
    shapes = Stretch(matrix, vector, matrix, Information(vector, matrix))  # pyright: ignore[reportArgumentType]
    seen, unseen = (jax.tree.map(jnp.broadcast_to, each, shapes) for each in (seen, unseen))
    return masking.choose(steps.observed, seen, unseen)


def _shifted_on(first, xs):
    return jnp.concatenate([first[None], xs])[: xs.shape[0]]
