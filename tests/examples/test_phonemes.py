"""Spelling to phonemes end to end on a made-up language, and what its parts do."""

import re

import numpy as np
import pytest

from examples import phonemes
from examples.baselines import alphabet
from examples.data import pronunciations
from examples.reports.pronunciations import error_rates
from examples.shared import pairs
from jaxseq import train

LINES = """
read R EH1 D
read(2) R IY1 D
read(3) R EH1 D
aachen AA1 K AH0 N # place, german
a's EY1 Z
"""


def test_pronunciations_of_a_word_come_together_once_each():
    assert pronunciations.parse(LINES.strip()) == {
        "read": [("R", "EH1", "D"), ("R", "IY1", "D")],
        "aachen": [("AA1", "K", "AH0", "N")],
        "a's": [("EY1", "Z")],
    }


def test_errors_are_counted_against_the_nearest_pronunciation():
    lexicon = pronunciations.parse(LINES.strip())
    said = [("R", "IY0", "D"), ("AA1", "K", "N"), ("EY1", "Z")]
    per, wer = error_rates(lexicon, list(lexicon), said, stress=True)
    assert (per, wer) == (pytest.approx(2 / 9), pytest.approx(2 / 3))
    per, wer = error_rates(lexicon, list(lexicon), said, stress=False)
    assert (per, wer) == (pytest.approx(1 / 9), pytest.approx(1 / 3))
    per, wer = error_rates(lexicon, ["a's", "a's"], [("EY1", "Z"), ()], stress=True)  # a word said twice
    assert (per, wer) == (pytest.approx(1 / 2), pytest.approx(1 / 2))


def test_the_baseline_takes_the_word_that_begins_alike():
    lexicon = {"ba": [("B", "AA1")], "banana": [("B", "N")], "car": [("K",)]}
    found = alphabet.pronounce(lexicon, ["car", "banana", "ba"], ["banal", "aa", "zoo", "cat"])
    assert found == [("B", "N"), ("B", "AA1"), ("K",), ("K",)]


def test_batches_hold_pairs_and_their_padding():
    made = pairs.Pairs([np.array([1, 2, 3]), np.array([4])], [np.array([7]), np.array([8, 9, 6, 5, 4])])
    first, second = pairs.batches(pairs.Pairs([*made.sources] * 2, [*made.targets] * 2), 3, multiple=2).epoch(0)
    np.testing.assert_array_equal(first["source"], [[1, 2, 3, 0], [1, 2, 3, 0], [4, 0, 0, 0]])
    np.testing.assert_array_equal(first["target"], [[7, 0, 0, 0, 0, 0], [7, 0, 0, 0, 0, 0], [8, 9, 6, 5, 4, 0]])
    np.testing.assert_array_equal(second["real"], [True, False, False])
    assert second["target_mask"].sum(axis=1).tolist() == [5, 0, 0]


@pytest.mark.learn
def test_smoke_run_learns_and_pronounces(tmp_path, capsys):
    phonemes.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    rates = {
        name: [float(rate) for rate in re.findall(r"([\d.]+)%", rest)]
        for name, rest in re.findall(r"^(jaxseq, \w+|the word)(.*%)$", printed, re.M)
    }
    assert rates["jaxseq, greedy"][0] < 10
    assert rates["jaxseq, beam"][0] < 10
    assert rates["the word"][0] > 20
    assert {path.name for path in tmp_path.iterdir()} == {"alignments.png", "checkpoints", "curves.png", "model"}
    assert set(train.load_info(tmp_path / "model")) == {"letters", "phonemes"}
    phonemes.main(["--smoke", "--predict-only", "--out", str(tmp_path), "KAATI"])
    assert capsys.readouterr().out.split() == ["kaati", "K", "AA1", "T", "IH0"]
    with pytest.raises(SystemExit):
        phonemes.main(["--smoke", "--predict-only", "--out", str(tmp_path / "other"), "kaati"])
    assert "there is no model in" in capsys.readouterr().err
