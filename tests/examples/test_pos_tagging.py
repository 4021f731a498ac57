"""The example end to end on made-up talk, and its parts against counts by hand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples import pos_tagging
from examples.baselines import counted_tags
from examples.data import chat_files, tagged_talk
from examples.shared import taggers
from jaxseq import train

WORDS = [["我", "食", "飯"], ["食", "飯", "飯"], ["我", "食"]]
TAGS = [np.array([0, 1, 2]), np.array([2, 1, 2]), np.array([0, 1])]


def test_counts_and_the_most_frequent_tag():
    counts = counted_tags.count(WORDS, TAGS, 4)
    assert {word: row.tolist() for word, row in counts.items()} == {
        "我": [2, 0, 0, 0],
        "食": [0, 2, 1, 0],
        "飯": [0, 1, 2, 0],
    }
    assert counted_tags.most_frequent(counts)(["飯", "我", "天"]).tolist() == [2, 0, 1]  # 1 and 2 are equally frequent


def test_emissions_lean_on_last_characters_and_on_words_seen_once():
    words = [*WORDS, ["早飯"]]
    counts = counted_tags.count(words, [*TAGS, np.array([3])], 4)
    log_obs = counted_tags.emissions(counts, 0.5)(["天", "晚飯", "飯", "早飯"])
    once = np.array([0.25, 0.25, 0.25, 1.25]) / 2
    ending = (np.array([0, 1, 2, 1]) + 0.5 * once) / 4.5
    known = (np.array([0, 1, 2, 0]) + 0.5 * ending) / 3.5
    early = (np.array([0, 0, 0, 1]) + 0.5 * ending) / 1.5
    of_tag = np.array([3, 4, 4, 2]) / 13
    np.testing.assert_allclose(np.exp(log_obs), [p / of_tag for p in (once, ending, known, early)], rtol=1e-6)
    assert log_obs.dtype == np.float32


def test_the_hmm_takes_the_best_path():
    chain = counted_tags.chain(TAGS, 4)
    np.testing.assert_allclose(np.exp(chain[0]), np.array([2.1, 0.1, 1.1, 0.1]) / 3.4, rtol=1e-5)
    np.testing.assert_allclose(np.exp(chain[1][1]), np.array([0.1, 0.1, 2.1, 0.1]) / 2.4, rtol=1e-5)
    emissions = counted_tags.emissions(counted_tags.count(WORDS, TAGS, 4), 0.1)
    found = taggers.predict(counted_tags.decode, chain, {"log_obs": [emissions(words) for words in WORDS]})
    assert [tags.tolist() for tags in found] == [[0, 1, 2], [2, 1, 2], [0, 1]]


def test_predictions_come_in_the_order_of_the_sequences():
    ids = [np.arange(length) for length in (3, 40, 0, 17, 1)]
    found = taggers.predict(lambda params, batch: batch["xs"] + params, 5, {"xs": ids})
    assert [row.tolist() for row in found] == [(row + 5).tolist() for row in ids]


def test_pieces():
    assert tagged_talk.pieces("食飯") == ["^食", "飯$", "食", "飯"]
    assert tagged_talk.pieces("predictable") == ["^p", "e$", *"predic"]
    talk = chat_files.made_up(30)
    vocabularies = tagged_talk.make_vocabularies(talk)
    part = tagged_talk.encode(talk, vocabularies)
    row, words = part.inputs["pieces"][0], talk.words[0]
    assert row.shape == (len(words), tagged_talk.PIECES)
    known = set(vocabularies.pieces.tokens)
    for ids, word in zip(row, words, strict=True):
        spelled = [piece if piece in known else "<unk>" for piece in tagged_talk.pieces(word)]
        assert vocabularies.pieces.decode(ids) == spelled + ["<pad>"] * (tagged_talk.PIECES - len(spelled))
    assert part.accuracy([tags if n % 2 else 0 * tags for n, tags in enumerate(part.tags)]) < 1
    assert part.accuracy(part.tags) == 1
    assert part.scored.sum() == sum(tag != "." for tags in talk.tags for tag in tags)


@pytest.mark.parametrize("crf", [False, True])
def test_the_loss_is_of_what_decodes(crf):
    """By definition: -log of the probability of the tags, a word; summed over all tags it is 1."""
    talk = chat_files.made_up(3)
    vocabularies = tagged_talk.make_vocabularies(talk)
    inputs = tagged_talk.encode(talk, vocabularies).inputs
    graph, params = pos_tagging.make_graph(vocabularies, 4, crf)
    words = {name: jnp.asarray(rows[0][None, :2]) for name, rows in inputs.items()}
    mask, K = jnp.ones((1, 2), bool), len(vocabularies.tags)
    loss = taggers.make_loss(graph)
    nats = jax.jit(jax.vmap(lambda tags: loss(params, {**words, "mask": mask, "tags": tags[None]}, None)[0]))
    every = jnp.stack(jnp.meshgrid(jnp.arange(K), jnp.arange(K), indexing="ij"), -1).reshape(-1, 2)
    means = nats(every)
    np.testing.assert_array_equal(means.count, 2)
    np.testing.assert_allclose(np.exp(-np.asarray(means.total)).sum(), 1, rtol=1e-5)
    best = taggers.make_decode(graph)(params, {**words, "mask": mask})
    assert best[0].tolist() == every[means.total.argmin()].tolist()


def scores(printed):
    return re.findall(r"^(\S.*?) {2,}([\d.]+%) +([\d.]+%) +([\d.]+%)", printed, re.M)


@pytest.mark.learn
def test_smoke_run_learns_and_goes_on(tmp_path, capsys):
    arguments = ["--smoke", "--out", str(tmp_path), "我 食飯 個 食飯 啊 .", ""]
    pos_tagging.main(arguments)
    printed = capsys.readouterr().out
    rows = {name: [float(number.rstrip("%")) for number in numbers] for name, *numbers in scores(printed)}
    assert list(rows) == ["each word's most frequent", "HMM", "BiLSTM-CRF"]
    accuracy, of_unknown, _ = map(np.array, zip(*rows.values(), strict=True))
    assert all(accuracy[1:] > accuracy[0] + 15)
    assert all(of_unknown[1:] > 80)
    assert all(accuracy[1:] > 95)
    tagged, empty = printed.splitlines()[-2:]
    assert re.fullmatch(r"我/r 食飯/v 個/q 食飯/n 啊/y \./\.", tagged)
    assert empty == ""
    files = {"BiLSTM-CRF", "BiLSTM-CRF.png", "checkpoints", "f1.png"}
    assert {path.name for path in tmp_path.iterdir()} == files
    assert train.load_info(tmp_path / "BiLSTM-CRF")["crf"] is True
    pos_tagging.main(arguments)
    again = capsys.readouterr().out
    assert "epoch" not in again  # nothing was left to train
    assert scores(again) == scores(printed)
