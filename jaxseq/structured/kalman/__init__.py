"""Linear-Gaussian state-space models: the Kalman filter and what belongs to it.

    z_1 ~ N(initial_mean, initial_cov)
    z_t = transition z_{t-1} + transition_bias + N(0, transition_cov)
    x_t = observation z_t + observation_bias + N(0, observation_cov)

The states z are not seen, the observations x are: the hidden Markov model of continuous states. What moves a state and
what observes it is the same at all steps, or given for each (see `Params`): so controls are said, and gaps of time of
any length (`discretise`). A step that the mask leaves out is as if it were not there: no transition and no observation.
At a `missing` one the state moves on, unseen; features may be missing one by one. NaN that no flag tells of is an
error, and under `jax.jit`, where values are not looked at, makes a row's results NaN.

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
