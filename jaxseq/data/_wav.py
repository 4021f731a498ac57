"""Reading of WAV files with SciPy."""

import struct
import warnings
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from jaxseq import check


def read_wav(path: str | Path) -> tuple[np.ndarray, int]:
    """Returns the signal of a WAV file, float32 `[N]`, and its sampling rate in Hz.

    Integer samples of 8 to 32 bits are scaled to [-1, 1]; float samples are not changed. Several channels are averaged.

    Raises:
      TypeError, OSError: `path` is not a path, or there is no such file.
      ValueError: the file is not a WAV file, or ends too early.
    """
    path = check.path("path", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # warnings about chunks other than sound
            warnings.filterwarnings("error", "Reached EOF prematurely", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except (ValueError, TypeError, ZeroDivisionError, wavfile.WavFileWarning, struct.error, NameError) as error:
        # SciPy raises NameError without a sound chunk, struct.error for a cut header, and others for a wrong one
        cut = isinstance(error, struct.error | NameError)
        reason = "it ends before the sound" if cut else error
        raise ValueError(f"`path` must be a whole WAV file of PCM or floats; {path} is not: {reason}") from error
    if samples.dtype.itemsize > 4 and samples.dtype.kind != "f":
        raise ValueError(f"`path` must hold integers of 8 to 32 bits, or floats; {path} holds wider integers")
    if samples.dtype.kind == "f":
        signal = samples.astype(np.float64)
    elif samples.dtype == np.uint8:  # the only unsigned format
        signal = (samples - 128.0) / 128
    else:
        signal = samples / -float(np.iinfo(samples.dtype).min)
    return (signal if signal.ndim == 1 else signal.mean(axis=1)).astype(np.float32), rate
