"""The example end to end on made-up waves, and the parser of `.ts` files."""

import re

import numpy as np
import pytest

from examples import series_classification
from examples.data import ts_files
from jaxseq import train

TEXT = """#a comment
@problemName Vowels
@timeStamps false
@equalLength false
@classLabel true anna ben
@data
1.5,-2,3:0.25,?,1e-1:ben
7:8:anna

"""


def test_parse():
    sequences, labels, classes = ts_files.parse(TEXT)
    np.testing.assert_array_equal(sequences[0], np.array([[1.5, 0.25], [-2, np.nan], [3, 0.1]], np.float32))
    np.testing.assert_array_equal(sequences[1], [[7, 8]])
    assert sequences[0].dtype == np.float32
    assert labels.tolist() == [1, 0]
    assert classes == ["anna", "ben"]


def test_parse_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"@classLabel true"):
        ts_files.parse(TEXT.replace("@classLabel true", "@classLabel false"))
    with pytest.raises(ValueError, match="no time stamps"):
        ts_files.parse(TEXT.replace("@timeStamps false", "@timeStamps true"))
    with pytest.raises(ValueError, match=r"case 2 .* got 7:8:carl"):
        ts_files.parse(TEXT.replace("8:anna", "8:carl"))
    with pytest.raises(ValueError, match="case 1 must have columns of one length"):
        ts_files.parse(TEXT.replace("-2,3", "-2"))


def test_arrays_are_normalised_by_the_rows_that_are_named():
    cases = ts_files.made_up(6, 0)
    rows = np.array([4, 1])
    normalizer = ts_files.fit_normalizer(cases, rows)
    arrays = ts_files.as_arrays(cases, normalizer, rows)
    real = arrays["xs"][arrays["mask"]]
    assert arrays["xs"].shape == (2, ts_files.FRAMES, 3)
    np.testing.assert_allclose(real.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(real.std(axis=0), 1, atol=1e-6)
    assert arrays["labels"].tolist() == [1, 1]


@pytest.mark.learn
def test_smoke_run_learns_and_goes_on(tmp_path, capsys):
    series_classification.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    accuracy = {
        name: float(number)
        for name, number in re.findall(r"^(\S.*?\S) {2,}([\d.]+)%", printed, re.M)
        if "noise" not in name
    }
    assert accuracy["GRU, mean of three"] > max(accuracy["logistic regression"], accuracy["most frequent"]) + 15
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "confusion.png", "curves.png", "model"}
    assert train.load_info(tmp_path / "model")["classes"] == ["backward", "still", "forward"]
    series_classification.main(["--smoke", "--out", str(tmp_path)])
    again = capsys.readouterr().out
    assert again.splitlines()[:-1] == printed.splitlines()[:-1]  # all but the time
