"""Hidden Markov models: inference of hidden states from observations, simulation, and fitting.

>>> from jaxseq.structured import hmm
>>> weather = jnp.log(jnp.array([[0.8, 0.2], [0.4, 0.6]]))
>>> log_obs = jnp.log(jnp.array([[0.7, 0.1], [0.2, 0.5], [0.1, 0.6]]))
>>> states, score = hmm.viterbi(jnp.log(jnp.array([0.5, 0.5])), weather, log_obs)
>>> states.tolist()
[0, 1, 1]

Fitting a model to observations without known states:

>>> xs = jnp.array([[0.1], [0.0], [-0.1], [5.0], [5.1], [4.9], [5.0], [0.0], [0.1]])
>>> initial, transition, emission = hmm.fit(hmm.gaussian(), 2, xs, key=jax.random.key(0), restarts=3).params
>>> path = hmm.viterbi(initial, transition, hmm.observe(hmm.gaussian(), emission, xs)).states
>>> (path == path[0]).astype(int).tolist()
[1, 1, 1, 0, 0, 0, 0, 1, 1]
"""

from jaxseq.structured._chain import Path as Path
from jaxseq.structured.hmm._count import count as count
from jaxseq.structured.hmm._count import fit_supervised as fit_supervised
from jaxseq.structured.hmm._fit import Fit as Fit
from jaxseq.structured.hmm._fit import fit as fit
from jaxseq.structured.hmm._inference import filter as filter
from jaxseq.structured.hmm._inference import log_likelihood as log_likelihood
from jaxseq.structured.hmm._inference import pairs as pairs
from jaxseq.structured.hmm._inference import predict as predict
from jaxseq.structured.hmm._inference import sample_posterior as sample_posterior
from jaxseq.structured.hmm._inference import smooth as smooth
from jaxseq.structured.hmm._inference import viterbi as viterbi
from jaxseq.structured.hmm._simulate import sample as sample
from jaxseq.structured.hmm._simulate import simulate as simulate
from jaxseq.structured.hmm.emissions import *
