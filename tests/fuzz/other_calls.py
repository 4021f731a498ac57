"""A valid call of each public function of `structured`, `decoding` and `linen`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import linen
from jaxseq.structured import crf, hmm, kalman, markov, semiring
from tests.fuzz.core_calls import CELL, KEY, MASK, RESET, XS, B, D, T

K, V = 2, 4
LI, LT = jnp.log(jnp.ones(K) / K), jnp.log(jnp.full((K, K), 1 / K))
SCORES = jax.nn.log_softmax(XS[..., :K])
STATES = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
IDS = np.array([[1, 2], [3, 1], [2, 2], [1, 3]])
LOGITS = jnp.linspace(0, 1, B * V).reshape(B, V)
ROWS = jnp.zeros((B, 2))


def calls():
    """The arguments by name; see `calls.all_calls`."""
    return _structured() | _decoding() | _linen()


def _structured():
    chain = {"log_initial": LI, "log_transition": LT, "log_obs": SCORES, "mask": MASK}
    field = {"params": crf.Params(LT, LI, LI), "scores": SCORES, "mask": MASK}
    chain_and, field_and = chain | {"parallel": False}, field | {"parallel": False}
    poisson, gaussian = hmm.poisson(), hmm.gaussian()
    emitted = hmm.GaussianParams(jnp.ones((K, D)), jnp.ones((K, D)))
    o, missing = jnp.eye(2), jnp.zeros((T, B), bool)
    model = kalman.Params(jnp.zeros(2), o, o, jnp.zeros(2), o, jnp.ones((D, 2)), jnp.zeros(D), jnp.eye(D))
    seen = {"params": model, "xs": XS, "mask": MASK, "missing": missing, "parallel": False}
    grams = markov.fit(IDS, V)
    log_probs = jax.nn.log_softmax(jnp.tile(LOGITS, (T, 1, 1)))
    labels = {"log_probs": log_probs, "labels": np.array([[1, 2], [3, 0]]), "mask": MASK}
    labels |= {"label_mask": np.array([[True, True], [True, False]]), "blank": 0}
    steps = jnp.zeros((T, K, K))
    return {
        **{f"structured.hmm.{name}": chain_and for name in ("filter", "smooth", "pairs", "viterbi", "log_likelihood")},
        "structured.hmm.predict": chain | {"steps": 2},
        "structured.hmm.sample_posterior": chain | {"key": KEY},
        "structured.hmm.sample": {"key": KEY, "log_initial": LI, "log_transition": LT, "T": T, "batch_shape": (B,)},
        "structured.hmm.simulate": {"key": KEY, "emission": gaussian, "params": hmm.Params(LI, LT, emitted), "T": T}
        | {"batch_shape": (B,)},
        "structured.hmm.count": {"states": STATES, "K": K, "mask": MASK, "pseudocount": 1.0},
        "structured.hmm.observe": {"emission": gaussian, "params": emitted, "xs": XS, "mask": MASK, "missing": missing},
        "structured.hmm.fit": {
            "emission": gaussian,
            "states": K,
            "xs": XS,
            "key": KEY,
            "mask": MASK,
            "missing": missing,
        }
        | {"params": None, "max_iterations": 2, "tolerance": 1e-3, "restarts": 1, "transition_pseudocount": 0.1}
        | {"initial_pseudocount": 0.1},
        "structured.hmm.fit_supervised": {"emission": poisson, "states": STATES, "K": K, "xs": IDS[..., None]}
        | {"key": KEY, "mask": MASK, "missing": missing, "pseudocount": 1.0, "iterations": 2},
        "structured.hmm.categorical": {"symbols": 4, "pseudocount": 0.1},
        "structured.hmm.gaussian": {"covariance": "full", "floor": 1e-3, "prior": hmm.GaussianPrior((0.0,) * D, 1.0)},
        "structured.hmm.full_gaussian": {"floor": 1e-3},
        "structured.hmm.gaussian_mixture": {"components": 2, "floor": 1e-3},
        "structured.hmm.poisson": {"floor": 1e-3},
        **{f"structured.crf.{name}": field_and for name in ("log_partition", "marginals", "pairs", "viterbi")},
        "structured.crf.log_likelihood": field_and | {"tags": STATES},
        "structured.crf.score": field | {"tags": STATES},
        "structured.crf.sample": field | {"key": KEY},
        "structured.crf.k_best": field | {"k": 2},
        "structured.crf.init": {"key": KEY, "K": K, "dtype": None},
        "structured.crf.bio": {"labels": ["O", "B-X"], "scheme": "BIO"},
        "structured.crf.constrain": {"params": field["params"], "allowed": crf.bio(["O", "B-X"])},
        "structured.ctc.loss": labels,
        "structured.ctc.align": labels,
        "structured.ctc.greedy": {"log_probs": log_probs, "mask": MASK, "blank": 0},
        "structured.ctc.collapse": {"tokens": IDS, "mask": MASK, "blank": 0},
        "structured.ctc.beam_search": {"log_probs": log_probs, "size": 2, "mask": MASK, "blank": 0, "bonus": 0.0}
        | {"expand": 2, "language_model": lambda carry, tokens: (carry, jnp.zeros((len(tokens), V)))}
        | {"carry": ROWS, "start": 1, "weight": 0.5},
        **{f"structured.kalman.{name}": seen for name in ("filter", "smooth", "pairs", "log_likelihood")},
        "structured.kalman.predict": seen | {"steps": 2},
        "structured.kalman.sample_posterior": seen | {"key": KEY},
        "structured.kalman.sample": {"key": KEY, "params": model, "T": T, "batch_shape": (B,)},
        "structured.kalman.fit": seen | {"learn": ["transition"], "max_iterations": 2, "tolerance": 1e-3},
        "structured.kalman.discretise": {"drift": -o, "diffusion": o, "gaps": jnp.array([0.5, 2.0]), "bias": -o[0]},
        "structured.markov.count": {"ids": IDS, "V": V, "order": 2, "mask": MASK},
        "structured.markov.fit": {"ids": IDS, "V": V, "order": 2, "mask": MASK, "smoothing": markov.witten_bell},
        "structured.markov.log_prob": {"params": grams, "ids": IDS, "mask": MASK},
        "structured.markov.perplexity": {"params": grams, "ids": IDS, "mask": MASK},
        "structured.markov.sample": {"key": KEY, "params": grams, "T": T, "batch_shape": (B,)},
        "structured.markov.stationary": {"log_transition": LT},
        "structured.markov.additive": {"amount": 1.0},
        "structured.markov.witten_bell": {"counts": jnp.ones((V + 1, V), int)},
        "structured.semiring.log_sum": {"x": XS, "axis": 0},
        "structured.semiring.scaled": {"v": XS, "axis": -1},
        "structured.semiring.run": {"semiring": semiring.log, "move": _move, "start": jnp.zeros((B, K)), "steps": steps}
        | {"mask": MASK, "reverse": False, "parallel": False},
    }


def _move(v, step):
    return semiring.log_sum(v[..., None] + step, -2)


def _decoding():
    step = lambda carry, token: (carry, jnp.tile(LOGITS[:1], (token.shape[0], 1)))
    filters = {"temperature": 1.0, "top_k": 2, "top_p": 0.9, "typical": 0.9}
    start = {"carry": ROWS, "start": np.zeros(B, int), "max_length": 3, "end": 1}
    allowed = {"allowed": lambda tokens, t: jnp.ones((tokens.shape[1], V), bool)}
    return {
        "decoding.greedy": {"step": step, **start, **allowed},
        "decoding.sample": {"key": KEY, "step": step, **start, **filters, **allowed},
        "decoding.beam_search": {
            "step": step,
            **start,
            "size": 2,
            "length_penalty": 0.5,
            "penalty": "power",
            **allowed,
        },
        "decoding.speculative": {
            "key": KEY,
            "step": step,
            "draft": step,
            "draft_carry": ROWS,
            "ahead": 2,
            "read": lambda carry, tokens: (jnp.tile(LOGITS[:1], (*tokens.shape, 1)), lambda count: carry),
            **start,
            **filters,
        },
        "decoding.draw": {"key": KEY, "logits": LOGITS, **filters},
        "decoding.filter_logits": {"logits": LOGITS, **filters},
    }


def _linen():
    xs, mask, reset = jnp.swapaxes(XS, 0, 1), MASK.T, RESET.T
    layer = functools.cache(lambda: linen.Recurrent(CELL).bind(linen.Recurrent(CELL).init(KEY, xs)))
    read = {"xs": xs, "carry": None, "mask": mask, "reset": reset, "key": KEY}
    return {"linen.Recurrent.unroll": {"of": layer, **read}}
