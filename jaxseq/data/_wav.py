"""Sound from WAV files, by SciPy."""

import struct
import warnings
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from jaxseq import check


def read_wav(path: str | Path) -> tuple[np.ndarray, int]:
    """Returns the signal of a WAV file, float32 `[N]`, and its rate in Hz.

    Samples are integers of 8 to 32 bits, scaled to [-1, 1], or floats, which stay as they are; several channels are
    mixed to one, their mean.

    Raises:
      TypeError, OSError: `path` is none, or there is nothing.
      ValueError: the file is not one, or ends too early.
    """
    path = check.path("path", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that are no sound
            warnings.filterwarnings("error", "Reached EOF prematurely", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except (ValueError, TypeError, ZeroDivisionError, wavfile.WavFileWarning, struct.error, NameError) as error:
        # SciPy has a name unbound where there is no sound, unpacks a header that is cut, and believes one that is wrong
        cut = isinstance(error, struct.error | NameError)
        reason = "it ends before the sound" if cut else error
        raise ValueError(f"`path` must be a WAV file, whole, of PCM or floats; {path} is not: {reason}") from error
    if samples.dtype.itemsize > 4 and samples.dtype.kind != "f":
        raise ValueError(f"`path` must hold integers of 8 to 32 bits, or floats; {path} holds wider ones")
    if samples.dtype.kind == "f":
        signal = samples.astype(np.float64)
    elif samples.dtype == np.uint8:  # the only unsigned ones
        signal = (samples - 128.0) / 128
    else:
        signal = samples / -float(np.iinfo(samples.dtype).min)
    return (signal if signal.ndim == 1 else signal.mean(axis=1)).astype(np.float32), rate
