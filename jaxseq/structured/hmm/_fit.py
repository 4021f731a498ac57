"""Fitting a hidden Markov model without known states: expectation maximisation (Baum et al. 1970; Rabiner 1989).

With A the transition matrix and w_t[k] = p(s_t = k | x), an iteration sets

    p(s_1 = k) ∝ Σ_rows p(s_1 = k | x)        A[i, j] ∝ Σ_rows Σ_t p(s_{t-1} = i, s_t = j | x)
    emission   = emission.maximise(emission, x, w)

These posteriors are the gradients of the log-likelihood with respect to log p(s_1), log A and log p(x_t | s_t). One
forward and one backward pass give all of them. The likelihood never falls.

The same likelihood can be maximised by gradient descent, with the model in unconstrained parameters:

    def loss(free):         # softmax of logits, exp of logarithms
        emission = hmm.GaussianParams(free.mean, jnp.exp(free.log_variance))
        chain = jax.nn.log_softmax(free.initial), jax.nn.log_softmax(free.transition)
        return -hmm.log_likelihood(*chain, hmm.observe(hmm.gaussian(), emission, xs, mask=mask), mask=mask).sum()
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxseq import check, masking
from jaxseq.structured._climb import climb, finished
from jaxseq.structured.hmm._inference import log_likelihood
from jaxseq.structured.hmm.emissions import Emission, Params
from jaxseq.structured.hmm.emissions._emission import is_emission, model, observed, steps_of
from jaxseq.structured.hmm.emissions._rows import log_shares
from jaxseq.typing import AnyArray


class Fit(NamedTuple):
    """The result of `fit` with R restarts.

    Attributes:
      params: those of the best restart.
      log_likelihoods: `[R, 1 + max_iterations]`, in nats, over all rows, without the logarithm of a prior: at the
        start, and after each iteration; NaN after the last.
      iterations: int `[R]`, the number of iterations.
      converged: bool `[R]`, whether the last iteration changed the log-likelihood by no more than the tolerance.
      best: int, the restart that `params` come from: that of the highest last log-likelihood, without the prior.
    """

    params: Params
    log_likelihoods: jax.Array
    iterations: jax.Array
    converged: jax.Array
    best: jax.Array


class _Learned(NamedTuple):
    log_initial: bool
    log_transition: bool
    emission: tuple[str, ...] | None  # names of its params; None: all


def fit(
    emission: Emission,
    states: int,
    xs: Any,
    *,
    key: jax.Array | None = None,
    mask: AnyArray | None = None,
    missing: AnyArray | None = None,
    params: Params | None = None,
    learn: Sequence[str] | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
    restarts: int = 1,
    transition_pseudocount: float = 0.0,
    initial_pseudocount: float = 0.0,
) -> Fit:
    """Fits a model of `states` states to observations by expectation maximisation, with one or more restarts.

    A restart begins with uniform states and transitions, and with `emission.init`. A log-probability of -inf at the
    start stays -inf; this is how to make left-to-right models. A state that is never left keeps its transitions.

    Args:
      emission: such as `hmm.gaussian()`. Make it once, because a fit is compiled for each emission.
      states: K, the number of states.
      xs: observations `[T, B, ...]`, with any number of batch axes.
      key: a random key for the restarts; may be None if `params` is given and is the only start.
      mask: bool `[T, B]`, True where a step is real, in any pattern; False steps are left out.
      missing: bool `[T, B]` or `[T, B, D]`, True where a real step, or a feature of it, was not observed, as for
        `hmm.observe`.
      params: the model from which the first restart begins. None: it is drawn too.
      learn: the names of the params to learn; the others keep their initial values. Names are those of `hmm.Params`
        (`log_initial`, `log_transition`, `emission`) and of the emission's params, such as `mean`. None: all.
      max_iterations: the greatest number of iterations.
      tolerance: the fit ends when an iteration changes the log-likelihood by no more than this, in nats per real step.
      restarts: R; they run one after the other.
      transition_pseudocount: added to the expected count of each possible transition: a Dirichlet prior. The likelihood
        itself may then fall.
      initial_pseudocount: the same for each possible first state.

    Returns:
      `Fit(params, log_likelihoods, iterations, converged, best)`. If the likelihood is not finite, for example because
      the observations are impossible, a restart ends there, not converged, with the params before.

    Raises:
      TypeError, ValueError: an argument does not fit, or no step is real; a traced mask is not checked.

    >>> from jaxseq.structured import hmm
    >>> xs = jnp.array([[0.1], [0.0], [-0.1], [5.0], [5.1], [4.9], [5.0], [0.0], [0.1]])
    >>> fitted = fit(hmm.gaussian(), 2, xs, key=jax.random.key(0), restarts=3)
    >>> print(jnp.sort(fitted.params.emission.mean[:, 0]).round(2))
    [0.02 5.  ]
    """
    is_emission(emission)
    check.random_key(key)
    states, restarts = check.positive_int("states", states), check.positive_int("restarts", restarts)
    max_iterations = check.positive_int("max_iterations", max_iterations)
    tolerance = check.at_least_zero("tolerance", tolerance)
    pseudocounts = (
        check.at_least_zero("initial_pseudocount", initial_pseudocount),
        check.at_least_zero("transition_pseudocount", transition_pseudocount),
    )
    xs = check.as_jax(xs, "xs")
    if params is not None:
        params = jax.tree.map(jnp.asarray, model(params, states))
    elif key is None:
        raise ValueError(
            "`key` must be a jax.random.key, to draw a start from; it may be None only if `params` is given"
        )
    if key is None and restarts > 1:
        raise ValueError(f"`key` must be a jax.random.key, to draw {restarts - 1} further starts; got None")

    steps = steps_of(emission, states, xs, None if params is None else params.emission)
    xs, mask, seen = observed(emission, steps, xs, mask, missing)
    names = _names(emission, states, xs, learn)
    nothing = math.prod(steps) == 0
    if not (nothing or seen is None or isinstance(seen, Tracer)):
        nothing = not np.any(seen)
    if nothing:
        raise ValueError(f"`xs` hold no observation to fit to: no step of [T, B] = {steps} is real and observed")
    enough = tolerance * (math.prod(steps) if mask is None else jnp.sum(mask, dtype=float))
    return finished(
        _fit(emission, states, restarts, max_iterations, names, key, params, xs, mask, seen, enough, pseudocounts)
    )


@functools.partial(jax.jit, static_argnames=("emission", "states", "restarts", "max_iterations", "learn"))
def _fit(emission, states, restarts, max_iterations, learn, key, params, xs, mask, seen, enough, pseudocounts):
    def start(key):
        drawn = emission.init(key, states, xs, seen)
        equal = jnp.full((states, states), -math.log(states), jnp.result_type(*jax.tree.leaves(drawn)))
        return Params(equal[0], equal, drawn)

    def expect(params):
        """Returns the log-likelihood, and its gradients, which are the expected counts."""
        log_obs = masking.keep(seen, emission.log_prob(params.emission, xs))

        def total(log_initial, log_transition, log_obs):
            return jnp.sum(log_likelihood(log_initial, log_transition, log_obs, mask=mask))

        return jax.value_and_grad(total, (0, 1, 2))(params.log_initial, params.log_transition, log_obs)

    def maximise(params, starts, moves, weights):
        new = params
        if learn.log_initial:
            new = new._replace(log_initial=_log_probs(starts, params.log_initial, pseudocounts[0]))
        if learn.log_transition:
            new = new._replace(log_transition=_log_probs(moves, params.log_transition, pseudocounts[1]))
        if learn.emission != ():
            only = () if learn.emission is None else (learn.emission,)
            new = new._replace(emission=emission.maximise(params.emission, xs, masking.keep(seen, weights), *only))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), new, params)

    def improve(params):
        value, counts = expect(params)
        return value, maximise(params, *counts)

    starts = [] if params is None else [jax.tree.map(lambda leaf: leaf[None], params)]
    if restarts > len(starts):
        starts.append(jax.vmap(start)(jax.random.split(key, restarts - len(starts))))
    # One after the other: under `vmap` all would run until the slowest ends, and compute both branches of each `cond`.
    runs = jax.lax.map(
        lambda params: climb(improve, params, max_iterations, enough),
        jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *starts),
    )
    best = jnp.argmax(jnp.where(jnp.isnan(runs.last), -jnp.inf, runs.last))
    return Fit(
        params=jax.tree.map(lambda leaf: leaf[best], runs.params),
        log_likelihoods=runs.log_likelihoods,
        iterations=runs.iterations,
        converged=runs.converged,
        best=best,
    )


def _names(emission, states, xs, learn):
    """Returns the names of what is learned, or None for all."""
    if learn is None:
        return _Learned(True, True, None)
    if isinstance(learn, str) or not isinstance(learn, Sequence):
        raise TypeError(f"`learn` must be a sequence of names of params, or None; got {learn!r}")
    drawn = jax.eval_shape(lambda key: emission.init(key, states, xs, None), jax.random.key(0))
    own = getattr(drawn, "_fields", ()) if check.takes(emission.maximise, 4) else ()
    for name in learn:
        if name not in (*Params._fields, *own):
            raise ValueError(f"`learn` must hold names of params, {', '.join((*Params._fields, *own))}; got {name!r}")
    of_emission = None if "emission" in learn else tuple(name for name in own if name in learn)
    return _Learned("log_initial" in learn, "log_transition" in learn, of_emission)


def _log_probs(counts, old, pseudocount):
    """Returns the logarithms of normalised counts; what was impossible stays impossible."""
    return log_shares(jnp.where(jnp.isneginf(old), 0, counts + pseudocount), old)
