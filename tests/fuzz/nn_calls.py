"""A valid call of each class of `nn`, and of each of its methods."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseq import decoding, kernels, nn
from jaxseq.structured import crf
from tests.fuzz.core_calls import CELL, KEY, MASK, RESET, XS, B, D
from tests.fuzz.other_calls import IDS, SCORES, STATES, K, V
from tests.nn.drawn import drawn

RNGS = {"rngs": nnx.Rngs(0)}
MADE = {"dtype": jnp.float32, "param_dtype": None, **RNGS}
MADE_OF_CELL = {"kernel": kernels.scan, **MADE}
MAJOR, MAJOR_MASK, MAJOR_RESET = jnp.swapaxes(XS, 0, 1), MASK.T, RESET.T
READ = {"xs": MAJOR, "carry": None, "mask": MAJOR_MASK, "reset": MAJOR_RESET, "key": KEY}
STEP = {"carry": None, "x": MAJOR[:, 0], "reset": MAJOR_RESET[:, 0]}
GATHERED = {"xs": MAJOR, "mask": MAJOR_MASK}
LABELS = {"labels": np.array([[1, 2], [3, 0]]), "label_mask": np.array([[True, True], [True, False]])}


def _of(make, *arguments, **options):
    """What makes the module, once."""
    return functools.cache(lambda: drawn(make, *arguments, **options))


def calls():
    """The arguments by name; see `calls.all_calls`."""
    return (
        _layers()
        | _blocks()
        | _attention()
        | _models()
        | _crf()
        | _heads()
        | _forecasts()
        | _language()
        | _translation()
    )


def _layers():
    recurrent = _of(nn.Recurrent, CELL, D)
    tcn = _of(nn.TCN, D, [4], dropout=0.1)
    return {
        "nn.Recurrent": {"cell": CELL, "in_features": D, **MADE_OF_CELL},
        "nn.TCN": {"in_features": D, "channels": [4], "width": 2, "dropout": 0.1, "weight_norm": True, **MADE},
        **_reading("Recurrent", recurrent, recurrent().initial_carry((B,))),
        **_reading("TCN", tcn, tcn().initial_carry((B,))),
    }


def _blocks():
    """Every block with all of its arguments, and what puts them in order."""
    inner = {"inner": 4, "window": 2}
    own = {
        "GriffinBlock": {**inner, "heads": 2, "hidden": 2},
        "MambaBlock": {**inner, "state": 2, "rank": 1},
        "Mamba2Block": {**inner, "heads": 2, "state": 2, "groups": 1},
        "GatedDeltaNetBlock": {"heads": 2, "key_size": 2, "value_size": 1, "key_heads": 1, "window": 2, "hidden": 2},
        "MlstmBlock": {**inner, "heads": 2, "block": 2},
        "SlstmBlock": {"heads": 1, "window": 2, "hidden": 2},
        "XlstmBlock": {"inner": 4, "heads": 2, "key_size": 1, "hidden": 2, "cap": 15.0},
    }
    found = {}
    for name, options in own.items():
        options = {**options, "epsilon": 1e-6, "dropout": 0.1}
        block = _of(getattr(nn, name), D, **options)
        found |= {f"nn.{name}": {"features": D, **options, **MADE_OF_CELL}}
        found |= _reading(name, block, block().initial_carry((B,)))
    one = _of(nn.MambaBlock, D)
    blocks = _of(lambda rngs: nn.Blocks([nn.MambaBlock(D, state=2, rngs=rngs)], rngs=rngs))
    options = {"in_features": 2, "norm": "rms", "epsilon": 1e-6, "remat": False, **MADE}
    return (
        found | {"nn.Blocks": {"blocks": [one()], **options}} | _reading("Blocks", blocks, blocks().initial_carry((B,)))
    )


def _reading(name, of, carry, **more):
    """The methods that layers have, and models that read a stream."""
    return {
        f"nn.{name}.__call__": {"of": of, **READ, **more},
        f"nn.{name}.unroll": {"of": of, **READ, "carry": carry, **more},
        f"nn.{name}.step": {"of": of, **STEP, "carry": carry, **more},
        f"nn.{name}.initial_carry": {"of": of, "batch_shape": (B,)},
    }


def _attention():
    options = {"layers": 1, "heads": 2, "causal": True, "max_length": 8}
    looking = _of(nn.Transformer, D, 4, **options, memory_features=D, dropout=0.1)
    attention = _of(nn.Attention, D, D)
    memory, carry = looking().remember(MAJOR, mask=MAJOR_MASK), looking().initial_carry((B,))
    return {
        "nn.Transformer": {"in_features": D, "features": 4, **options, "kv_heads": 1, "hidden": 4, "norm": "pre"}
        | {"positions": "rotary", "memory_features": D, "activation": jax.nn.gelu, "dropout": 0.1, "remat": False}
        | MADE,
        **_reading("Transformer", looking, carry, memory=memory),
        "nn.Transformer.rewind": {"of": looking, "carry": carry, "steps": np.array([1, 0])},
        "nn.Transformer.remember": {"of": looking, "memory": MAJOR, "mask": MAJOR_MASK},
        "nn.Attention": {"query_features": D, "memory_features": D, "score": "additive", "hidden": 2, **MADE},
        "nn.Attention.remember": {"of": attention, "memory": MAJOR, "mask": MAJOR_MASK},
        "nn.Attention.__call__": {"of": attention, "queries": MAJOR, "memory": attention().remember(MAJOR)},
    }


def _models():
    pooled = {"ys": MAJOR, "mask": MAJOR_MASK}
    pool = _of(nn.AttentionPool, D)
    classifier = _of(nn.SequenceClassifier, CELL, D, 2)
    tagger = _of(nn.SequenceTagger, CELL, D, K)
    recognizer = _of(nn.CTCRecognizer, CELL, D, V)
    text_cnn = _of(nn.TextCNN, D, 2, widths=(2,), filters=2)
    sizes = {"cell": CELL, "in_features": D, "vocabulary": 5, **MADE_OF_CELL}
    text = {"in_features": D, "classes": 2, "widths": (2,), "filters": 2, "dropout": 0.1, "vocabulary": 5}
    return {
        **{f"nn.{name}_pool": pooled for name in ("last", "ends", "mean", "max", "mean_max")},
        "nn.attention_pool": pooled | {"scores": MAJOR[..., 0]},
        "nn.AttentionPool": {"features": D, **MADE},
        "nn.AttentionPool.__call__": {"of": pool, **pooled},
        "nn.SequenceClassifier": {**sizes, "classes": 2, "pooling": "last"},
        **_reading("SequenceClassifier", classifier, classifier().initial_carry((B,))),
        "nn.SequenceTagger": {**sizes, "tags": K},
        **_reading("SequenceTagger", tagger, tagger().initial_carry((B,))),
        "nn.CTCRecognizer": {**sizes, "labels": V, "blank": 0},
        **_reading("CTCRecognizer", recognizer, recognizer().initial_carry((B,))),
        "nn.CTCRecognizer.loss": {"of": recognizer, **GATHERED, "key": KEY, **LABELS},
        "nn.CTCRecognizer.greedy": {"of": recognizer, **GATHERED},
        "nn.CTCRecognizer.beam_search": {"of": recognizer, **GATHERED, "size": 2, "language_model": _says_nothing}
        | {"carry": (), "start": 0, "weight": 0.5, "bonus": 0.0, "expand": 2},
        "nn.TextCNN": text | MADE,
        "nn.TextCNN.__call__": {"of": text_cnn, **GATHERED, "key": KEY},
    }


def _says_nothing(carry, token):
    return carry, jnp.zeros((*token.shape, V))


def _crf():
    field = _of(nn.CRF, K)
    scored = {"of": field, "scores": jnp.swapaxes(SCORES, 0, 1), "mask": MAJOR_MASK}
    return {
        "nn.CRF": {"tags": K, "allowed": crf.bio(["O", "B-X"]), "param_dtype": None, **RNGS},
        "nn.CRF.decode": scored,
        "nn.CRF.field": {"of": field},
        "nn.CRF.k_best": scored | {"k": 2},
        "nn.CRF.log_likelihood": scored | {"tags": STATES.T},
        "nn.CRF.marginals": scored,
        "nn.CRF.sample": scored | {"key": KEY},
    }


def _heads():
    found = {"nn.Quantiles": {"levels": (0.1, 0.5, 0.9)}, "nn.Gaussian": {}, "nn.Point": {}}
    for name, head in (("Quantiles", nn.Quantiles()), ("Gaussian", nn.Gaussian()), ("Point", nn.Point())):
        of, raw = functools.partial(lambda head: head, head), MAJOR[..., : head.size]
        parameters = head.parameters(raw)
        found |= {
            f"nn.{name}.parameters": {"of": of, "raw": raw},
            f"nn.{name}.point": {"of": of, "parameters": parameters},
        }
        if name != "Point":  # which refuses all
            found |= {
                f"nn.{name}.interval": {"of": of, "parameters": parameters, "coverage": 0.8},
                f"nn.{name}.sample": {"of": of, "key": KEY, "parameters": parameters},
            }
    return found


def _forecasts():
    direct = _of(nn.Forecaster, CELL, D, 2)
    stepwise = _of(nn.AutoregressiveForecaster, CELL, D, head=nn.Gaussian())
    ahead = {"of": stepwise, **GATHERED, "carry": None, "horizon": 2}
    return {
        "nn.Forecaster": {"cell": CELL, "in_features": D, "horizon": 2, "targets": 1, "head": nn.Point()}
        | {"vocabulary": 5, **MADE_OF_CELL},
        **_reading("Forecaster", direct, direct().initial_carry((B,))),
        "nn.AutoregressiveForecaster": {"cell": CELL, "features": D, "head": nn.Gaussian(), **MADE_OF_CELL},
        **_reading("AutoregressiveForecaster", stepwise, stepwise().initial_carry((B,))),
        "nn.AutoregressiveForecaster.forecast": ahead,
        "nn.AutoregressiveForecaster.sample_paths": ahead | {"key": KEY, "paths": 2},
    }


def _language():
    model = _of(nn.LanguageModel, CELL, 5, 3)
    with_ngrams = _of(nn.LanguageModel, CELL, 5, 3, ngrams=nn.NGrams((2,), 8, 2))
    options = {"layers": 1, "heads": 2, "causal": True, "max_length": 8}
    layer = _of(lambda rngs: nn.LanguageModel(nn.Transformer(4, 4, **options, rngs=rngs), 5, 4, rngs=rngs))
    read = {"ids": IDS.T, "carry": None, "mask": MAJOR_MASK, "reset": MAJOR_RESET, "key": KEY}
    carry = with_ngrams().initial_carry((B,))
    return {
        "nn.LanguageModel": {"cell": CELL, "vocabulary": 5, "features": 3, "tied": False, **MADE_OF_CELL}
        | {"ngrams": nn.NGrams((2,), 8, 2)},
        "nn.LanguageModel.__call__": {"of": model, **read},
        "nn.LanguageModel.unroll": {"of": with_ngrams, **read, "carry": carry},
        "nn.LanguageModel.step": {"of": with_ngrams, "carry": carry, "ids": IDS[0], "reset": MAJOR_RESET[:, 0]},
        "nn.LanguageModel.initial_carry": {"of": model, "batch_shape": (B,)},
        "nn.LanguageModel.read": {"of": layer, "carry": layer().initial_carry((B,)), "tokens": IDS},
        "nn.LanguageModel.generate": {"of": model, "prompt": IDS.T, "length": 2, "key": KEY, "mask": None, "end": 1}
        | {"carry": model().initial_carry((B,)), "temperature": 1.0, "top_k": 2, "top_p": 0.9, "typical": 0.5},
    }


def _translation():
    sizes = {"source_vocabulary": V, "target_vocabulary": V, "features": 3, "start": 1, "end": 2}
    model = _of(nn.Seq2Seq, CELL, CELL, **sizes)
    pair = {"of": model, "source": IDS.T, "target": IDS.T, "source_mask": MAJOR_MASK, "target_mask": MAJOR_MASK}
    source = {"of": model, "source": IDS.T}
    return {
        "nn.Seq2Seq": {"encoder": CELL, "decoder": CELL, **sizes, "attention": "additive", "input_feeding": False}
        | MADE_OF_CELL,
        "nn.Seq2Seq.__call__": pair | {"key": KEY},
        "nn.Seq2Seq.loss": pair | {"smoothing": 0.1, "sampled": 0.5, "key": KEY},
        "nn.Seq2Seq.alignments": pair,
        "nn.Seq2Seq.encode": source | {"mask": MAJOR_MASK, "key": KEY},
        "nn.Seq2Seq.step": {"of": model, "carry": model().encode(IDS.T), "token": IDS[0]},
        "nn.Seq2Seq.generate": source | {"max_length": 3, "source_mask": MAJOR_MASK, "decode": decoding.greedy},
    }
