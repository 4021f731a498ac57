"""Spoken number strings, made of recordings of the ten digits: two voices, and made-up sounds for smoke runs.

A clip is the sound of one word, float32 `[N]` at 8 kHz, without the silence around it. `speak` puts clips together:
each word at a speed and a loudness of its own, which resampling makes higher or lower as well, pauses between them, and
white noise over all. The voices, one recording of each word:

    allison    Asterisk's prompts (Allison Smith; CC-BY-SA 3.0), of the Debian package asterisk-core-sounds-en-wav
    captcha    the recordings of the Python package captcha (BSD)
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from examples.data.packages import fetch, unpacked
from jaxseq import data

RATE = 8000  # samples a second
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DEBIAN = "asterisk-core-sounds-en-wav_1.6.1-1_all.deb"
DEBIAN_SHA256 = "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d"
WHEEL = "captcha-0.7.1-py3-none-any.whl"
WHEEL_SHA256 = "8b73b5aba841ad1e5bdb856205bf5f09560b728ee890eb9dae42901219c8c599"


@contextlib.contextmanager
def asterisk() -> Iterator[Path]:
    """Gives the folder of Asterisk's recordings, for as long as the `with` lasts."""
    with unpacked(fetch("asterisk-core-sounds-en-wav", "1.6.1-1", DEBIAN, DEBIAN_SHA256)) as folder:
        yield folder / "usr/share/asterisk/sounds/en_US_f_Allison"


def allison() -> list[np.ndarray]:
    """Returns the clips of 0 … 9 of Asterisk's voice."""
    with asterisk() as folder:
        return read_clips(folder / "digits", "{}.wav")


def captcha() -> list[np.ndarray]:
    """Returns the clips of 0 … 9 of captcha's voice."""
    with unpacked(fetch("captcha", "0.7.1", WHEEL, WHEEL_SHA256)) as folder:
        return read_clips(folder / "captcha/data", "{}/default.wav")


def read_clips(folder: Path, name: str) -> list[np.ndarray]:
    """Returns the clips of 0 … 9 that lie in a folder, each under the name with its digit."""
    recordings = [data.read_wav(folder / name.format(digit)) for digit in range(10)]
    if any(rate != RATE for _, rate in recordings):
        raise ValueError(f"the recordings must be of {RATE} Hz; got {[rate for _, rate in recordings]}")
    return [trim(signal) for signal, _ in recordings]


def trim(signal: np.ndarray, decibels: float = 40) -> np.ndarray:
    """Returns the signal without what is quieter than so many decibels under its loudest 20 ms, at either end."""
    size = RATE // 50
    power = np.square(signal[: len(signal) // size * size]).reshape(-1, size).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-decibels / 10))
    return signal[loud[0] * size : (loud[-1] + 1) * size]


def made_up() -> list[np.ndarray]:
    """Returns made-up clips of 0 … 9: a chord for every letter of the word."""
    random, time = np.random.default_rng(0), np.arange(RATE // 16)[:, None] / RATE
    letters = sorted(set("".join(WORDS)))
    chords = {letter: np.sin(2 * np.pi * time * random.uniform(200, 3500, 6)).sum(axis=1) for letter in letters}
    return [np.concatenate([chords[letter] for letter in word]) for word in WORDS]


def speak(
    clips: Sequence[np.ndarray],
    digits: Sequence[int],
    random: np.random.Generator,
    *,
    decibels: tuple[float, float],
    spread: float = 0.2,
) -> np.ndarray:
    """Returns the signal of a string of digits, float32 `[N]`.

    Args:
      clips: the sound of each digit.
      digits: what is said.
      random: chooses speeds, loudness, pauses and noise.
      decibels: the range of the signal-to-noise ratio.
      spread: of the speaker's speed, a factor between exp(-spread) and exp(spread); each word's own is by half of it.
    """
    parts, pace = [], random.uniform(-spread, spread)
    for digit in digits:
        clip = clips[digit] / np.sqrt(np.mean(np.square(clips[digit])))
        at = np.arange(0, len(clip) - 1, np.exp(pace + random.uniform(-spread, spread) / 2))
        parts += [_pause(random), 10 ** random.uniform(-0.3, 0.3) * np.interp(at, np.arange(len(clip)), clip)]
    signal = np.concatenate([*parts, _pause(random)])
    noise = 10 ** (-random.uniform(*decibels) / 20) * random.normal(size=len(signal))
    return (0.1 * (signal + noise)).astype(np.float32)


def _pause(random):
    return np.zeros(int(RATE * random.uniform(0.02, 0.3)))


def spell(digits: Sequence[int]) -> str:
    return " ".join(WORDS[digit] for digit in digits)


def draw(lengths: Sequence[int], each: int, seed: int, known: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Draws strings that are not among those `known`, and adds them there; `each` of each length."""
    random, drawn = np.random.default_rng(seed), []
    for length, _ in itertools.product(lengths, range(each)):
        while (string := tuple(random.integers(10, size=length).tolist())) in known:
            pass
        known.add(string)
        drawn.append(string)
    return drawn


def lexicon(vocabulary: data.Vocabulary) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Returns the language model of the ten words, all as probable, for `ctc.beam_search`.

    Its carry, int `[N]`, is the beginning of a word so far; that of none is 0.
    """
    beginnings = sorted({word[:n] for word in WORDS for n in range(len(word) + 1)})
    moves = np.zeros((len(beginnings), len(vocabulary)), int)
    logits = np.full(moves.shape, -np.inf, np.float32)
    for (row, beginning), (label, token) in itertools.product(enumerate(beginnings), enumerate(vocabulary.tokens)):
        count = sum(f"{word} ".startswith(beginning + token) for word in WORDS)
        if count:
            moves[row, label] = 0 if token == " " else beginnings.index(beginning + token)
            logits[row, label] = np.log(count)
    table, scores = jnp.asarray(moves), jnp.asarray(logits)

    def listen(state, tokens):
        state = jnp.where(tokens == 0, state, table[state, tokens])  # the blank, 0, is what a text starts with
        return state, scores[state]

    return listen
