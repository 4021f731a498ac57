"""The matching of sound and text end to end on made-up sounds, its reader, its split, and how it is scored."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from examples import speech_and_text
from examples.baselines import durations
from examples.data import prompt_batches, spoken_digits, spoken_prompts
from examples.data.spoken_digits import RATE
from examples.data.spoken_prompts import Prompts
from examples.reports import matching
from jaxseq import train

LINES = """; Sounds

beep: [a beep]
silence/1: (1 second of silence)
letters/a: a
press: Press 1, or # ... now: it's at [@] once
digits/2: two
lost: of no recording
long: much too long
"""


def write_sounds(folder, rate=RATE):
    for name, seconds in {"press": 1.0, "digits/2": 0.5, "long": spoken_prompts.SECONDS + 0.1, "beep": 0.1}.items():
        path = Path(folder, f"{name}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(np.arange(round(seconds * RATE)))
        wavfile.write(path, rate, np.int16(20_000 * np.pad(tone, 800)))


def test_prompts_are_what_is_said_and_recorded_and_not_too_long(tmp_path):
    write_sounds(tmp_path)
    prompts = spoken_prompts.read_prompts(tmp_path, LINES)
    assert prompts.texts == ["press one or pound now its at once", "two"]
    assert [len(sound) for sound in prompts.sounds] == [RATE, RATE // 2]  # the silence is cut off
    write_sounds(tmp_path, rate=16_000)
    with pytest.raises(ValueError, match=r"of 8000 Hz; got \[16000, "):
        spoken_prompts.read_prompts(tmp_path, LINES)


def test_both_packages_are_read(tmp_path, monkeypatch):
    def extract(command, *, check):
        assert command[:3] == ["dpkg-deb", "--extract", Path("asterisk-core-sounds-en-wav.deb")]
        assert check
        write_sounds(Path(command[3], "usr/share/asterisk/sounds/en_US_f_Allison"))

    def read(package, member):
        assert package == "asterisk-core-sounds-en"
        assert member == "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
        return spoken_prompts.gzip.compress(LINES.encode())

    monkeypatch.setattr(spoken_prompts, "fetch", lambda name, *_: name)
    monkeypatch.setattr(spoken_digits, "fetch", lambda name, *_: Path(f"{name}.deb"))
    monkeypatch.setattr(spoken_prompts, "read", read)
    monkeypatch.setattr(subprocess, "run", extract)
    assert spoken_prompts.asterisk().texts[1] == "two"


def test_no_text_is_in_two_parts_and_none_is_tested_twice():
    texts = [f"text {number // 2}" for number in range(100)]  # each in two recordings
    training, *held_out = Prompts([np.full(1, float(number)) for number in range(100)], texts).split()
    parts = [set(part.texts) for part in (training, *held_out)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(training.texts) == 60
    for part in held_out:
        assert len(part.texts) == len(set(part.texts)) == 10
        assert [texts[int(sound[0])] for sound in part.sounds] == part.texts


def test_a_text_is_in_one_pair_that_matches_and_in_one_that_does_not():
    texts = ["a" * length for length in (5, 1, 9, 2, 8, 6)]
    scores = np.arange(36.0).reshape(6, 6)  # row and column can be read off
    for alike in (False, True):
        found, match = matching.pairs(scores, texts, alike=alike)
        rows, columns = np.divmod(found.astype(int), 6)
        np.testing.assert_array_equal(rows == columns, match)
        np.testing.assert_array_equal(np.sort(columns[~match]), range(6))
        np.testing.assert_array_equal(rows[~match], range(6))
    assert columns[~match].tolist() == [5, 3, 4, 1, 2, 0]  # alike: 1 with 2, 5 with 6, 8 with 9
    for alone in (scores.mean(axis=1, keepdims=True), scores.mean(axis=0)):
        alone = np.broadcast_to(alone, scores.shape)
        accuracy, precision, *_ = matching.decisions(alone, texts, (alone, texts), alike=True)
        assert (accuracy, precision) == (0.5, 0.5)
        assert sorted(matching.places(alone)) == [1, 2, 3, 4, 5, 6]  # chance


def test_places_and_decisions_of_known_scores():
    scores = np.array([[9.0, 1, 1, 1], [5, 3, 1, 4], [0, 0, 8, 0], [7, 1, 1, 6]])
    assert matching.places(scores).tolist() == [1, 3, 1, 2]
    texts, validation = ["a", "bb", "ccc", "dddd"], (np.diag([4.0, 4, 4, 4]), ["a", "bb", "ccc", "dddd"])
    accuracy, precision, recall, f1 = matching.decisions(scores, texts, validation, alike=True)  # 4 and above
    assert (precision, recall) == (3 / 4, 3 / 4)  # 9, 8, 6 of 9, 3, 8, 6; and 5 of 1, 5, 0, 1
    assert accuracy == f1 == 0.75


def test_the_baseline_knows_lengths_alone():
    prompts = Prompts([np.ones(RATE * n) for n in (1, 2, 3)], ["a", "bb", "ccc"])
    np.testing.assert_allclose(
        durations.by_duration(prompts, prompts), -np.abs(np.subtract.outer([1, 2, 3], [1, 2, 3])), atol=1e-9
    )


def test_several_scores_are_better_than_each():
    random, N = np.random.default_rng(0), 80
    kinds = [[np.eye(N) + random.normal(size=(N, N)) for _ in range(2)] for _ in range(3)]
    texts = ["a"] * N
    together = matching.combine(kinds, texts)
    accuracies = [
        matching.decisions(test, texts, (validation, texts), alike=False)[0] for validation, test in (*kinds, together)
    ]
    assert accuracies[-1] > max(accuracies[:-1]) + 0.03


def test_batches_are_new_of_few_shapes_and_of_about_one_length():
    prompts = spoken_prompts.made_up(90)
    loader = prompt_batches.training(prompts, 4, 3, seed=0)
    first, second, third = (next(loader.epoch(1, start)) for start in range(3))
    np.testing.assert_array_equal(first["signal"], next(loader.epoch(1))["signal"])
    assert not np.array_equal(first["ids"], next(loader.epoch(0))["ids"])
    for batch in (first, second, third):
        units = batch["signal"].shape[1] // prompt_batches.SPOKEN
        assert units in (1, 2, 4)
        assert batch["ids"].shape == (4, units * prompt_batches.LETTERS)
        lengths = batch["letter_mask"].sum(axis=1)
        assert lengths.max() - lengths.min() <= 8
    text = "".join(prompt_batches.VOCABULARY.decode(first["ids"][0][first["letter_mask"][0]]))
    assert text in prompts.texts


@pytest.mark.learn
def test_smoke_run_learns_and_writes_what_it_says(tmp_path, capsys):
    speech_and_text.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    rows = {
        name.strip(): [float(number) for number in re.findall(r"\d+\.\d+", rest)]
        for name, rest in re.findall(r"^(attention|CTC|duration|all three|sound alone|text alone) (.*)$", printed, re.M)
    }
    assert [len(row) for row in rows.values()] == [11] * 6
    for alone in ("sound alone", "text alone"):
        assert rows[alone][0] == rows[alone][1] == rows[alone][4] == 50.0
        assert rows[alone][8] == round(100 / 18, 1)
    assert rows["CTC"][0] > 80
    assert rows["CTC"][8] > 60
    names = {"checkpoints", "curves.png", "scores.png", "attention.png", "model"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert train.load_info(tmp_path / "model")["vocabulary"] == prompt_batches.VOCABULARY.to_dict()
