"""The sentiment example end to end on made-up texts, and the parsing of both languages' files."""

import numpy as np
import pytest

from examples import sentiment
from examples.data import reviews
from jaxseq.data import Vocabulary

pytestmark = pytest.mark.xdist_group("sentiment")  # one run for all

LINES = """1\t2.26\tA warm, funny film.
2\t-0.6\tEffective but too tepid
3\t0.0\tneither here nor there
4\t-1.5\t a warm, FUNNY film. 
5_2\t-0.1\tNo picture
5_11\t1\tIt’s fine"""  # noqa: W291 the space is to be stripped


def test_scored_lines():
    texts, labels, groups = reviews.parse_scored(LINES)
    assert texts == ["A warm, funny film.", "Effective but too tepid", "No picture", "It’s fine"]
    assert labels.tolist() == [1, 0, 0, 1]
    assert groups == ["1", "2", "5", "5"]


def test_two_files():
    positive = "很好，喜欢\n \n很好 喜欢！\n房间 Wifi 很快\n:)\n还行\n这本书写得很好我看了两遍还想再看第三遍真的\n"
    negative = "还行。\r\n太差了\r\n太差了\r\n这本书写得很好我看了两遍还想再看第三遍假的"
    texts, labels, groups = reviews.parse_two(positive, negative)
    twice = "这本书写得很好我看了两遍还想再看第三遍"
    assert texts == ["很好，喜欢", "房间 Wifi 很快", f"{twice}真的", "太差了", f"{twice}假的"]
    assert labels.tolist() == [1, 1, 1, 0, 0]
    assert groups[:2] == ["很好喜欢", "房间wifi很快"]
    assert [len(set(groups)), groups[2][:19], groups[4][:19]] == [5, twice, twice]


def test_what_starts_alike_is_in_one_part():
    random = np.random.default_rng(0)
    starts = ["".join(random.choice(list("abcdefgh"), 20)) for _ in range(40)]
    texts = reviews.parse_two("\n".join(start + "x" for start in starts), "\n".join(start + "y" for start in starts))
    parts = texts.split()
    assert sum(len(part.texts) for part in parts) == len(texts.texts) == 80
    groups = [set(part.groups) for part in parts]
    assert sum(map(len, groups)) == 40
    for part in parts:
        assert part.labels.tolist() == [int(text.endswith("x")) for text in part.texts]
    again = texts.split()
    assert [part.texts for part in again] == [part.texts for part in parts]


def test_characters_keep_both_ends_of_a_long_text():
    assert reviews.characters("房间 Wifi\n很快") == list("房间wifi很快")
    text = "".join(chr(0x4E00 + n) for n in range(130))
    assert reviews.characters(text[:128]) == list(text[:128])
    assert reviews.characters(text) == list(text[:64] + text[66:])


def accuracy(printed, name="jaxseq"):
    row = next(line for line in printed.splitlines() if line.startswith(name))
    return float(row.split()[-4].rstrip("%"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What is printed by a run on Chinese characters, which the others of this file go on from."""
    out = tmp_path_factory.mktemp("sentiment")
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda *words, end="\n", **_: printed.append(" ".join(map(str, words)) + end))
        sentiment.main(["--smoke", "--language", "zh", "--out", str(out)])
    return out, "".join(printed)


@pytest.mark.learn
def test_end_to_end(trained):
    out, printed = trained
    assert "225 texts to train on, 30 to validate, 45 to test" in printed
    assert accuracy(printed) > 90 > 70 > accuracy(printed, "majority")
    for name in ("curves.png", "confusion.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    for line in printed.splitlines()[-3:]:
        assert line.split()[0] in ("positive", "negative")


@pytest.mark.learn
def test_it_goes_on_from_what_is_there(trained, capsys):
    out, printed = trained
    sentiment.main(["--smoke", "--language", "zh", "--out", str(out), "一本很好的书"])
    again = capsys.readouterr().out
    assert "epoch" not in again  # nothing was left to train
    assert accuracy(again) == accuracy(printed)
    assert again.splitlines()[-1].startswith("positive")


@pytest.mark.learn
def test_predict_only(trained, capsys):
    out, _ = trained
    sentiment.main(["--predict-only", "--out", str(out), "房间 很好", "书 糟糕", ""])
    first, second, third = capsys.readouterr().out.strip("\n").splitlines()
    assert first.startswith("positive")
    assert first.endswith("房间 很好")
    assert second.startswith("negative")
    assert third.split()[0] in ("positive", "negative")


def test_predict_only_wants_a_model(tmp_path, capsys):
    with pytest.raises(SystemExit):
        sentiment.main(["--predict-only", "--out", str(tmp_path), "a film"])
    assert "run once without --predict-only" in capsys.readouterr().err


def test_a_file_of_ones_own_is_read(tmp_path, monkeypatch, capsys):
    path = tmp_path / "own.tsv"
    path.write_text("\n".join(f"{n}\t{1 - n % 2 * 2}\t{'good' if n % 2 == 0 else 'bad'} ’{n}" for n in range(20)))
    seen = {}

    class EnoughError(Exception):
        """Raised in place of the training."""

    def fit(language, vocabulary, parts, args):
        seen.update(vocabulary=vocabulary, parts=parts)
        raise EnoughError

    monkeypatch.setattr(sentiment, "fit", fit)
    with pytest.raises(EnoughError):
        sentiment.main(["--data", str(path), "--out", str(tmp_path / "out")])
    assert "15 texts to train on, 2 to validate, 3 to test" in capsys.readouterr().out
    assert isinstance(seen["vocabulary"], Vocabulary)
    assert {"good", "bad"} < set(seen["vocabulary"].tokens)
    for part in seen["parts"]:
        assert part.labels.tolist() == [int("good" in text) for text in part.texts]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1\t2.0\tgood\n2 1.0 bad", r"line 2 must be id, score and text, apart by tabs; got 1 parts"),
        ("", "there are no lines"),
    ],
)
def test_lines_of_another_form(lines, message):
    with pytest.raises(ValueError, match=message):
        reviews.parse_scored(lines)
