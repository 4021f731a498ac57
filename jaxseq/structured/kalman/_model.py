"""The linear-Gaussian state-space model, and its operations on a Gaussian state."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from jaxseq.typing import AnyArray


class Params(NamedTuple):
    """A linear-Gaussian state-space model with Z state features and X observed features.

    z_1 ~ N(initial_mean, initial_cov)
    z_t = transition z_{t-1} + transition_bias + N(0, transition_cov)
    x_t = observation z_t + observation_bias + N(0, observation_cov)

    Each of the last six is either the same at all steps, with the shape below, or given for each step: `[T, ...]` for
    those of observations, `[T-1, ...]` for those of transitions, from each step to the next. If rows differ, their axes
    come after time, `[T, *B, ...]`. Controls are such a `transition_bias`: `us @ matrix.T` for inputs us
    `[T-1, *B, U]`.

    A bias of None is zero. Covariances are symmetric and positive semidefinite; those of states may be singular. The
    covariance of x_t given the steps before it must be positive definite, as it is if `observation_cov` is. For
    smoothing, and with `parallel`, the covariance of x_t given z_{t-1} must be positive definite too.
    """

    initial_mean: AnyArray  # [Z]
    initial_cov: AnyArray  # [Z, Z]
    transition: AnyArray  # [Z, Z]
    transition_bias: AnyArray | None  # [Z]
    transition_cov: AnyArray  # [Z, Z]
    observation: AnyArray  # [X, Z]
    observation_bias: AnyArray | None  # [X]
    observation_cov: AnyArray  # [X, X]


class Model(NamedTuple):
    """Params in the form used for computation: all but the initial ones start with axes T and B, of size 1 if shared.

    Transitions are stored at the step that they lead into. The model of a single step has no axis T.
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
    """The correction of a state by an observation; S = L Lᵀ is the covariance of x that the state predicts."""

    posterior: Gaussians
    gain: jax.Array  # [..., Z, X]
    whiten: jax.Array  # [..., X, X], L⁻¹
    white: jax.Array  # [..., X], L⁻¹ (x - its predicted mean)

    def log_density(self, seen: jax.Array | None) -> jax.Array:
        """Returns log N(x; its predicted mean, S) for the seen features."""
        X = self.white.shape[-1]
        count = X if seen is None else jnp.sum(jnp.broadcast_to(seen, self.white.shape), -1, self.white.dtype)
        scale = jnp.sum(jnp.log(jnp.diagonal(self.whiten, axis1=-2, axis2=-1)), -1)
        return scale - (jnp.sum(self.white**2, -1) + count * math.log(2 * math.pi)) / 2


def product(*matrices: jax.Array) -> jax.Array:
    """Returns the matrices' product in full precision; a GPU's default precision is too low for covariances."""
    return functools.reduce(functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST), matrices)


def times(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Returns matrix · vector."""
    return product(matrix, vector[..., None])[..., 0]


def symmetric(matrix: jax.Array) -> jax.Array:
    """Returns the mean of a matrix and its transpose."""
    return (matrix + matrix.mT) / 2


def move(model: Model, states: Gaussians) -> Gaussians:
    """Returns the states after one transition."""
    return _affine(model.transition, model.transition_bias, model.transition_cov, states)


def observe(model: Model, states: Gaussians) -> Gaussians:
    """Returns the distribution of the observations of states."""
    return _affine(model.observation, model.observation_bias, model.observation_cov, states)


def of_seen(model: Model, seen: jax.Array | None) -> Model:
    """Returns the model in which a feature that is not seen is independent noise N(0, 1); `seen` `[..., X or 1]`.

    A zero observed there gives no information on the state, and the params of the feature have no gradient.
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
    """Returns the correction of a state by an observation x `[..., X]`, with the covariance in Joseph's form."""
    predicted = observe(model, prior)
    root = jnp.linalg.cholesky(predicted.cov)
    whiten = solve_triangular(root, jnp.broadcast_to(eye(root), root.shape), lower=True)
    wrong = x - predicted.mean
    gain = product(prior.cov, model.observation.mT, whiten.mT, whiten)
    kept = eye(prior.cov) - product(gain, model.observation)
    cov = product(kept, prior.cov, kept.mT) + product(gain, model.observation_cov, gain.mT)
    return Correction(Gaussians(prior.mean + times(gain, wrong), symmetric(cov)), gain, whiten, times(whiten, wrong))


def eye(like: jax.Array) -> jax.Array:
    """Returns the identity `[1, ..., N, N]` with as many axes as the given matrices."""
    N = like.shape[-1]
    return jnp.eye(N, dtype=like.dtype).reshape(*[1] * (like.ndim - 2), N, N)


def whole(states: Gaussians) -> Gaussians:
    """Returns the states with a covariance for each row."""
    return Gaussians(states.mean, jnp.broadcast_to(states.cov, (*states.mean.shape, states.mean.shape[-1])))


def _affine(matrix, bias, noise, states):
    cov = product(matrix, states.cov, matrix.mT) + noise
    return Gaussians(times(matrix, states.mean) + bias, symmetric(cov))
