"""Time series in `.ts` files, the format of the UEA & UCR archive, and the one that three of the examples read.

A line that starts with # is a comment, one with @ says something of the data; after `@data` each line is a case:

    1.86,1.89,1.93:-0.20,-0.19,-0.23:1          D = 2 columns of T = 3 steps, then the class

Japanese Vowels (Kudo, Toyama & Shimbo 1999, Pattern Recognition Letters 20) are utterances of /ae/ by nine men, as 12
LPC cepstrum coefficients a frame, 7 to 29 frames. Who speaks? The file to train on has 30 utterances of each speaker,
that to test on 24 to 88. They lie in the package aeon, which is BSD-licensed.
"""

from typing import NamedTuple

import numpy as np

from examples.data.packages import fetch, read
from jaxseq import data

WHEEL = "aeon-1.6.0-py3-none-any.whl"
SHA256 = "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409"
FRAMES = 32  # to which cases are padded


class Cases(NamedTuple):
    sequences: list[np.ndarray]  # float32 [T_i, D]
    labels: np.ndarray  # int [N], numbers of `classes`
    classes: list[str]


def parse(text: str) -> Cases:
    """Parses a `.ts` file of classified cases without time stamps; `?` is a missing value, NaN.

    Raises:
      ValueError: it names no classes, or has time stamps; a case has another class, or columns of several lengths.
    """
    head, _, body = text.partition("@data")
    said = {words[0].lower(): words[1:] for line in head.splitlines() if (words := line.split())}
    if said.get("@classlabel", ["false"])[0] != "true" or said.get("@timestamps") == ["true"]:
        raise ValueError("the file must have `@classLabel true …` and no time stamps")
    classes = said["@classlabel"][1:]
    sequences, labels = [], []
    for number, line in enumerate(filter(str.strip, body.splitlines()), start=1):
        *columns, label = line.strip().split(":")
        values = [column.replace("?", "nan").split(",") for column in columns]
        if label not in classes or len({len(column) for column in values}) != 1:
            raise ValueError(f"case {number} must have columns of one length and a class of {classes}; got {line[:60]}")
        sequences.append(np.array(values, np.float32).T)
        labels.append(classes.index(label))
    return Cases(sequences, np.array(labels), classes)


def japanese_vowels() -> tuple[Cases, Cases]:
    """Returns the 270 utterances to train on and the 370 to test on."""
    wheel = fetch("aeon", "1.6.0", WHEEL, SHA256)
    folder = "aeon/datasets/data/JapaneseVowels/JapaneseVowels"
    train, test = (parse(read(wheel, f"{folder}_{part}.ts").decode()) for part in ("TRAIN", "TEST"))
    return train, test


def made_up(size: int, seed: int) -> Cases:
    """Returns made-up cases of the same form for smoke runs: waves of three classes, told apart by how they turn."""
    source = np.random.default_rng(seed)
    labels = np.arange(size) % 3
    sequences = []
    for label in labels:
        angles = 0.6 * (label - 1) * np.arange(source.integers(7, 17)) + source.uniform(0, 2 * np.pi)
        waves = np.stack([np.sin(angles), np.cos(angles), 0 * angles], axis=-1)
        sequences.append((waves + 0.3 * source.normal(size=waves.shape)).astype(np.float32))
    return Cases(sequences, labels, ["backward", "still", "forward"])


def fit_normalizer(cases: Cases, rows: np.ndarray | None = None) -> data.Normalizer:
    """Returns the normaliser of all frames of the cases numbered `rows`; None: of all."""
    rows = np.arange(len(cases.labels)) if rows is None else rows
    return data.Normalizer.fit(np.concatenate([cases.sequences[row] for row in rows]))


def as_arrays(cases: Cases, normalizer: data.Normalizer, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Returns the cases numbered `rows`, padded: one shape for all, as the longest have 29 frames. None: all."""
    rows = np.arange(len(cases.labels)) if rows is None else rows
    xs, mask = data.pad([normalizer.apply(cases.sequences[row]) for row in rows], length=FRAMES)
    return {"xs": xs, "mask": mask, "labels": cases.labels[rows]}
