"""The language model: its data, its n-grams against plain counting, and the example end to end."""

import itertools
import re
import subprocess
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from examples.baselines.ngrams import bits_by_order, bits_by_part
from examples.data.works import clean, encode, made_up, parse_poems
from examples.language_model import main
from examples.reports.language import mix
from examples.shared.characters import bits_by_id, shuffled_pieces
from jaxseq import data, nn

POEMS = """\x1b[32m《春晓・其一》\x1b[m
\x1b[33m作者：某人\x1b[m
春眠不觉晓，
处处闻啼鸟。
%
\x1b[32m题目:《两行
标题》\x1b[m
\x1b[33m作者:某人（９５４－１００１）\x1b[m

            其一

床前明月光。
%
"""


def test_poems_are_verses_without_titles_authors_and_numbers():
    assert parse_poems(POEMS) == ["春眠不觉晓，\n处处闻啼鸟。\n", "床前明月光。\n"]


def test_works_are_cleaned():
    assert clean("\r\n\r\nACT I. \r\nEnter.\r\n\r\n\r\n\r\n\r\nExit.\r\n\r\n") == "ACT I.\nEnter.\n\n\nExit.\n"


def test_documents_are_scored_from_their_start_whatever_their_length():
    vocabulary = data.Vocabulary.build(["abcd"], specials=("<end>",))
    model = nn.LanguageModel(jaxseq.gru(4), len(vocabulary), 3, rngs=nnx.Rngs(0))
    documents = [encode(vocabulary, text) for text in ("abcd" * 100, "b")]
    assert vocabulary.decode(documents[1]) == ["<end>", "b", "<end>"]
    expected = []
    for document in documents:
        probabilities = jax.nn.softmax(model(jnp.asarray(document[None, :-1])))[0]
        expected.append(-np.log2(probabilities[np.arange(len(document) - 1), document[1:]]))
    np.testing.assert_allclose(bits_by_id(model, documents), np.concatenate(expected), rtol=1e-5)


def test_pieces_hold_every_step_of_every_document_once():
    documents = [np.arange(10), np.arange(20, 25), np.arange(30, 32)]
    pairs = [pair for piece in shuffled_pieces(documents, 4) for pair in itertools.pairwise(piece)]
    assert sorted(pairs) == [pair for document in documents for pair in itertools.pairwise(document)]


def test_a_mixture_is_of_probabilities():
    network, grams = np.array([1.0, 3.0]), np.array([2.0, 1.0])
    assert mix(network, grams, 0.25) == pytest.approx(-np.log2([0.3125, 0.40625]).mean())


def by_counting(training, held_out, vocabulary, order):
    """Modified Kneser-Ney by dicts, an n-gram a tuple: the bits of each id of `held_out` but the first ones."""

    def grams(documents, k):
        for document in documents:
            padded = [0] * k + list(document)
            for end in range(k + 2, len(padded) + 1):
                yield tuple(padded[end - k : end])

    def probability(gram):
        k = len(gram)
        if k == 0:
            return 1 / vocabulary
        counts = Counter(grams(training, k))
        if k < order:
            counts = Counter(gram[1:] for gram in set(grams(training, k + 1)))
        lower = probability(gram[1:])
        n = [max(sum(count == c for count in counts.values()), 1) for c in (1, 2, 3, 4)]
        y = n[0] / (n[0] + 2 * n[1])
        limits = (0.9, 1.9, 2.9)
        d = [min(max(c - (c + 1) * y * n[c] / n[c - 1], 0.1), limits[c - 1]) for c in (1, 2, 3)]
        followers = [count for other, count in counts.items() if other[:-1] == gram[:-1]]
        if not followers:
            return lower
        discounted = counts[gram] - d[min(counts[gram], 3) - 1] if counts[gram] else 0
        return (discounted + sum(d[min(count, 3) - 1] for count in followers) * lower) / sum(followers)

    return [-np.log2(probability(gram)) for gram in grams(held_out, order)]


def test_ngrams_match_plain_counting():
    random = np.random.default_rng(0)
    training = [random.choice(5, n, p=[0, 0.4, 0.3, 0.2, 0.1]) for n in (30, 12, 2)]
    held_out = [random.integers(1, 6, 9), np.array([3, 1])]
    bits = bits_by_order(training, held_out, 6, 4)
    for order in range(1, 5):
        np.testing.assert_allclose(bits[order - 1], by_counting(training, held_out, 6, order), rtol=1e-12)


def test_ngrams_are_distributions():
    """Summed over all ids that may come next, the probabilities of each order are one."""
    training = [np.array([1, 2, 1, 3, 2, 1, 2, 2, 1, 3])]
    for history in ([1], [2, 1], [3, 3, 3, 1]):
        bits = bits_by_order(training, [np.array([*history, last]) for last in range(5)], 5, 4)
        last = bits.reshape(4, 5, -1)[:, :, -1]
        np.testing.assert_allclose((2**-last).sum(axis=1), 1, rtol=1e-12)


def test_ngrams_of_several_parts_are_those_of_each():
    random = np.random.default_rng(1)
    training, *parts = ([random.integers(0, 5, n) for n in sizes] for sizes in ((30, 12), (9, 3), (7,)))
    for found, part in zip(bits_by_part(training, parts, 5, 3), parts, strict=True):
        np.testing.assert_array_equal(found, bits_by_order(training, part, 5, 3))


def test_ngrams_of_too_high_an_order_are_refused():
    with pytest.raises(ValueError, match="order 10 over 100 ids are no int64"):
        bits_by_order([np.arange(4)], [np.arange(4)], 100, 10)


def test_the_made_up_parts_share_no_work():
    parts = made_up()
    assert len({work for part in parts for work in part}) == sum(map(len, parts)) == 40


@pytest.mark.learn
def test_the_example_learns_saves_generates_and_goes_on(tmp_path, capsys):
    main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    table = dict(re.findall(r"^(network|n-gram, order \d)[ a-z()]+([\d.]+ +[\d.]+)$", printed, flags=re.M))
    scores = {name: float(row.split()[1]) for name, row in table.items()}
    assert scores["network"] < min(1.0, scores["n-gram, order 2"])
    assert scores["n-gram, order 2"] < scores["n-gram, order 1"]
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert (tmp_path / "checkpoints").is_dir()
    assert "temperature 0.5, top_p 1.0" in printed

    main(["--smoke", "--out", str(tmp_path)])
    again = capsys.readouterr().out
    assert "step 64" not in again
    assert table == dict(re.findall(r"^(network|n-gram, order \d)[ a-z()]+([\d.]+ +[\d.]+)$", again, flags=re.M))

    with pytest.raises(
        ValueError, match=r"is another: settings\['seed'\]: 0 before, 1 now\. Give another run a folder"
    ):
        main(["--smoke", "--out", str(tmp_path), "--seed", "1"])

    main(["--smoke", "--out", str(tmp_path), "--generate", "ba nalu"])
    written = re.findall(r"---\n(.*)", capsys.readouterr().out)
    assert len(written) == 4
    assert all(text.startswith("ba nalu") for text in written)
    words = " ".join(text.removeprefix("ba nalu") for text in written[:1]).split()
    assert set(words[1:-1]) <= {"ba", "nalu", "miro", "te", "soka", "vi", "lumepa", "gora"}


@pytest.mark.learn
def test_on_several_devices_the_example_learns_the_same(tmp_path):
    """By the command itself; the rows are those of one device."""

    def rows(name, *several):
        command = [sys.executable, "-m", "examples.language_model", "--smoke", "--out", tmp_path / name, *several]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
        assert ("batches split over 2 devices" in printed) == bool(several)
        assert (tmp_path / name / "curves.png").exists()
        row = r"^step (\d+), epoch .* bits per character ([\d.]+), validation ([\d.]+)$"
        return [[float(number) for number in numbers] for numbers in re.findall(row, printed, flags=re.M)]

    want = rows("one")
    assert len(want) == 8
    for name, several in {"devices": ["--devices", "2"], "processes": ["--processes", "2", "--shard"]}.items():
        for one, other in zip(rows(name, *several), want, strict=True):
            assert one == pytest.approx(other, abs=0.02)


@pytest.mark.learn
def test_the_others_end_where_a_process_fails(tmp_path, capfd):
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(SystemExit, match=r"process \d of 2 has failed"):
        main(["--smoke", "--processes", "2", "--out", str(tmp_path)])
    assert "FileExistsError" in capfd.readouterr().err


def test_generating_needs_a_model(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--smoke", "--out", str(tmp_path), "--generate", "ba"])
    assert "there is no model in" in capsys.readouterr().err
