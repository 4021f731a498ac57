"""Linear-Gaussian state-space models: the Kalman filter, smoother, prediction, sampling and fitting.

    z_1 ~ N(initial_mean, initial_cov)
    z_t = transition z_{t-1} + transition_bias + N(0, transition_cov)
    x_t = observation z_t + observation_bias + N(0, observation_cov)

The states z are hidden, and the observations x are given: a hidden Markov model with continuous states. Each part of
the model is the same at all steps, or given for each step (see `Params`), which allows controls, and gaps of any length
between steps (`discretise`). Steps where the mask is False are left out: they have no transition and no observation. At
a `missing` step the state moves on unobserved; single features may be missing too. NaN that no flag marks is an error.
Under `jax.jit`, where values cannot be checked, it makes the results of its row NaN.

>>> from jaxseq.structured import kalman
>>> one = jnp.ones([1, 1])
>>> level = kalman.Params(jnp.zeros(1), one, one, None, 0.1 * one, one, None, one)  # a random walk in noise
>>> xs = jnp.array([[0.0], [1.0], [jnp.nan], [3.0]])
>>> states = kalman.smooth(level, xs, missing=jnp.isnan(xs))
>>> [round(float(mean), 3) for mean in states.mean[:, 0]]
[0.833, 1.0, 1.167, 1.333]
"""

from jaxseq.structured.kalman._discretise import Discretised as Discretised
from jaxseq.structured.kalman._discretise import discretise as discretise
from jaxseq.structured.kalman._filter import Prediction as Prediction
from jaxseq.structured.kalman._filter import filter as filter
from jaxseq.structured.kalman._filter import log_likelihood as log_likelihood
from jaxseq.structured.kalman._filter import predict as predict
from jaxseq.structured.kalman._fit import Fit as Fit
from jaxseq.structured.kalman._fit import fit as fit
from jaxseq.structured.kalman._model import Gaussians as Gaussians
from jaxseq.structured.kalman._model import Params as Params
from jaxseq.structured.kalman._sample import sample as sample
from jaxseq.structured.kalman._sample import sample_posterior as sample_posterior
from jaxseq.structured.kalman._smooth import pairs as pairs
from jaxseq.structured.kalman._smooth import smooth as smooth
