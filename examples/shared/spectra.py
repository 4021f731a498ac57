"""Speech as a net reads it: log-mel energies, 50 frames a second."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from examples.data.spoken_digits import RATE
from jaxseq import data

BANDS, FRAME, HOP = 32, 0.032, 0.020  # of the mel scale; seconds
TOGETHER = 2  # frames that are read as one


def features(batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    """Returns log-mel energies `[B, T, BANDS]`, each band normalised over the utterance, and which frames are real."""
    mels = data.log_mel(batch["signal"], RATE, bands=BANDS, size_seconds=FRAME, hop_seconds=HOP)
    mask = data.frame_mask(batch["real"], round(FRAME * RATE), round(HOP * RATE))
    mean, deviation = (f(mels, axis=1, keepdims=True, where=mask[..., None]) for f in (jnp.mean, jnp.std))
    return jnp.where(mask[..., None], (mels - mean) / (deviation + 0.1), 0), mask


def wide_features(batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    """Returns `features`, some frames in a row as one, `[B, T, TOGETHER × BANDS]`, and which are real."""
    mels, mask = features(batch)
    T = mels.shape[1] // TOGETHER
    return mels[:, : T * TOGETHER].reshape(len(mels), T, -1), mask[:, TOGETHER - 1 :: TOGETHER]
