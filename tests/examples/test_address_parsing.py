"""The example end to end on made-up addresses, the parser of the labelled ones, and its peer's features."""

import re

import numpy as np
import pytest

from examples import address_parsing
from examples.baselines import crfsuite
from examples.data import addresses
from jaxseq import data

XML = b"""<AddressCollection>
  <AddressString><AddressNumber>60</AddressNumber> <StreetName>Oak</StreetName>
    <PlaceName>Troy  Hill,</PlaceName></AddressString>
  <AddressString><AddressNumber> 7 </AddressNumber> <PlaceName>R&amp;D</PlaceName><ZipCode></ZipCode></AddressString>
  <AddressString><AddressNumber>60</AddressNumber> <PlaceName>OAK Troy hill,</PlaceName></AddressString>
  <AddressString></AddressString>
</AddressCollection>"""


def test_parse():
    """Words apart by spaces get a tag each; the third address is the first once more."""
    words, tags = addresses.parse(XML)
    assert words == [["60", "Oak", "Troy", "Hill,"], ["7", "R&D"]]
    assert tags == [["AddressNumber", "StreetName", "PlaceName", "PlaceName"], ["AddressNumber", "PlaceName"]]


def test_nothing_is_tested_twice_or_trained_on():
    tested = []
    for training, validation, test in addresses.folds(100):
        assert [len(training), len(validation), len(test)] == [70, 10, 20]
        assert sorted(np.concatenate([training, validation, test])) == list(range(100))
        tested += test.tolist()
    assert len(set(tested)) == 60


def test_words_and_letters():
    assert [addresses.plain(word) for word in ("(60611,", "St.", "#", "2B")] == ["00000", "st", "", "0b"]
    vocabulary = data.Vocabulary.build([["oak", "00"]])
    encoded = addresses.encode([["Oak,", "12", "Abcdefghijklmnop"], ["é"]], vocabulary)
    assert [row.tolist() for row in encoded["words"]] == [[2, 3, 1], [1]]
    letters = ["".join(addresses.ALPHABET.decode(row[row > 0])) for rows in encoded["letters"] for row in rows]
    assert letters == ["Oak,", "00", "Abcdefklmnop", "<unk>"]


def test_features():
    first, _, last = crfsuite.features(["1520", "Oak", "St.,"])
    own = ("word=###0", "shape=0", "starts=###", "ends=##0", "letters=4", "then=")
    assert first[:7] == ["first", *(f"+0:{feature}" for feature in own)]
    assert "+1:word=oak" in first
    assert last[0] == "last"
    assert "+0:shape=Xx.," in last
    assert "+0:then=," in last
    assert not any(feature.startswith("+1") for feature in last)
    assert crfsuite.features(["Oak"])[0][:2] == ["first", "last"]
    assert crfsuite.features([]) == []


def scores(printed):
    return re.findall(r"^(\S+) {2,}([\d.]+)% ± [\d.]+ +([\d.]+)% ± [\d.]+ +([\d.]+)% ±", printed, re.M)


@pytest.mark.learn
def test_smoke_run_learns_and_goes_on(tmp_path, capsys):
    arguments = ["--smoke", "--out", str(tmp_path), "12 Abc Def St, Gab, NH 12345", ""]
    address_parsing.main(arguments)
    printed = capsys.readouterr().out
    rows = scores(printed)
    assert [row[0] for row in rows] == ["CRFsuite", "BiLSTM-CRF"]
    assert all(float(number) > 90 for row in rows for number in row[1:])
    parsed, empty = printed.splitlines()[-2:]
    tags = ["AddressNumber", "StreetName", "StreetName", "StreetNamePostType", "PlaceName", "StateName", "ZipCode"]
    assert [pair.split("/")[1] for pair in parsed.split()] == tags
    assert empty == ""
    models = {"CRFsuite-0", "BiLSTM-CRF-0"}
    assert {path.name for path in tmp_path.iterdir()} == {*models, "checkpoints", "f1.png"}
    address_parsing.main(arguments)
    assert scores(capsys.readouterr().out) == rows
