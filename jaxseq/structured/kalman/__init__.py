"""Linear-Gaussian state-space models: the Kalman filter and what belongs to it.

    z_1 ~ N(initial_mean, initial_cov)
    z_t = transition z_{t-1} + transition_bias + N(0, transition_cov)
    x_t = observation z_t + observation_bias + N(0, observation_cov)

The states z are not seen, the observations x are: the hidden Markov model of continuous states. Params are the same at
all steps; such as change in time are out of scope. A step that the mask leaves out is as if it were not there: no
transition and no observation. At a `missing` one the state moves on, unseen.

>>> from jaxseq.structured import kalman
>>> one = jnp.ones([1, 1])
>>> level = kalman.Params(jnp.zeros(1), one, one, None, 0.1 * one, one, None, one)  # a random walk in noise
>>> xs = jnp.array([[0.0], [1.0], [jnp.nan], [3.0]])
>>> states = jax.jit(kalman.smooth)(level, xs, missing=jnp.isnan(xs[:, 0]))
>>> [round(float(mean), 3) for mean in states.mean[:, 0]]
[0.833, 1.0, 1.167, 1.333]
"""

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
