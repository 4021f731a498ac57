"""Files of Keras's models by `interop.keras`, `.keras` and `.h5`, read without Keras; damaged ones too."""

import pickle
import random
import warnings
import zipfile

import h5py
import jax
import keras
import numpy as np
import pytest

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.interop.problem import assert_same_net

pytestmark = pytest.mark.usefixtures("x64")

D, H = 3, 4
layers = keras.layers


def write_model(folder, *made):
    model = keras.Sequential([keras.Input((None, D)), layers.Masking(), *made])
    for variable, drawn in zip(model.weights, zoo.random_like([each.value for each in model.weights], 0), strict=True):
        variable.assign(drawn)
    paths = folder / "model.keras", folder / "model.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of its older format, NumPy of how Keras makes arrays
        model.save(paths[0])
        model.save(paths[1])
    return model, paths


def recurrent():
    return [
        layers.LSTM(H, return_sequences=True, name="first", dropout=0.25),
        layers.LSTM(H, return_sequences=True, recurrent_activation="hard_sigmoid", name="second"),
        layers.Bidirectional(layers.GRU(2, return_sequences=True), merge_mode="ave"),
        layers.RNN(layers.StackedRNNCells([layers.LSTMCell(2), layers.SimpleRNNCell(3), layers.LSTMCell(2)])),
    ]


def test_files_of_models(tmp_path):
    """Both formats, without Keras; and the model itself, its weights' list, and outputs in float32."""
    model, paths = write_model(tmp_path, *recurrent())
    net, params = interop.keras.from_model(model)
    hard = jaxseq.lstm(H, gate=jax.nn.hard_sigmoid)
    assert net is jaxseq.stack(
        jaxseq.dropout(jaxseq.lstm(H), inputs=0.25),
        hard,
        jaxseq.bidirectional(jaxseq.gru(2), merge="mean"),
        jaxseq.stack(jaxseq.lstm(2), jaxseq.rnn(3), jaxseq.lstm(2)),
    )
    for path in paths:
        assert_same_net((net, params), interop.keras.load(path))
        assert_same_net((hard, params[1]), interop.keras.load(path, "second"))
    xs = np.random.default_rng(0).normal(size=(5, 2, D)).astype(np.float32)
    _, ys = jaxseq.unroll(net, params, xs)
    zoo.assert_close(ys[-1], model(np.swapaxes(xs, 0, 1)), 1e-6)
    cell, own = interop.keras.from_weights(model.weights[6:9], kind="gru")
    assert_same_net((jaxseq.gru(2), params[2].forward), (cell, own))
    plain = jaxseq.stack(jaxseq.lstm(H), hard)
    again = interop.keras.to_layer(plain, params[:2])
    assert_same_net((plain, params[:2]), interop.keras.from_layer(again))
    deep = jaxseq.stack(hard, jaxseq.bidirectional(jaxseq.gru(2), merge="mean"))
    assert_same_net((deep, params[1:3]), interop.keras.from_model(interop.keras.to_layer(deep, params[1:3])))


def test_files_of_keras_2(tmp_path):
    """Whose hard sigmoid was 0.2 a + 0.5, and whose first GRU reset before, without saying so."""
    _, (_, path) = write_model(tmp_path, layers.GRU(2, recurrent_activation="hard_sigmoid", reset_after=False))
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = "2.2.4"
        file.attrs["model_config"] = str(file.attrs["model_config"]).replace('"reset_after": false, ', "")
    assert repr(interop.keras.load(path)[0]) == "gru(2, reset_after=False, gate=hard_sigmoid(0.2, 0.5))"


class Runs:
    """What would run, were it unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize("part", ["config.json", "metadata.json", "model.weights.h5", "the whole .keras", "the .h5"])
def test_a_pickle_inside_is_not_run(part, tmp_path):
    _, (path, old) = write_model(tmp_path, layers.LSTM(2))
    with zipfile.ZipFile(path) as parts:
        files = {name: parts.read(name) for name in parts.namelist()}
    if part in files:
        with zipfile.ZipFile(path, "w") as parts:
            for name, data in (files | {part: pickle.dumps(Runs())}).items():
                parts.writestr(name, data)
    else:
        path = old if part == "the .h5" else path
        path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(ValueError, match=rf"{path.name} is not a model's \.keras or \.h5 file, or is damaged"):
        interop.keras.load(path)


def test_a_lambda_layer_is_not_run(tmp_path):
    """Its code stands in the file; the recurrent layers beside it are read."""
    _, (path, _) = write_model(tmp_path, layers.LSTM(2, name="one"), layers.Lambda(lambda xs: xs + 1, name="code"))
    assert interop.keras.load(path, "one")[0] is jaxseq.lstm(2)
    with pytest.raises(ValueError, match="choose one by `layer`"):
        interop.keras.load(path)
    with pytest.raises(ValueError, match="Lambda"):
        interop.keras.load(path, "code")


@pytest.mark.learn
def test_a_thousand_mutated_files(tmp_path):
    """Each gives a net or one error: a `.keras`, a zip with checksums, and an `.h5`, which has none, cut off.

    Bytes changed inside an `.h5` can keep HDF5's own reader busy for ever, so they are not tried.
    """
    _, paths = write_model(tmp_path, layers.LSTM(2))
    draw, refused = random.Random(0), 0
    for path in paths:
        data = path.read_bytes()
        for _ in range(500):
            changed = bytearray(data)
            for _ in range(draw.randint(1, 20) if path.suffix == ".keras" else 0):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            whole = path.suffix == ".keras" and draw.random() < 0.5
            path.write_bytes(changed if whole else changed[: draw.randrange(len(changed))])
            try:
                net, _ = interop.keras.load(path)
            except ValueError:
                refused += 1
            else:
                assert isinstance(net, jaxseq.Cell | jaxseq.Composite)
    assert refused > 500
