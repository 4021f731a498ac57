"""Sound from WAV files, by the standard library."""

import wave
from pathlib import Path

import numpy as np


def read_wav(path: str | Path) -> tuple[np.ndarray, int]:
    """Returns the signal of a PCM WAV file, float32 `[N]` in [-1, 1], and its rate in Hz.

    Samples are of 8, 16, 24 or 32 bits; several channels are mixed to one, their mean.

    Raises:
      ValueError: the file is not one, or ends too early.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            data = file.readframes(count)
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it ends too early"
        raise ValueError(f"`path` must be a PCM WAV file; {path} is not: {reason}. Convert it first.") from error
    if width not in (1, 2, 3, 4) or len(data) != count * channels * width:
        raise ValueError(
            f"`path` must hold {count} × {channels} samples of 8 to 32 bits; "
            f"{path} holds {len(data)} bytes, at {8 * width} bits a sample"
        )
    # The bytes of a sample, little end first, become the upper ones of an int32. 8 bits are the only unsigned ones.
    samples = np.zeros((count * channels, 4), np.uint8)
    samples[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width) ^ (0x80 if width == 1 else 0)
    signal = samples.view("<i4").reshape(count, channels) / 2.0**31
    return signal.mean(axis=1).astype(np.float32), rate
