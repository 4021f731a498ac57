"""The demo end to end on made-up sentences: it learns what is plain to see, saves, reloads and predicts."""

import hashlib
import sys

import numpy as np
import pytest

from examples import packages, sentiment

PRAISE, BLAME = ("splendid", "touching", "clever"), ("dull", "clumsy", "tiresome")


@pytest.fixture
def data(tmp_path):
    generator = np.random.default_rng(0)
    lines = []
    for number in range(200):
        positive = number % 2 == 0
        filler = generator.permutation(["the", "film", "was", "very", "with", "a", "plot", "and", "some", "actors"])[
            : generator.integers(3, 9)
        ]
        words = [*filler, generator.choice(PRAISE if positive else BLAME)]
        lines.append(f"{number}\t{2.5 if positive else -1.5}\t{' '.join(generator.permutation(words))} {number}.")
    path = tmp_path / "reviews.tsv"
    path.write_text("\n".join([*lines, "900\t0.0\tneither here nor there", lines[0]]))
    return path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sentiment", *map(str, arguments)])
    sentiment.main()


def test_end_to_end(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    run(monkeypatch, "--data", data, "--out", out, "--epochs", 12, "a splendid film")
    printed = capsys.readouterr().out
    assert "150 sentences to train on, 20 to validate, 30 to test" in printed
    row = next(line for line in printed.splitlines() if line.startswith("jaxseq"))
    assert float(row.split()[-4].rstrip("%")) >= 90
    assert (out / "curves.png").stat().st_size > 10_000

    run(monkeypatch, "--predict-only", "--out", out, "a splendid touching plot", "a dull tiresome plot")
    first, second = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("positive")
    assert second.startswith("negative")
    run(monkeypatch, "--data", data, "--out", tmp_path / "again", "--epochs", 12, "a splendid film")
    again = capsys.readouterr().out
    assert [line for line in again.splitlines() if "loss" in line or line.endswith("film")] == [
        line for line in printed.splitlines() if "loss" in line or line.endswith("film")
    ]


def test_predict_only_wants_a_checkpoint(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--predict-only", "--out", tmp_path, "a film")
    assert "run once without --predict-only" in capsys.readouterr().err


def test_a_checkpoint_gives_the_same_probabilities(tmp_path):
    import jax

    words = ["good", "bad", "film"]
    params = jax.vmap(lambda key: sentiment.init(key, 5))(jax.random.split(jax.random.key(1), sentiment.MEMBERS))
    params = params._replace(w=params.w + 0.3)
    sentiment.save(tmp_path / "checkpoint", params, words)
    reloaded, vocabulary = sentiment.load(tmp_path / "checkpoint")
    assert vocabulary == {"good": 2, "bad": 3, "film": 4}
    sentences = sentiment.encode(["good film", "bad", ""], vocabulary)
    np.testing.assert_array_equal(sentiment.predict(params, sentences), sentiment.predict(reloaded, sentences))


def test_batches_hold_every_sentence_once():
    sentences = [[7] * length for length in (*range(40), 100)]
    for seed in (None, 3):
        seen = []
        for group, ids in sentiment.batches(sentences, seed):
            assert ids.shape[0] % sentiment.BUCKET == 0
            assert ids.shape[1] == sentiment.BATCH
            np.testing.assert_array_equal((ids == 7).sum(0)[: len(group)], [len(sentences[i]) for i in group])
            seen.extend(group.tolist())
        assert sorted(seen) == list(range(len(sentences)))


def test_a_package_is_taken_from_the_folder_and_its_digest_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEQ_DATA", str(tmp_path))
    path = tmp_path / "thing-1.0.tar.gz"
    path.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert packages.fetch_sdist("thing", "1.0", digest) == path
    with pytest.raises(ValueError, match="has the sha256"):
        packages.fetch_sdist("thing", "1.0", "0" * 64)
