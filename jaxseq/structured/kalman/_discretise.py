"""Steps of any length: the solution of a linear stochastic differential equation over a time gap (Van Loan 1978).

    dz = (drift z + bias) dt + dw             w a Wiener process with Cov(w_1) = diffusion

moves a state over a gap h by

    transition = exp(drift h)       transition_bias = ∫ exp(drift s) bias ds
    transition_cov = ∫ exp(drift s) diffusion exp(drift s)ᵀ ds                         s from 0 to h

The gap is halved until drift · h is small. There the three are summed as power series, and then doubled back:

    transition(2h) = F F     transition_bias(2h) = F b + b     transition_cov(2h) = F C Fᵀ + C        F, b, C those of h

All numbers stay small. In Van Loan's single exponential of a block matrix, exp(-drift h) grows for damped states.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxseq import _meshes, check, masking
from jaxseq.structured.kalman._model import product, symmetric, times
from jaxseq.typing import AnyArray

_TERMS, _DOUBLINGS = 18, 40  # 2^-18 / 18! is below the precision of float64; |drift h| may be up to 2^39


class Discretised(NamedTuple):
    """The transitions over each gap: fields of `kalman.Params`. The bias is None if there is none."""

    transition: jax.Array
    """`[T-1, *B, Z, Z]`."""
    transition_bias: jax.Array | None
    """`[T-1, *B, Z]`."""
    transition_cov: jax.Array
    """`[T-1, *B, Z, Z]`."""


def discretise(drift: AnyArray, diffusion: AnyArray, gaps: AnyArray, *, bias: AnyArray | None = None) -> Discretised:
    """Returns the transitions of a state over gaps of time, for dz = (drift z + bias) dt + dw.

    Args:
      drift: `[Z, Z]`, float32 or float64, per unit of time.
      diffusion: `[Z, Z]`, the covariance that w gains per unit of time, positive semidefinite.
      gaps: `[T-1, *B]`, the time from each step to the next, at least 0: `jnp.diff(times, axis=0)`.
      bias: `[Z]`; or `[T-1, *B, Z]`, controls that are constant over each gap. None: 0.

    Raises:
      TypeError, ValueError: an argument does not fit the others, or a gap is negative, infinite or NaN.

    >>> from jaxseq.structured import kalman
    >>> one = jnp.ones([1, 1])
    >>> moves = discretise(-one, 2 * one, jnp.array([0.1, 1.0, 30.0]))  # Ornstein and Uhlenbeck's process
    >>> [round(float(c), 3) for c in moves.transition_cov[:, 0, 0]]
    [0.181, 0.865, 1.0]
    >>> level = kalman.Params(jnp.zeros(1), one, one, None, one, one, None, one)._replace(**moves._asdict())
    >>> kalman.smooth(level, jnp.ones([4, 1])).mean.shape
    (4, 1)
    """
    drift = check.array("drift", "Z, Z", drift)
    if drift.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"`drift` must be float32 or float64 [Z, Z]; got {check.shaped(drift)}")
    if drift.ndim != 2 or drift.shape[0] != drift.shape[1] or not drift.size:
        raise ValueError(f"`drift` must be [Z, Z], square; got {check.shaped(drift)}")
    Z = len(drift)
    gaps = check.inputs("gaps", "T-1, B", gaps, drift)
    diffusion = check.inputs("diffusion", "Z, Z", diffusion, drift)
    if diffusion.shape != drift.shape:
        raise ValueError(f"`diffusion` must be [Z, Z] = {drift.shape}, as `drift` is; got {check.shaped(diffusion)}")
    if bias is not None:
        bias = check.inputs("bias", "Z", bias, drift)
        if bias.shape not in ((Z,), (*gaps.shape, Z)):
            raise ValueError(
                f"`bias` must be [Z] = {(Z,)} or [T-1, B, Z] = {(*gaps.shape, Z)}, by `gaps`; got {check.shaped(bias)}"
            )
    if not isinstance(gaps, Tracer) and not np.all(np.isfinite(gaps) & (np.asarray(gaps) >= 0)):
        raise ValueError("`gaps` must be finite and at least 0, as jnp.diff(times, axis=0) of ordered times is")
    return _discretise(drift, diffusion, gaps, bias)


@jax.jit
def _discretise(drift, diffusion, gaps, bias):
    eye = jnp.eye(len(drift), dtype=drift.dtype)
    lead = (1,) * gaps.ndim
    drift, diffusion, eye = (matrix.reshape(*lead, *matrix.shape) for matrix in (drift, diffusion, eye))
    size = jax.lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(drift), -1)) * gaps)
    halvings = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(size, 1))) + 1, 0, _DOUBLINGS).astype(int)
    h = gaps * 0.5 ** halvings.astype(gaps.dtype)
    h = h[..., None]
    step = drift * h[..., None]
    pushes = (
        None
        if bias is None
        else jnp.broadcast_to(bias.reshape(*lead[bias.ndim - 1 :], *bias.shape), (*gaps.shape, eye.shape[-1]))
    )

    def add(terms, k):
        """Adds one more term to each series, made from the term before."""
        (power, push, noise), sums = terms
        power = product(power, step) / k
        noise = product(step, noise)
        noise = (noise + noise.mT) / (k + 1)
        push = None if push is None else times(step, push) / (k + 1)
        terms = power, push, noise
        return (terms, jax.tree.map(jnp.add, sums, terms)), None

    first = (
        jnp.broadcast_to(eye, step.shape),
        None if pushes is None else pushes * h,
        diffusion * h[..., None],
    )
    (_, small), _ = _meshes.scan(add, (first, first), jnp.arange(1, _TERMS + 1, dtype=drift.dtype))

    def double(whole, k):
        more = k < halvings
        chosen = functools.partial(masking.choose, more)
        transition, push, noise = chosen(whole, jax.tree.map(jnp.zeros_like, whole))
        twice = (
            product(transition, transition),
            None if push is None else times(transition, push) + push,
            symmetric(product(transition, noise, transition.mT)) + noise,
        )
        return chosen(twice, whole), None

    return Discretised(*_meshes.scan(double, small, jnp.arange(_DOUBLINGS))[0])
