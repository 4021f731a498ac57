"""The convolutional classifier's example: what each word adds, and the run end to end on made-up texts."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from examples import text_cnn
from examples.reports import phrases
from jaxseq import data, nn


def test_words_add_up_to_the_log_odds():
    model = nn.TextCNN(4, 2, widths=(2, 3), filters=5, vocabulary=9, rngs=nnx.Rngs(0))
    assert model.head.bias is not None
    model.head.bias[...] += np.array([0.3, -0.2])
    xs, mask = data.pad([[3, 1, 4, 1, 5], [8], [2, 7]], length=6)
    added = phrases.additions(model, xs, mask)
    logits = model(xs, mask=mask)
    np.testing.assert_allclose(added.sum(axis=1) - 0.5, logits[:, 1] - logits[:, 0], rtol=1e-5, atol=1e-6)
    assert np.all(added[~mask] == 0)


def test_a_word_has_its_share_of_its_phrase():
    """One filter of two words, that of "3 1" and stronger than any other."""
    model = nn.TextCNN(2, 2, widths=(2,), filters=1, vocabulary=4, rngs=nnx.Rngs(0))
    assert model.embedding is not None
    model.embedding.embedding[...] = np.array([[9, 9], [0, 1], [0, 0], [1, 0]], np.float32)  # 0 is padding
    model.convs[0].kernel[...] = np.array([[[2], [0]], [[0], [1]]], np.float32)
    model.head.kernel[...] = np.array([[1, 3]], np.float32)
    xs, mask = data.pad([[2, 3, 1, 2], [2, 3]], length=5)
    np.testing.assert_allclose(phrases.matches(model, jnp.asarray(xs), jnp.asarray(mask))[0][0, :, 0], [0, 3, 0, 0, 0])
    np.testing.assert_allclose(phrases.additions(model, xs, mask), [[0, 3, 3, 0, 0], [0, 4, 0, 0, 0]])


@pytest.mark.learn
def test_smoke_run_learns(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(text_cnn, "SEEDS", 2)
    text_cnn.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    rows = re.findall(r"^(\S.*?\S) {2,}([\d.]+)%", printed, re.M)
    accuracy = {name: float(number) for name, number in rows}
    assert min(accuracy["TextCNN, 2 seeds"], accuracy["BiGRU, 2 seeds"]) > 85 > 60 > accuracy["majority class"]
    phrases = re.findall(r"^([+-])[\d.]+  (.*)$", printed, re.M)
    praise, blame = ({phrase for side, phrase in phrases if side == sign} for sign in "+-")
    assert all(re.search("splendid|touching|clever", phrase) for phrase in praise)
    assert all(re.search("dull|clumsy|tiresome", phrase) for phrase in blame)
    assert (tmp_path / "phrases.png").stat().st_size > 10_000
    for name in text_cnn.NETS:
        assert {path.name for path in (tmp_path / name).iterdir()} == {"seed-0", "seed-1", "model", "curves.png"}
