"""A valid call of each public function around the core: structured models, decoding, training and Flax modules."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxseq import linen, nn, train
from jaxseq.structured import crf, hmm, kalman, markov, semiring
from jaxseq.train import compression, metrics
from tests.fuzz.core_calls import CELL, KEY, MASK, RESET, XS, B, D, T

K, V = 2, 4
LI, LT = jnp.log(jnp.ones(K) / K), jnp.log(jnp.full((K, K), 1 / K))
SCORES = jax.nn.log_softmax(XS[..., :K])
STATES = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
IDS = np.array([[1, 2], [3, 1], [2, 2], [1, 3]])
LOGITS = jnp.linspace(0, 1, B * V).reshape(B, V)
ROWS = jnp.zeros((B, 2))
SGD = optax.sgd(0.1)
LISTED = [{"x": np.ones((2, 1), np.float32)}]


def calls(folder):
    """The arguments by name; those of a method also hold `of`, which makes the object."""
    return _structured() | _decoding() | _train(folder) | _elementwise() | _modules()


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


def _train(folder):
    params, adapter_params = {"w": jnp.ones((1, 1))}, {"w": jnp.ones((D, D))}
    loss_fn = lambda params, batch, key: (jnp.sum((batch["x"] * params["w"]) ** 2), {})
    state = train.init(params, SGD, KEY)
    step = train.make_step(loss_fn, SGD)
    train.save(folder / "stored", params, {"a": 1})
    adapters = train.adapters.init(KEY, adapter_params, 2)
    history = [{"loss": 1.0, "step": 1}, {"loss": 0.5, "step": 2}]
    where = {"where": ["w"]}
    return {
        "train.init": {"params": params, "optimizer": SGD, "key": KEY, "carry": None},
        "train.make_step": {
            "loss_fn": loss_fn,
            "optimizer": SGD,
            "accumulate": 1,
            "nonfinite": "stop",
            "ensemble": False,
        },
        "train.fit": {"step": step, "state": state, "batches": LISTED, "epochs": 1, "every": 1, "validate": None}
        | {"progress": False, "callbacks": ()},
        "train.evaluator": {"loss_fn": loss_fn, "batches": LISTED, "carry": None, "ensemble": False},
        "train.average": {"predict": lambda params, xs: xs},
        "train.save": {"folder": folder / "other", "tree": params, "info": {"a": 1}, "number": None, "keep": 1},
        "train.load": {"folder": folder / "stored", "like": params},
        "train.load_info": {"folder": folder / "stored"},
        "train.saved": {"folder": folder / "stored"},
        "train.by_path": {"params": params, "rules": {"w": 1}, "default": 0},
        "train.per_group": {"groups": {"w": SGD}, "default": SGD},
        "train.groups.paths": {"params": params},
        "train.groups.matrices": {"params": params, **where},
        "train.adapters.init": {"key": KEY, "params": adapter_params, "rank": 2, **where},
        "train.adapters.apply": {"params": adapter_params, "adapters": adapters, "scale": 1.0},
        "train.callbacks.csv": {"path": folder / "log.csv"},
        "train.callbacks.printing": {"file": None},
        "train.curves.plot": {"history": history, "path": folder / "curves.png", "names": ("loss",)},
        "train.compression.quantize": {"params": params, **where, "rows": None},
        "train.compression.dequantize": {"tree": compression.quantize(params)},
        "train.compression.prune": {"params": params, "sparsity": 0.5, **where, "scope": "leaf"},
        "train.compression.masks": {"params": params, **where},
        "train.compression.keep_zeros": where,
        "train.compression.size": {"params": params},
        "train.compression.sparse_size": {"params": params},
        "train.losses.l1": {"params": params},
        "train.losses.l2": {"params": params},
        "train.metrics.compute": {"metrics": {"loss": metrics.mean(XS)}},
        "train.metrics.merge": {"a": metrics.mean(XS), "b": metrics.mean(XS)},
        "train.metrics.character_error_rate": {"references": ["abc"], "hypotheses": ["abd"]},
        "train.metrics.word_error_rate": {"references": ["a b"], "hypotheses": ["a c"]},
    }


def _elementwise():
    pair = {"predictions": XS[..., 0], "targets": XS[..., 1], "mask": MASK}
    ids = {"predicted": IDS, "labels": IDS, "mask": MASK}
    rows = {"predicted": IDS.T, "labels": IDS.T, "predicted_mask": MASK.T, "mask": MASK.T}
    logits = {"logits": jnp.tile(LOGITS, (T, 1, 1)), "labels": IDS, "mask": MASK}
    return {
        "train.losses.absolute_error": pair,
        "train.losses.squared_error": pair,
        "train.losses.huber": pair | {"delta": 1.0},
        "train.losses.cross_entropy": logits | {"smoothing": 0.1},
        "train.losses.binary_cross_entropy": {"logits": XS[..., 0], "labels": MASK, "mask": MASK},
        "train.losses.gaussian_nll": {"mean": XS[..., 0], "std": jnp.ones((T, B)), "targets": XS[..., 1], "mask": MASK},
        "train.losses.quantile": {"predictions": XS, "targets": XS[..., 0], "levels": (0.1, 0.5, 0.9), "mask": MASK},
        "train.losses.mean": {"values": XS[..., 0], "mask": MASK},
        "train.metrics.accuracy": ids,
        "train.metrics.confusion": ids | {"classes": V},
        "train.metrics.coverage": {"lower": XS[..., 0] - 1, "upper": XS[..., 0], "targets": XS[..., 1], "mask": MASK},
        "train.metrics.edit_distance": rows,
        "train.metrics.edits": rows,
        "train.metrics.spans": {"predicted": IDS.T % 2, "labels": IDS.T % 2, "tags": ["O", "B-X"], "mask": MASK.T},
        "train.metrics.mae": pair,
        "train.metrics.rmse": pair,
        "train.metrics.mase": pair | {"scale": jnp.ones((T, B))},
        "train.metrics.mean": {"values": XS[..., 0], "mask": MASK},
        "train.metrics.perplexity": {"nll": XS[..., 0] + 1, "mask": MASK},
        "train.metrics.naive_scale": {"series": XS[..., 0], "season": 1, "axis": 0, "mask": MASK},
    }


def _modules():
    rngs = {"rngs": nnx.Rngs(0)}
    xs, mask, reset = jnp.swapaxes(XS, 0, 1), MASK.T, RESET.T
    read = {"xs": xs, "carry": None, "mask": mask, "reset": reset, "key": KEY}
    ids = {"vocabulary": 5, "kernel": None, "param_dtype": None}
    written_in_linen = functools.cache(lambda: linen.Recurrent(CELL).bind(linen.Recurrent(CELL).init(KEY, xs)))
    layer = functools.cache(lambda: nn.Recurrent(CELL, D, **rngs))
    tcn = functools.cache(lambda: nn.TCN(D, [4], **rngs))
    transformer = functools.cache(lambda: nn.Transformer(D, 4, layers=1, heads=2, causal=True, max_length=8, **rngs))
    attention = functools.cache(lambda: nn.Attention(D, D, **rngs))
    tagger = functools.cache(lambda: nn.SequenceTagger(CELL, D, K, **rngs))
    field = functools.cache(lambda: nn.CRF(K, **rngs))
    recognizer = functools.cache(lambda: nn.CTCRecognizer(CELL, D, V, **rngs))
    model = functools.cache(lambda: nn.LanguageModel(CELL, 5, 3, **rngs))
    forecaster = functools.cache(lambda: nn.AutoregressiveForecaster(CELL, D, head=nn.Gaussian(), **rngs))
    sizes = {"source_vocabulary": V, "target_vocabulary": V, "features": 3, "start": 1, "end": 2}
    translator = functools.cache(lambda: nn.Seq2Seq(CELL, CELL, **sizes, **rngs))
    both = {"source": IDS.T, "target": IDS.T, "source_mask": mask, "target_mask": mask}
    pooled = {"ys": xs, "mask": mask}
    labels = {"labels": np.array([[1, 2], [3, 0]]), "label_mask": np.array([[True, True], [True, False]])}
    return {
        "nn.Recurrent": {"cell": CELL, "in_features": D, "kernel": None, "param_dtype": None, **rngs},
        "nn.Recurrent.unroll": {"of": layer, **read},
        "nn.Recurrent.step": {"of": layer, "carry": None, "x": xs[:, 0], "reset": reset[:, 0]},
        "nn.TCN": {"in_features": D, "channels": [4], "width": 2, "dropout": 0.1, "weight_norm": True, **rngs},
        "nn.TCN.unroll": {"of": tcn, **read},
        "nn.TCN.step": {"of": tcn, "carry": None, "x": xs[:, 0], "reset": reset[:, 0]},
        "nn.Transformer": {"in_features": D, "features": 4, "layers": 1, "heads": 2, "causal": True, "kv_heads": 1}
        | {"hidden": 4, "norm": "pre", "positions": "rotary", "max_length": 8, "activation": jax.nn.gelu, **rngs},
        "nn.Transformer.unroll": {"of": transformer, **read} | {"key": None},
        "nn.Transformer.step": {"of": transformer, "carry": None, "x": xs[:, 0], "reset": reset[:, 0]},
        "nn.Attention": {"query_features": D, "memory_features": D, "score": "additive", "hidden": 2, **rngs},
        "nn.Attention.remember": {"of": attention, "memory": xs, "mask": mask},
        "nn.AttentionPool": {"features": D, "param_dtype": None, **rngs},
        "nn.SequenceClassifier": {"cell": CELL, "in_features": D, "classes": 2, "pooling": "last", **ids, **rngs},
        "nn.SequenceClassifier.__call__": {"of": lambda: nn.SequenceClassifier(CELL, D, 2, **rngs), **read},
        "nn.SequenceTagger": {"cell": CELL, "in_features": D, "tags": K, **ids, **rngs},
        "nn.SequenceTagger.__call__": {"of": tagger, **read},
        "nn.CRF": {"tags": K, "allowed": crf.bio(["O", "B-X"]), "param_dtype": None, **rngs},
        "nn.CRF.decode": {"of": field, "scores": jnp.swapaxes(SCORES, 0, 1), "mask": mask},
        "nn.CRF.log_likelihood": {"of": field, "scores": jnp.swapaxes(SCORES, 0, 1), "tags": STATES.T, "mask": mask},
        "nn.CTCRecognizer": {"cell": CELL, "in_features": D, "labels": V, "blank": 0, **ids, **rngs},
        "nn.CTCRecognizer.loss": {"of": recognizer, "xs": xs, "mask": mask, "key": KEY, **labels},
        "nn.CTCRecognizer.greedy": {"of": recognizer, "xs": xs, "mask": mask},
        "nn.Forecaster": {
            "cell": CELL,
            "in_features": D,
            "horizon": 2,
            "targets": 1,
            "head": nn.Point(),
            **ids,
            **rngs,
        },
        "nn.Quantiles": {"levels": (0.1, 0.5, 0.9)},
        "nn.Gaussian": {},
        "nn.Point": {},
        "nn.AutoregressiveForecaster": {"cell": CELL, "features": D, "head": nn.Gaussian(), **rngs},
        "nn.AutoregressiveForecaster.forecast": {"of": forecaster, "xs": xs, "horizon": 2, "mask": mask, "carry": None},
        "nn.AutoregressiveForecaster.sample_paths": {
            "of": forecaster,
            "xs": xs,
            "horizon": 2,
            "key": KEY,
            "paths": 2,
            "mask": mask,
            "carry": None,
        },
        "nn.LanguageModel": {"cell": CELL, "vocabulary": 5, "features": 3, "kernel": None, "param_dtype": None, **rngs},
        "nn.LanguageModel.unroll": {"of": model, "ids": IDS.T, "carry": None, "mask": mask, "reset": reset, "key": KEY},
        "nn.LanguageModel.generate": {
            "of": model,
            "prompt": IDS.T,
            "length": 2,
            "key": KEY,
            "mask": None,
            "end": 1,
            "temperature": 1.0,
        }
        | {"top_k": 2, "top_p": 0.9, "typical": None},
        "nn.Seq2Seq": {
            "encoder": CELL,
            "decoder": CELL,
            **sizes,
            "attention": "additive",
            "input_feeding": False,
            **rngs,
        },
        "nn.Seq2Seq.loss": {"of": translator} | both | {"smoothing": 0.1, "key": KEY},
        "nn.Seq2Seq.generate": {"of": translator, "source": IDS.T, "max_length": 3, "source_mask": mask},
        "nn.TextCNN": {"in_features": D, "classes": 2, "widths": (2,), "filters": 2, "dropout": 0.1, **rngs},
        **{f"nn.{name}_pool": pooled for name in ("last", "ends", "mean", "max", "mean_max")},
        "nn.attention_pool": pooled | {"scores": xs[..., 0]},
        "linen.Recurrent.unroll": {"of": written_in_linen, **read},
    }
