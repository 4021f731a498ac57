"""The recogniser of number strings end to end on made-up sounds, and what it is trained on."""

import re

import numpy as np
import pytest

from examples import speech_digits
from examples.data import digit_strings
from examples.data.spoken_digits import RATE, made_up, spell
from examples.shared import spectra
from jaxseq import train

CLIPS = made_up()


def batch_of(*strings, decibels=(20, 20)):
    return digit_strings.make_batch(CLIPS, strings, np.random.default_rng(0), decibels)


def test_a_batch_holds_the_sound_and_the_letters():
    batch = batch_of((3,), (1, 2))
    assert batch["signal"].shape == batch["real"].shape
    assert batch["signal"].shape[1] % RATE == 0
    assert batch["labels"].shape == (2, 12)
    for row, digits in enumerate([(3,), (1, 2)]):
        letters = digit_strings.VOCABULARY.decode(batch["labels"][row][batch["label_mask"][row]])
        assert "".join(letters) == spell(digits)


def test_frames_are_normalised_by_those_that_are_real():
    batch = batch_of((3,), (1, 2, 8))
    xs, mask = (np.asarray(leaf) for leaf in spectra.features(batch))
    assert xs.shape == (*mask.shape, spectra.BANDS)
    np.testing.assert_array_equal(mask.sum(axis=1), (batch["real"].sum(axis=1) - 256) // 160 + 1)
    np.testing.assert_allclose(xs[0][mask[0]].mean(axis=0), 0, atol=1e-4)
    assert np.all(xs[~mask] == 0)
    alone = {name: leaf[:1, : batch["real"][0].sum()] for name, leaf in batch.items() if name in ("signal", "real")}
    np.testing.assert_allclose(spectra.features(alone)[0][0], xs[0][mask[0]], atol=1e-4)


def test_training_leaves_out_what_is_held_out_and_is_the_same_again():
    held_out = {(a, b) for a in range(10) for b in range(10) if (a, b) != (4, 2)}
    loader = digit_strings.training(CLIPS, (1, 2), held_out, seed=0)
    first, second = (next(loader.epoch(1, start)) for start in (0, 1))
    texts = ["".join(digit_strings.VOCABULARY.decode(row)) for row in second["labels"]]
    assert set(texts) == {"four two<blank><blank><blank><blank>"}
    assert first["labels"].shape == (digit_strings.BATCH, 6)
    np.testing.assert_array_equal(first["signal"], next(loader.epoch(1))["signal"])
    assert not np.array_equal(first["labels"], next(loader.epoch(0))["labels"])


@pytest.mark.learn
def test_smoke_run_learns_and_goes_on(tmp_path, capsys):
    speech_digits.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    rows = {
        how: [float(rate) for rate in re.findall(r"([\d.]+)%", rest)]
        for how, rest in re.findall(r"^made up, (\w+)(.*)$", printed, re.M)
    }
    assert [len(rates) for rates in rows.values()] == [6, 6, 6]
    assert rows["quiet"][0] < 30
    assert rows["quiet"][4] <= rows["quiet"][0]  # the words help
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "curves.png", "alignment.png", "model"}
    assert train.load_info(tmp_path / "model")["vocabulary"] == digit_strings.VOCABULARY.to_dict()
    speech_digits.main(["--smoke", "--out", str(tmp_path)])
    again = capsys.readouterr().out.splitlines()
    assert again[:-1] == [line for line in printed.splitlines() if not line.startswith("step")][:-1]  # all but the time
