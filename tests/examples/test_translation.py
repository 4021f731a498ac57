"""The translation example end to end on made-up sentences; its verses, and its subword units."""

import itertools
import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from examples import translation
from examples.baselines import nearest
from examples.data import bible
from examples.shared import subwords
from examples.shared.units import END, Units
from jaxseq import train

OSIS = (
    '<div type="x-milestone" subType="x-preverse" sID="pv1"/><title canonical="true">A Psalm.</title> '
    '<l level="1" sID="gen1"/><speaker>Lover</speaker><q marker="">“<w lemma="strong:H0430">God</w></q>’s '
    '<w lemma="strong:H0216">light</w>,<l eID="gen1" level="1"/><transChange type="added">is</transChange>'
    '<w>half</w><note placement="foot"><reference>1:1 </reference>or, <w>part</w></note>a day!”<lb/>Selah.'
)


def test_words_are_kept_apart_and_notes_left_out():
    assert bible.plain(OSIS) == "a psalm god's light is half a day selah"
    assert bible.plain("<w>¿Dónde</w> está?") == "dónde está"
    assert bible.plain("") == ""


def test_what_is_selected():
    source, twice = "one two three four", "one two three four five six seven eight"
    pairs = [
        (source, "uno dos"),
        (source + " five", "uno dos"),  # the translation is there
        (source.upper(), "uno dos tres"),  # the source is there
        (source + " six", "uno dos y"),
        ("a b c d e", "uno dos x"),
        ("a b c d e f g", "uno dos z"),  # less than half as long
        ("uno", twice),  # more than twice
        ("four four four four", twice),
        (" ".join(["w"] * 20), " ".join(["p"] * 20)),
        (" ".join(["w"] * 21), " ".join(["q"] * 20)),
        ("", ""),
    ]
    found = bible.select(pairs)
    assert found.targets == ["uno dos", "uno dos y", "uno dos x", twice, " ".join(["p"] * 20)]
    assert found.sources[:2] == [source, source + " six"]


def test_verses_are_paired_by_book_chapter_and_number(monkeypatch):
    english = {("Ruth", 1): ["<w>one</w>", "two"], ("Ruth", 2): ["three", "four", ""], ("Tobit", 1): ["five"]}
    spanish = {("Ruth", 1): ["uno", "<w>dos</w>"], ("Ruth", 2): ["tres", "cuatro"], ("Jonah", 1): ["seis"]}
    monkeypatch.setattr(bible, "fetch", lambda name, *_: name)
    monkeypatch.setattr(bible, "read", {"sword-text-web": english, "sword-text-sparv": spanish}.get)
    assert bible.verses() == (["one", "two", "three", "four"], ["uno", "dos", "tres", "cuatro"])


def test_parts_have_no_text_in_common():
    verses = bible.made_up()
    parts = verses.split()
    assert [len(part.sources) for part in parts] == [245, 14, 29]
    pairs = set(zip(*verses, strict=True))
    for part in parts:
        assert set(zip(*part, strict=True)) <= pairs
    for one, other in itertools.combinations(parts, 2):
        assert not set(one.sources) & set(other.sources)
        assert not set(one.targets) & set(other.targets)
    assert [part.sources for part in verses.split()] == [part.sources for part in parts]


def test_each_merge_is_of_the_most_frequent_pair():
    texts = ["low lower lowest low", "new newer newest wider", "aaaa aaa"]
    merges = subwords.learn(texts, 100)
    assert len(set(merges)) == len(merges) > 8
    for number, merge in enumerate([*merges, None]):
        spelled = subwords.split(texts, merges[:number])  # as the merges before have it
        words = [re.findall("▁[^▁]*", "".join(f"{unit}|" for unit in row)) for row in spelled]
        pairs = [pair for row in words for word in row for pair in itertools.pairwise(word.split("|")[:-1])]
        counts = {pair: pairs.count(pair) for pair in pairs}
        assert (1 if merge is None else counts.get(merge, 1)) == max(counts.values(), default=1)


def test_texts_come_back_from_their_units():
    texts = ["the old fox", "á", "", "foxes hear"]
    merges = subwords.learn(texts[:1] * 2, 4)
    rows = subwords.split(texts, merges)
    assert [subwords.join(row) for row in rows] == texts
    assert rows[1:3] == [["▁á"], []]
    units = Units.learn(bible.Verses(["the fox"], ["el zorro"]), 100)
    assert [units.decode(ids) for ids in units.encode(["the fox", "zorro el"])] == ["the fox", "zorro el"]


@pytest.mark.parametrize("name", translation.RECIPES)
def test_every_model_reads_units_and_scores_them(name):
    def loss():
        model = translation.make_model(name, translation.RECIPES[name], 50, nnx.Rngs(0))
        return model.loss(jnp.ones((3, 7), int), jnp.ones((3, 5), int), key=jax.random.key(0))

    assert jax.eval_shape(loss).shape == (3,)


def test_the_nearest_verse_is_translated():
    training = bible.Verses(["the dog is red", "a small bird", "two foxes"], ["uno", "dos", "tres"])
    assert nearest.translate(training, training, ["one bird", "red dogs or the dog"]) == ["dos", "uno"]


@pytest.mark.learn
def test_smoke_run_learns_and_is_stored(tmp_path, capsys):
    translation.main(["--smoke", "--models", "GRU with attention", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "245 verses to train on, 14 to validate, 29 to test" in printed
    rows = {
        name: [float(number) for number in numbers.replace(",", "").split()]
        for name, numbers in re.findall(r"^([A-Zn]\w+(?: \w+)*) {2,}((?:[\d.,]+ *)+)$", printed, re.M)
    }
    params, _, nats, *scores = rows["GRU with attention"]
    assert params > 10_000
    assert nats < 0.3
    assert min(scores) > 90 > 70 > rows["nearest verse"][0]
    assert {path.name for path in tmp_path.iterdir()} == {"gru-with-attention", "alignment.png", "curves.png"}
    model, units = translation.load(tmp_path / "gru-with-attention" / "model")
    assert model.end == units.vocabulary.encode([END], specials="read")
    assert train.load_info(tmp_path / "gru-with-attention" / "model")["name"] == "GRU with attention"
