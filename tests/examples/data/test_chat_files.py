"""The parser of transcripts, and parts that share no recording."""

import numpy as np
import pytest

from examples.data import chat_files
from examples.data.chat_files import Talk

TEXT = """@UTF8
@Begin
@Tape Number:\tR013
*XXB:\t係 啊 , 好 OK
\t𡃉 .
%mor:\tv|hai6 y|aa3 , d|hou2 xa|OK0 y|gaa3
\t.
*XXA:\t冇人 聽
*XXA:\t好 ○ !
%mor:\td|hou2 #|# !
@End
"""


def test_parse():
    talk = chat_files.parse(TEXT)
    assert talk.words == [["係", "啊", ",", "好", "OK", "𡃉", "."], ["好", "○", "!"]]
    assert talk.tags == [["v", "y", ".", "d", "xa", "y", "."], ["d", "#", "."]]
    assert talk.recordings == ["R013", "R013"]


@pytest.mark.parametrize(
    ("before", "after"), [("%mor:\tv|hai6 ", "%mor:\t"), ("@Tape Number:\tR013\n", ""), ("𡃉 .", "𡃉 . .")]
)
def test_parse_names_what_does_not_fit(before, after):
    with pytest.raises(ValueError, match=r"a `@Tape Number`, and a tag for each word of \['係', .* got \[.*'y\|aa3'"):
        chat_files.parse(TEXT.replace(before, after))


def test_join_and_take():
    talk = chat_files.join([chat_files.parse(TEXT), Talk([["a"]], [["x"]], ["2"])])
    assert talk.take(np.array([2, 0])).recordings == ["2", "R013"]
    assert talk.take(np.array([1, 2])).words == [["好", "○", "!"], ["a"]]


def test_no_recording_is_in_two_parts():
    talk = chat_files.made_up(200)
    parts = talk.split()
    assert sum(len(part.words) for part in parts) == 200
    recordings = [set(part.recordings) for part in parts]
    assert sum(map(len, recordings)) == len(set(talk.recordings)) == 20
    assert [len(part.words) for part in parts] == [160, 20, 20]
    assert talk.split() == parts
