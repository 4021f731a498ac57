"""Number strings made of clips: silence cut off, noise of the right strength, strings that are new, and the lexicon."""

import subprocess
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.io import wavfile

from examples.data import spoken_digits
from examples.data.spoken_digits import RATE, WORDS, draw, lexicon, made_up, speak, spell, trim
from jaxseq import data


def write_clips(folder, name, rate=RATE):
    """Ten tones, each of its own length, between silences of 0.1 s."""
    for digit in range(10):
        path = Path(folder, name.format(digit))
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(np.arange(160 * (10 + digit)))
        wavfile.write(path, rate, np.int16(20_000 * np.pad(tone, 800)))


def test_clips_are_read_in_order_without_silence(tmp_path):
    write_clips(tmp_path, "{}/default.wav")
    clips = spoken_digits.read_clips(tmp_path, "{}/default.wav")
    assert [len(clip) for clip in clips] == [160 * (10 + digit) for digit in range(10)]
    write_clips(tmp_path, "{}.wav", rate=16_000)
    with pytest.raises(ValueError, match=r"of 8000 Hz; got \[16000, "):
        spoken_digits.read_clips(tmp_path, "{}.wav")


def test_the_voices_are_read_from_their_packages(tmp_path, monkeypatch):
    write_clips(tmp_path / "wheel", "captcha/data/{}/default.wav")
    with zipfile.ZipFile(tmp_path / spoken_digits.WHEEL, "w") as archive:
        for path in (tmp_path / "wheel").rglob("*.wav"):
            archive.write(path, path.relative_to(tmp_path / "wheel"))
    monkeypatch.setattr(spoken_digits, "fetch", lambda name, version, file, _: tmp_path / file)
    assert len(spoken_digits.captcha()) == 10

    def extract(command, *, check):
        assert command[:3] == ["dpkg-deb", "--extract", tmp_path / spoken_digits.DEBIAN]
        assert check
        write_clips(Path(command[3], "usr/share/asterisk/sounds/en_US_f_Allison/digits"), "{}.wav")

    monkeypatch.setattr(subprocess, "run", extract)
    assert len(spoken_digits.allison()[9]) == 160 * 19


def test_what_is_quiet_is_cut_at_the_ends_alone():
    quiet, loud = 0.005 * np.ones(160), np.ones(160)  # 46 dB apart
    np.testing.assert_array_equal(
        trim(np.concatenate([quiet, loud, quiet, loud, quiet])), np.concatenate([loud, quiet, loud])
    )
    assert len(trim(np.concatenate([quiet, loud, quiet]), decibels=50)) == 480


def test_a_string_is_as_long_as_its_words_and_pauses_and_as_noisy_as_said():
    clips, size = made_up(), sum(len(clip) for clip in made_up()[:3])
    clean = speak(clips, [0, 1, 2], np.random.default_rng(0), decibels=(300, 300), spread=0)
    assert clean.dtype == np.float32
    assert size + 4 * 0.02 * RATE - 10 < len(clean) < size + 4 * 0.3 * RATE
    noisy = speak(clips, [0, 1, 2], np.random.default_rng(0), decibels=(10, 10), spread=0)
    np.testing.assert_allclose((noisy - clean).std() / 0.1, 10**-0.5, rtol=0.03)
    faster = [len(speak(clips, [3], np.random.default_rng(seed), decibels=(9, 9), spread=0.2)) for seed in range(50)]
    assert min(faster) < len(clips[3]) * np.exp(-0.1) + 0.3 * RATE < len(clips[3]) * 1.1 + 0.3 * RATE < max(faster)


def test_drawn_strings_are_new():
    known: set[tuple[int, ...]] = {(digit,) for digit in range(9)}
    assert draw([1], 1, 0, known) == [(9,)]
    more = draw([2, 3], 40, 0, known)
    assert [len(string) for string in more] == [2] * 40 + [3] * 40
    assert len(known) == 90
    assert spell(more[0]) == " ".join(WORDS[digit] for digit in more[0])


def test_the_lexicon_gives_every_word_its_share():
    vocabulary = data.Vocabulary.build([" ".join(WORDS)], padding="<blank>", unknown=None)
    listen = lexicon(vocabulary)

    def share(text):
        """Its probability, with a blank before it, as the start."""
        state, total = jnp.zeros(1, int), 1.0
        for token, after in zip([0, *vocabulary.encode(text)], vocabulary.encode(text), strict=False):
            state, logits = listen(state, jnp.array([token]))
            total *= float(jnp.exp(logits[0, after]) / jnp.sum(jnp.exp(logits[0])))
        return total

    for text in (word + " " for word in WORDS):
        np.testing.assert_allclose(share(text), 0.1, rtol=1e-6)
    np.testing.assert_allclose(share("two seven "), 0.01, rtol=1e-6)
    assert share("five two") == pytest.approx(0.01)  # "tw" is of no other
    assert share("tow") == share("ones") == share("one  ") == 0
