"""Hidden Markov models, fields, CTC, Kalman filters, n-grams."""

import jax
import jax.numpy as jnp

from jaxseq.structured import crf, ctc, hmm, kalman, markov, semiring
from tests.modes.inputs import B, D, K, T, V, floats, ids, key, log_probs, mask, time_mask
from tests.modes.table import Call, of


def each(module, arguments, **calls):
    """A call for each function of a module, of the same arguments first; `calls` are of `(function, *arguments)`."""
    name = module.__name__.removeprefix("jaxseq.")

    def call(function, run):
        return Call((f"{name}.{function}",), lambda: run(getattr(module, function), *arguments()))

    return [call(function, run) for function, run in calls.items()]


def _masked(function, *arguments):
    return function(*arguments, mask=time_mask())


def _both_ways(function, *arguments):
    return [function(*arguments, mask=time_mask(), parallel=parallel) for parallel in (False, True)]


def _field():
    return crf.Params(floats(K, K), floats(K, seed=1), floats(K, seed=2)), floats(T, B, K, seed=3)


CRF = each(
    crf,
    _field,
    init=lambda init, *_: init(key(), K),
    bio=lambda bio, *_: bio(["O", "B-X", "I-X"]),
    constrain=lambda constrain, params, _: constrain(params, crf.bio(["O", "B-X", "I-X"])),
    log_likelihood=lambda function, *field: _both_ways(function, *field, ids(T, B, below=K)),
    log_partition=_both_ways,
    score=lambda score, *field: score(*field, ids(T, B, below=K), mask=time_mask()),
    marginals=_both_ways,
    pairs=_both_ways,
    viterbi=_both_ways,
    k_best=lambda k_best, *field: k_best(*field, 2, mask=time_mask()),
    sample=lambda sample, *field: sample(key(), *field, mask=time_mask()),
)
CTC = each(
    ctc,
    lambda: (log_probs(T + 2, B, V),),
    loss=lambda loss, log_p: loss(log_p, ids(B, 2) % 4 + 1, label_mask=mask(B, last=2)),
    align=lambda align, log_p: align(log_p, ids(B, 2) % 4 + 1, label_mask=mask(B, last=2)),
    greedy=lambda greedy, log_p: greedy(log_p, mask=mask(B, last=T + 2).T),
    collapse=lambda collapse, log_p: collapse(ids(T, B), mask=time_mask()),
    beam_search=lambda search, log_p: search(log_p, 2, mask=mask(B, last=T + 2).T),
)


def _chain():
    return log_probs(K), log_probs(K, K), log_probs(T, B, K, seed=1)


def _fit(emission, xs, **options):
    return hmm.fit(emission, 2, xs, key=key(), max_iterations=2, **options)


EMISSIONS = {
    "gaussian": (hmm.gaussian(), lambda: floats(6, D)),
    "full_gaussian": (hmm.full_gaussian(), lambda: floats(6, D)),
    "gaussian_mixture": (hmm.gaussian_mixture(2), lambda: floats(6, D)),
    "categorical": (hmm.categorical(V, pseudocount=0.1), lambda: ids(6)),
    "poisson": (hmm.poisson(), lambda: ids(6, D)),
}
HMM = each(
    hmm,
    _chain,
    log_likelihood=_both_ways,
    filter=_both_ways,
    smooth=_both_ways,
    pairs=_both_ways,
    viterbi=_both_ways,
    predict=lambda predict, *chain: predict(*chain, 2, mask=time_mask()),
    sample_posterior=lambda sample, *chain: sample(key(), *chain, mask=time_mask()),
    sample=lambda sample, *chain: sample(key(), *chain[:2], T),
    count=lambda count, *_: count(ids(T, B, below=K), K, mask=time_mask()),
)
FITTED = [
    Call(
        (f"structured.hmm.{name}",),
        lambda emission=emission, xs=xs: _fit(emission, xs(), mask=jnp.arange(6) < 5),
        False,
    )
    for name, (emission, xs) in EMISSIONS.items()
]


@of("structured.hmm.fit", traced=False)  # NaN comes in after what is compiled
def converged():
    """Until nothing changes any more: the rest of the history is NaN."""
    return hmm.fit(hmm.gaussian(), 2, jnp.repeat(jnp.array([0.0, 1.0]), 3)[:, None], key=key(), tolerance=0.1)


@of("structured.hmm.fit_supervised", "structured.hmm.observe", "structured.hmm.simulate")
def supervised():
    params = hmm.fit_supervised(hmm.gaussian(), ids(6, below=2), 2, floats(6, D), key=key(), missing=jnp.arange(6) == 1)
    return hmm.observe(hmm.gaussian(), params.emission, floats(T, D)), hmm.simulate(key(), hmm.gaussian(), params, T)


def _states():
    eye = jnp.eye(2)
    params = kalman.Params(jnp.zeros(2), eye, 0.9 * eye, jnp.ones(2), 0.1 * eye, floats(D, 2), jnp.ones(D), jnp.eye(D))
    return params, floats(T, B, D)


def _gappy(function, *arguments, **options):
    missing = jnp.zeros((T, B), bool).at[1].set(True)
    return [function(*arguments, mask=time_mask(), missing=missing, parallel=way, **options) for way in (False, True)]


KALMAN = each(
    kalman,
    _states,
    log_likelihood=_gappy,
    filter=_gappy,
    smooth=_gappy,
    pairs=_gappy,
    predict=lambda predict, *series: _gappy(predict, *series, 2),
    sample=lambda sample, params, _: sample(key(), params, T),
    sample_posterior=lambda sample, *series: _gappy(sample, key(), *series),
)


@of("structured.kalman.fit", traced=False)
def fitted_states():
    return kalman.fit(*_states(), mask=time_mask(), max_iterations=3, tolerance=1.0)


@of("structured.kalman.discretise")
def gaps():
    return kalman.discretise(-jnp.eye(2), jnp.eye(2), jnp.array([0.5, 2.0]))


def _counted():
    return (ids(T + 1, B),)


MARKOV = each(
    markov,
    _counted,
    count=lambda count, texts: count(texts, V),
    fit=lambda fit, texts: [fit(texts, V), fit(texts, V, smoothing=markov.additive(0.5))],
    additive=lambda additive, texts: additive(0.5)(markov.count(texts, V)),
    witten_bell=lambda smooth, texts: smooth(markov.count(texts, V)),
    log_prob=lambda log_prob, texts: log_prob(markov.fit(texts, V), texts, mask=mask(B, last=T + 1).T),
    perplexity=lambda perplexity, texts: perplexity(markov.fit(texts, V), texts),
    sample=lambda sample, texts: sample(key(), markov.fit(texts, V), T),
    stationary=lambda stationary, _: stationary(log_probs(K, K)),
)
RING = semiring.Semiring(semiring.log_sum)


def _move(v, weights):
    return semiring.log_sum(v[..., :, None] + weights, -2)


@of("structured.semiring.run", "structured.semiring.log_sum", "structured.semiring.scaled")
def messages():
    v = log_probs(B, K)
    return (
        semiring.run(RING, _move, v, floats(T, B, K, K), time_mask()),
        semiring.scaled(v),
        jax.jit(_move)(v, floats(B, K, K)),
    )
