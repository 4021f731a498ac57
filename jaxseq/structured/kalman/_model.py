"""The linear-Gaussian state-space model, and what it does with a Gaussian state."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from jaxseq import check, masking


class Params(NamedTuple):
    """A linear-Gaussian state-space model of Z state features and X observed ones, the same at all steps.

    z_1 ~ N(initial_mean, initial_cov)
    z_t = transition z_{t-1} + transition_bias + N(0, transition_cov)
    x_t = observation z_t + observation_bias + N(0, observation_cov)

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


class Gaussians(NamedTuple):
    """Means `[..., N]` and covariances `[..., N, N]`."""

    mean: jax.Array
    cov: jax.Array


class Steps(NamedTuple):
    """Observations, zeros where there are none, and flags of `[T, *B]`, or of B 1s where all rows are alike.

    Covariances depend on the flags only, so they have their batch axes: without a mask one serves all rows.
    """

    xs: jax.Array  # [T, *B, X]
    real: jax.Array
    observed: jax.Array
    follows: jax.Array  # not a row's first real step, nor before it


class Correction(NamedTuple):
    """What an observation does to a state; with S = L Lᵀ the covariance of x that the state predicts."""

    posterior: Gaussians
    gain: jax.Array  # [..., Z, X]
    whiten: jax.Array  # [..., X, X], L⁻¹
    white: jax.Array  # [..., X], L⁻¹ (x - its predicted mean)

    @property
    def log_density(self) -> jax.Array:
        """The logarithm of N(x; its predicted mean, S)."""
        scale = jnp.sum(jnp.log(jnp.diagonal(self.whiten, axis1=-2, axis2=-1)), -1)
        return scale - (jnp.sum(self.white**2, -1) + self.white.shape[-1] * math.log(2 * math.pi)) / 2


def product(*matrices: jax.Array) -> jax.Array:
    """Returns the matrices' product, in full precision: covariances do not survive a GPU's default."""
    return functools.reduce(functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST), matrices)


def times(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Returns matrix · vector."""
    return product(matrix, vector[..., None])[..., 0]


def symmetric(matrix: jax.Array) -> jax.Array:
    """Returns the mean of a matrix and its transpose."""
    return (matrix + matrix.mT) / 2


def move(params: Params, states: Gaussians) -> Gaussians:
    """Returns the states one step on."""
    return _affine(params.transition, params.transition_bias, params.transition_cov, states)


def observe(params: Params, states: Gaussians) -> Gaussians:
    """Returns what is observed of the states."""
    return _affine(params.observation, params.observation_bias, params.observation_cov, states)


def correct(params: Params, prior: Gaussians, x: jax.Array, observed: jax.Array | None = None) -> Correction:
    """Returns what an observation x `[..., X]` says of a state, the covariance in Joseph's form.

    Where `observed` is False the result means nothing, and has finite gradients.
    """
    predicted = observe(params, prior)
    if observed is not None:
        one = jnp.eye(x.shape[-1], dtype=x.dtype)
        predicted = predicted._replace(cov=jnp.where(observed[..., None, None], predicted.cov, one))
    root = jnp.linalg.cholesky(predicted.cov)
    whiten = solve_triangular(root, jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), root.shape), lower=True)
    white = times(whiten, x - predicted.mean)
    gain = product(prior.cov, params.observation.T, whiten.mT, whiten)
    kept = jnp.eye(prior.mean.shape[-1], dtype=x.dtype) - product(gain, params.observation)
    cov = product(kept, prior.cov, kept.mT) + product(gain, params.observation_cov, gain.mT)
    posterior = Gaussians(prior.mean + times(gain, x - predicted.mean), symmetric(cov))
    return Correction(posterior, gain, whiten, white)


def initial(params: Params, steps: Steps) -> Gaussians:
    """Returns the state before any step."""
    mean = jnp.broadcast_to(params.initial_mean, (*steps.xs.shape[1:-1], *params.initial_mean.shape))
    return Gaussians(mean, jnp.broadcast_to(params.initial_cov, (*steps.observed.shape[1:], *params.initial_cov.shape)))


def whole(states: Gaussians) -> Gaussians:
    """Returns the states with a covariance for each row."""
    return Gaussians(states.mean, jnp.broadcast_to(states.cov, (*states.mean.shape, states.mean.shape[-1])))


def shown(states: Gaussians, steps: Steps) -> Gaussians:
    """Returns the states as results: a covariance for each row, and zeros on False steps."""
    return masking.keep(steps.real, whole(states))


def enter(params: Params, xs: jax.Array, mask: jax.Array | None, missing: jax.Array | None) -> tuple[Params, Steps]:
    """Returns the arguments of the public functions, checked, with biases of zeros for None."""
    params = checked(params)
    xs = check.inputs("xs", "T, B, X", xs, params)
    X = params.observation.shape[0]
    if xs.shape[-1] != X:
        raise ValueError(
            f"`xs` must have X = {X} features, the rows of `params.observation`; got {xs.dtype} {xs.shape}"
        )
    mask = check.flags("mask", mask, xs.shape[:-1])
    missing = check.flags("missing", missing, xs.shape[:-1])
    return params, _steps(xs, mask, missing)


def checked(params: Params) -> Params:
    """Returns the params, with biases of zeros for None."""
    if not isinstance(params, Params):
        raise TypeError(f"`params` must be kalman.Params; got {type(params).__name__}")
    axes = Params("Z", "Z, Z", "Z, Z", "Z", "Z, Z", "X, Z", "X", "X, X")._asdict()  # pyright: ignore[reportArgumentType]
    given = {name: value for name, value in params._asdict().items() if value is not None or "bias" not in name}
    given = {name: check.array(f"params.{name}", axes[name], value) for name, value in given.items()}
    observation = given["observation"]
    if observation.ndim != 2 or 0 in observation.shape:
        raise ValueError(
            f"`params.observation` must be [X, Z], with features; got {observation.dtype} {observation.shape}"
        )
    size = dict(zip("XZ", observation.shape, strict=True))
    for name, value in given.items():
        expected = tuple(size[axis] for axis in axes[name].split(", "))
        if value.shape != expected:
            raise ValueError(
                f"`params.{name}` must be [{axes[name]}] = {expected}, by `params.observation` [X, Z] = "
                f"{observation.shape}; got {value.dtype} {value.shape}"
            )
    dtypes = {value.dtype for value in given.values()}
    if len(dtypes) > 1 or not dtypes <= {jnp.dtype("float32"), jnp.dtype("float64")}:
        raise TypeError(f"`params` must be all float32 or all float64; got {', '.join(sorted(map(str, dtypes)))}")
    biases = {f"{name}_bias": jnp.zeros(given[name].shape[0], *dtypes) for name in ("transition", "observation")}
    return Params(**{**biases, **given})


def _affine(matrix, bias, noise, states):
    cov = product(matrix, states.cov, matrix.T) + noise
    return Gaussians(times(matrix, states.mean) + bias, symmetric(cov))


def _steps(xs, mask, missing):
    T, *batch, _ = xs.shape
    real = jnp.ones((T, *[1] * len(batch)), bool) if mask is None else mask
    observed = real if missing is None else real & ~missing
    follows = jnp.cumsum(real, 0) - real > 0
    return Steps(jnp.where(observed[..., None], xs, 0), real, observed, follows)
