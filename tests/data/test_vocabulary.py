import json
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.data import Vocabulary, words
from tests.untyped import untyped

ANY = st.text(st.characters(exclude_categories=()), max_size=4)  # half pairs and line ends too
SENTENCES = st.lists(st.lists(ANY, max_size=6), max_size=6)


@given(SENTENCES, st.none() | st.integers(3, 8), st.integers(1, 3))
def test_build_sorts_by_frequency_then_by_first_occurrence(sentences, size, min_count):
    vocabulary = Vocabulary.build(sentences, size=size, min_count=min_count, specials=["<end>"])
    text = [token for sentence in sentences for token in sentence]
    kept = [token for token in set(text) if text.count(token) >= min_count]
    kept.sort(key=lambda token: (-text.count(token), text.index(token)))
    assert vocabulary.tokens == ("<pad>", "<unk>", "<end>", *kept)[:size]


@given(SENTENCES)
def test_encode_and_decode_are_inverse_on_what_is_known(sentences):
    vocabulary = Vocabulary.build(sentences, unknown=None)
    for sentence in sentences:
        ids = vocabulary.encode(sentence)
        assert ids.dtype == np.int32
        assert ids.shape == (len(sentence),)
        assert vocabulary.decode(ids) == sentence
        assert all(token in vocabulary for token in sentence)
    assert len(vocabulary) == 1 + len(Counter(token for sentence in sentences for token in sentence))


@given(SENTENCES, st.sampled_from([None, "<unk>", "?"]))
def test_save_and_load_give_the_same_vocabulary(tmp_path_factory, sentences, unknown):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.json"
    vocabulary = Vocabulary.build(sentences, unknown=unknown, specials=("\n", " \u2028\ud800\udc00"))
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))).unknown == unknown


def test_the_file_is_plain_utf8_json(tmp_path):
    Vocabulary.build(["año"]).save(str(tmp_path / "v.json"))
    assert json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))["tokens"] == ["<pad>", "<unk>", "a", "ñ", "o"]
    assert "ñ" in (tmp_path / "v.json").read_text(encoding="utf-8")


def test_padding_and_unknown_come_first_and_unknown_tokens_are_one():
    vocabulary = Vocabulary.build([["a", "<unk>", "b", "b", "<pad>"]])
    assert vocabulary.tokens == ("<pad>", "<unk>", "b", "a")
    assert vocabulary.encode(["a", "zebra", "<unk>"]).tolist() == [3, 1, 1]
    assert "zebra" not in vocabulary
    assert vocabulary.decode([0, 1]) == ["<pad>", "<unk>"]
    assert vocabulary.encode([]).dtype == np.int32
    assert vocabulary.decode([]) == []
    assert Vocabulary.build([], padding="_", unknown=None).tokens == ("_",)


def test_a_special_in_a_text_is_refused_read_or_a_word_like_any_other():
    vocabulary = Vocabulary.build([["a", "b"]], specials=("<end>",))
    assert vocabulary.encode(["a", "<end>", "<pad>", "<unk>"], specials="read").tolist() == [3, 2, 0, 1]
    assert vocabulary.encode(["a", "<end>", "<pad>", "<unk>"], specials="text").tolist() == [3, 1, 1, 1]
    for special in ("<pad>", "<end>"):
        with pytest.raises(
            ValueError, match=f"`tokens` hold '{special}', which is spelled like a special .* specials='read'"
        ):
            vocabulary.encode(["a", special])
        with pytest.raises(
            ValueError, match=f"`tokens` hold '{special}', which has no id, and the vocabulary has no unknown"
        ):
            Vocabulary.build([["a"]], unknown=None, specials=("<end>",)).encode([special], specials="text")


def test_a_damaged_file_is_told_by_its_name(tmp_path):
    """Every cut, and bytes changed: a ValueError of a few words, or a vocabulary."""
    path = tmp_path / "v.json"
    Vocabulary.build(["añ"], specials=("<end>",)).save(path)
    whole = path.read_bytes()
    damaged = [whole[:size] for size in range(len(whole))]
    damaged += [
        whole.replace(old, new) for old, new in ((b'"<unk>"', b"3"), (b"3", b"-1"), (b"[", b"{"), (b'"a"', b"1"))
    ]
    damaged += [
        b"[" * 100_000,
        b"\xff\xfe",
        b"3",
        b"null",
        b'"tokens"',
        whole.replace(b'"specials": 3', b'"specials": 3.5'),
    ]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"`path` must be a whole file of Vocabulary\.save") as raised:
            Vocabulary.load(path)
        assert len(str(raised.value)) < 400
    path.write_bytes(whole)
    assert Vocabulary.load(path).tokens == ("<pad>", "<unk>", "<end>", "a", "ñ")
    with pytest.raises(FileNotFoundError):
        Vocabulary.load(tmp_path / "none.json")


def test_characters_and_what_else_a_vocabulary_does():
    vocabulary = Vocabulary.build(["hello", "wo\n"])
    assert vocabulary.tokens[2:] == ("l", "o", "h", "e", "w", "\n")
    assert "".join(vocabulary.decode(vocabulary.encode("hello\n"))) == "hello\n"
    assert vocabulary.encode(np.array(list("he"))).tolist() == [4, 5]
    assert repr(vocabulary) == "Vocabulary(V=8, tokens=('<pad>', '<unk>', 'l', 'o', 'h')...)"
    assert hash(vocabulary) == hash(Vocabulary(untyped(list(vocabulary.tokens))))
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary


def test_words():
    assert words("It’s 3 o'clock -- 'tis NOT_late!") == ["it's", "3", "o'clock", "tis", "not", "late", "!"]
    assert words("") == []
    assert words("E\u0301te\u0301") == words("été") == ["été"]  # NFC
    assert words("हिन्दी में लिखा") == ["हिन्दी", "में", "लिखा"]
    assert words("ИЮЛЬ, İstanbul; שָׁלוֹם ٣٤") == ["июль", "i̇stanbul", "שָׁלוֹם", "٣٤"]


@given(st.text())
def test_words_come_in_the_order_of_the_text_and_stay_what_they_are(text):
    assert all(word and not word.isspace() for word in words(text))
    assert words(" ".join(words(text))) == words(text)


V = Vocabulary.build([["the", "film"]])
CLOSED = Vocabulary.build(["ab"], unknown=None)
BAD = {
    "one text": (
        lambda: Vocabulary.build("abc"),
        TypeError,
        r"lists of tokens; got str. For the characters .* \[text\]",
    ),
    "no lists": (lambda: Vocabulary.build(untyped(3)), TypeError, r"`sequences` must be lists of tokens; got int"),
    "numbers": (
        lambda: Vocabulary.build([["a"], [untyped(1)]]),
        TypeError,
        r"`sequences\[1\]` must hold tokens of text; got 1",
    ),
    "a number": (
        lambda: Vocabulary.build([untyped(1)]),
        TypeError,
        r"`sequences\[0\]` must be a list of tokens; got 1",
    ),
    "size": (lambda: Vocabulary.build([], size=1), ValueError, r"`size` must have room for the specials .*; got 1"),
    "size 0": (lambda: Vocabulary.build([], size=0), ValueError, r"`size` must be a positive int; got 0"),
    "min_count": (lambda: Vocabulary.build([], min_count=0), ValueError, r"`min_count` must be a positive int; got 0"),
    "specials": (
        lambda: Vocabulary.build([], specials="<s>"),
        TypeError,
        r"`specials` must be a list of tokens; got str",
    ),
    "a special": (
        lambda: Vocabulary.build([], specials=[untyped(1)]),
        TypeError,
        r"`specials` must hold tokens of text; got 1",
    ),
    "a special that is None": (
        lambda: Vocabulary.build([], specials=[untyped(None)]),
        TypeError,
        r"`specials` must hold tokens of text; got None",
    ),
    "an unknown that is no text": (
        lambda: Vocabulary.build([], unknown=untyped(3)),
        TypeError,
        r"`unknown` must hold tokens of text; got 3",
    ),
    "what specials are": (
        lambda: V.encode(["the"], specials=untyped(True)),
        ValueError,
        r"`specials` must be 'refuse' or 'read' or 'text'; got True",
    ),
    "twice": (
        lambda: Vocabulary.build([], specials=["<pad>"]),
        ValueError,
        r"`tokens` must be distinct; got '<pad>' 2 times",
    ),
    "padding": (
        lambda: Vocabulary.build([], padding=untyped(None)),
        TypeError,
        r"`padding` must hold tokens of text; got None",
    ),
    "tokens": (lambda: Vocabulary(untyped("abc")), TypeError, r"`tokens` must be a list of tokens; got str"),
    "unknown": (lambda: Vocabulary(("a", "b")), ValueError, r"`unknown` must be the token of id 1, 'b'; got '<unk>'"),
    "front": (lambda: Vocabulary(("a",)), ValueError, r"`specials` must be from 2 to the 1 tokens; got 2"),
    "encode a text": (
        lambda: V.encode("the film"),
        TypeError,
        r"has words such as 'film'; got the str 'the film'. Split it .* words\(text\)",
    ),
    "encode ids": (lambda: V.encode([untyped(3)]), TypeError, r"`tokens` must hold tokens of text; got 3"),
    "encode None": (lambda: V.encode(untyped(None)), TypeError, r"`tokens` must be a list of tokens; got NoneType"),
    "closed": (
        lambda: CLOSED.encode("abc"),
        ValueError,
        r"`tokens` hold 'c', which has no id, and the vocabulary has no unknown token",
    ),
    "decode floats": (lambda: V.decode([0.5]), TypeError, r"`ids` must be integer ids; got float64"),
    "decode text": (lambda: V.decode("ab"), TypeError, r"`ids` must hold numbers; got text"),
    "decode rows": (lambda: V.decode([[1]]), ValueError, r"`ids` must be ids \[T\]; got the shape \(1, 1\)"),
    "decode high": (lambda: V.decode([1, 4]), ValueError, r"`ids` must be from 0 to 3, for V = 4; got 4"),
    "decode negative": (lambda: V.decode([-2]), ValueError, r"`ids` must be from 0 to 3, for V = 4; got -2$"),
    "decode ended": (lambda: V.decode([1, -1]), ValueError, r"got -1; `decoding` writes -1 after the end of a row"),
    "stored": (lambda: Vocabulary.from_dict({"words": []}), ValueError, r"must be what Vocabulary.to_dict returned"),
    "words": (lambda: words(untyped(["a"])), TypeError, r"`text` must be a str; got list"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
