"""Models of `jaxseq.nn` as ONNX files: what they return, in ONNX Runtime, at several sizes."""

import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from flax import nnx

import jaxseq
from jaxseq import interop, nn
from tests.nn.drawn import drawn

D, H, V, K = 3, 4, 7, 5
BOTH = jaxseq.bidirectional(jaxseq.gru(H))
MODELS = {
    **{
        f"classifier {pooling}": lambda pooling=pooling: drawn(
            nn.SequenceClassifier, jaxseq.lstm(H), D, K, pooling=pooling, vocabulary=V
        )
        for pooling in ("last", "mean", "max", "mean_max", "attention")
    },
    "classifier of floats": lambda: drawn(nn.SequenceClassifier, BOTH, D, K),
    "tagger": lambda: drawn(nn.SequenceTagger, BOTH, D, K, vocabulary=V),
    "tagger of floats": lambda: drawn(nn.SequenceTagger, jaxseq.learned_carry(jaxseq.rnn(H)), D, K),
    "language model": lambda: drawn(
        nn.LanguageModel, jaxseq.stack(jaxseq.gru(D), jaxseq.residual(jaxseq.gru(D))), V, D
    ),
    "tied language model": lambda: drawn(nn.LanguageModel, jaxseq.lstm(H), V, D, tied=True),
    "forecaster": lambda: drawn(nn.Forecaster, jaxseq.gru(H), D, 6, targets=2),
    "forecaster of quantiles": lambda: drawn(nn.Forecaster, jaxseq.gru(H), D, 6, head=nn.Quantiles((0.1, 0.5, 0.9))),
    "forecaster of normals": lambda: drawn(nn.Forecaster, BOTH, D, 6, targets=2, head=nn.Gaussian()),
}


def session_of(model, path, **options):
    interop.onnx.export_model(model, path, **options)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.some(5)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_agree(name, ragged, tmp_path):
    model, generator = MODELS[name](), np.random.default_rng(0)
    session = session_of(model, tmp_path / "model.onnx", lengths=ragged)
    has_ids = getattr(model, "embedding", None) is not None
    for T, B in ((6, 3), (1, 2)):
        lengths = np.array([T, *generator.integers(1, T + 1, B - 1)], np.int32)
        xs = generator.integers(0, V, (B, T)) if has_ids else generator.normal(size=(B, T, D)).astype(np.float32)
        mask = (np.arange(T) < lengths[:, None]) if ragged else None
        if mask is not None and has_ids:
            xs = np.where(mask, xs, 1000)
        given = {"ids" if has_ids else "xs": xs, **({"lengths": lengths} if ragged else {})}
        got = np.asarray(session.run(None, given)[0])
        want = nnx.jit(lambda model, xs, mask=mask: model(xs, mask=mask))(model, jnp.asarray(xs))
        if mask is not None and got.shape[:2] == mask.shape and T > 1:
            got, want = got[mask], want[mask]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_language_model_writes_step_by_step(tmp_path):
    model = MODELS["tied language model"]()
    session = session_of(model, tmp_path / "step.onnx", carry=True)
    carry, ids = {f"carry.recurrent.{part}": np.zeros([2, H], np.float32) for part in "hc"}, np.array([[1], [2]])
    prompt = jnp.asarray(ids)
    want = model.generate(prompt, 5, temperature=0.0)
    written = []
    for _ in range(5):
        logits, *last = session.run(["logits", "last.recurrent.h", "last.recurrent.c"], {"ids": ids, **carry})
        carry, ids = dict(zip(carry, last, strict=True)), np.argmax(np.asarray(logits), axis=-1)
        written.append(ids[:, 0])
    np.testing.assert_array_equal(np.stack(written, axis=1), want)


FAULTS = {
    "must be an nn.SequenceClassifier": lambda: drawn(nn.TCN, D, [H]),
    "its layer is TCN": lambda: drawn(nn.SequenceTagger, drawn(nn.TCN, D, [H]), D, K),
    "no equivalent of `ngrams`": lambda: drawn(nn.LanguageModel, jaxseq.gru(H), V, D, ngrams=nn.NGrams((2,))),
    "no equivalent of slstm": lambda: drawn(nn.SequenceTagger, jaxseq.slstm(H), D, K),
}


@pytest.mark.parametrize("words", FAULTS)
def test_what_has_no_equal_is_named(words, tmp_path):
    with pytest.raises((TypeError, ValueError), match=words):
        interop.onnx.export_model(FAULTS[words](), tmp_path / "model.onnx")
