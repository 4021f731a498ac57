"""The linear-Gaussian state-space model, and what it does with a Gaussian state."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular


class Params(NamedTuple):
    """A linear-Gaussian state-space model of Z state features and X observed ones.

    z_1 ~ N(initial_mean, initial_cov)
    z_t = transition z_{t-1} + transition_bias + N(0, transition_cov)
    x_t = observation z_t + observation_bias + N(0, observation_cov)

    Each of the latter six is the same at all steps, of the shape below, or given for each: what observations come by
    `[T, ...]`, what moves states `[T-1, ...]`, from each step to the next. Where rows differ, their axes come after
    time, `[T, *B, ...]`. Controls are such a `transition_bias`: `us @ matrix.T` with inputs us `[T-1, *B, U]`.

    A bias of None is none. Covariances are symmetric and positive semidefinite, those of the state singular at will;
    that of an x_t given the steps before it must be positive definite, as it is where `observation_cov` is. All that
    looks back, or runs in parallel, needs that of an x_t given z_{t-1} to be so.
    """

    initial_mean: jax.Array  # [Z]
    initial_cov: jax.Array  # [Z, Z]
    transition: jax.Array  # [Z, Z]
    transition_bias: jax.Array | None  # [Z]
    transition_cov: jax.Array  # [Z, Z]
    observation: jax.Array  # [X, Z]
    observation_bias: jax.Array | None  # [X]
    observation_cov: jax.Array  # [X, X]


class Model(NamedTuple):
    """Params as they are computed with: all but the initial ones lead with T and B, or with 1s where they are the same.

    What moves a state stands at the step that it moves into. Of one step they lead with B alone.
    """

    initial_mean: jax.Array  # [Z]
    initial_cov: jax.Array
    transition: jax.Array
    transition_bias: jax.Array
    transition_cov: jax.Array
    observation: jax.Array
    observation_bias: jax.Array
    observation_cov: jax.Array


class Gaussians(NamedTuple):
    """Means `[..., N]` and covariances `[..., N, N]`."""

    mean: jax.Array
    cov: jax.Array


class Correction(NamedTuple):
    """What an observation does to a state; with S = L Lᵀ the covariance of x that the state predicts."""

    posterior: Gaussians
    gain: jax.Array  # [..., Z, X]
    whiten: jax.Array  # [..., X, X], L⁻¹
    white: jax.Array  # [..., X], L⁻¹ (x - its predicted mean)

    def log_density(self, seen: jax.Array | None) -> jax.Array:
        """The logarithm of N(x; its predicted mean, S), of the features seen."""
        X = self.white.shape[-1]
        count = X if seen is None else jnp.sum(jnp.broadcast_to(seen, self.white.shape), -1, self.white.dtype)
        scale = jnp.sum(jnp.log(jnp.diagonal(self.whiten, axis1=-2, axis2=-1)), -1)
        return scale - (jnp.sum(self.white**2, -1) + count * math.log(2 * math.pi)) / 2


def product(*matrices: jax.Array) -> jax.Array:
    """Returns the matrices' product, in full precision: covariances do not survive a GPU's default."""
    return functools.reduce(functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST), matrices)


def times(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Returns matrix · vector."""
    return product(matrix, vector[..., None])[..., 0]


def symmetric(matrix: jax.Array) -> jax.Array:
    """Returns the mean of a matrix and its transpose."""
    return (matrix + matrix.mT) / 2


def move(model: Model, states: Gaussians) -> Gaussians:
    """Returns the states one step on."""
    return _affine(model.transition, model.transition_bias, model.transition_cov, states)


def observe(model: Model, states: Gaussians) -> Gaussians:
    """Returns what is observed of the states."""
    return _affine(model.observation, model.observation_bias, model.observation_cov, states)


def of_seen(model: Model, seen: jax.Array | None) -> Model:
    """Returns the model by which a feature that is not seen is noise of its own, N(0, 1); `seen` `[..., X or 1]`.

    Where it is 0, it says nothing of the state, and whatever its params are, they have no gradient.
    """
    if seen is None:
        return model
    seen = jnp.broadcast_to(seen, (*seen.shape[:-1], model.observation.shape[-2]))
    both = seen[..., :, None] & seen[..., None, :]
    return model._replace(
        observation=jnp.where(seen[..., None], model.observation, 0),
        observation_bias=jnp.where(seen, model.observation_bias, 0),
        observation_cov=jnp.where(both, model.observation_cov, eye(model.observation_cov)),
    )


def correct(model: Model, prior: Gaussians, x: jax.Array) -> Correction:
    """Returns what an observation x `[..., X]` says of a state, the covariance in Joseph's form."""
    predicted = observe(model, prior)
    root = jnp.linalg.cholesky(predicted.cov)
    whiten = solve_triangular(root, jnp.broadcast_to(eye(root), root.shape), lower=True)
    wrong = x - predicted.mean
    gain = product(prior.cov, model.observation.mT, whiten.mT, whiten)
    kept = eye(prior.cov) - product(gain, model.observation)
    cov = product(kept, prior.cov, kept.mT) + product(gain, model.observation_cov, gain.mT)
    return Correction(Gaussians(prior.mean + times(gain, wrong), symmetric(cov)), gain, whiten, times(whiten, wrong))


def eye(like: jax.Array) -> jax.Array:
    """Returns the identity for matrices like these, `[1, ..., N, N]` of as many axes."""
    N = like.shape[-1]
    return jnp.eye(N, dtype=like.dtype).reshape(*[1] * (like.ndim - 2), N, N)


def whole(states: Gaussians) -> Gaussians:
    """Returns the states with a covariance for each row."""
    return Gaussians(states.mean, jnp.broadcast_to(states.cov, (*states.mean.shape, states.mean.shape[-1])))


def _affine(matrix, bias, noise, states):
    cov = product(matrix, states.cov, matrix.mT) + noise
    return Gaussians(times(matrix, states.mean) + bias, symmetric(cov))
