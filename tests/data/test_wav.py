import struct
import wave

import numpy as np
import pytest

from jaxseq.data._wav import read_wav


def write_wav(path, samples, width):
    """Samples `[N, channels]`, the integers of the format, byte by byte."""
    samples = np.asarray(samples)
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], width, 11025, len(samples), "NONE", ""))
        signed = width > 1
        file.writeframes(b"".join(int(x).to_bytes(width, "little", signed=signed) for x in samples.ravel()))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_read_wav(tmp_path, width):
    bits = 8 * width
    top = 2 ** (bits - 1)
    levels = np.array([[-top, -top], [0, 1], [top - 1, top - 1], [top // 2, -top]])
    path = tmp_path / "a.wav"
    write_wav(path, levels + (top if width == 1 else 0), width)
    signal, rate = read_wav(path)
    assert rate == 11025
    assert signal.dtype == np.float32
    np.testing.assert_allclose(signal, [-1, 0.5 / top, 1 - 1 / top, -0.25], rtol=1e-7)
    write_wav(path, np.zeros((0, 1)), width)
    assert read_wav(str(path))[0].shape == (0,)


def test_read_wav_errors(tmp_path):
    path = tmp_path / "a.wav"
    with pytest.raises(FileNotFoundError):
        read_wav(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be a PCM WAV file.*a.wav is not: it ends too early"):
        read_wav(path)
    path.write_bytes(b"no sound at all")
    with pytest.raises(ValueError, match="is not: file does not start with RIFF id"):
        read_wav(path)
    write_wav(path, np.zeros((10, 2)), 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(
        ValueError, match=r"must hold 10 × 2 samples of 8 to 32 bits; .*a.wav holds 37 bytes, at 16 bits"
    ):
        read_wav(path)
    path.write_bytes(whole[:20] + struct.pack("<H", 3) + whole[22:])  # format 3: floats
    with pytest.raises(ValueError, match="is not: unknown format: 3"):
        read_wav(path)
    write_wav(path, np.zeros((1, 1)), 4)
    whole = bytearray(path.read_bytes())
    whole[34:36] = struct.pack("<H", 64)
    path.write_bytes(bytes(whole) + bytes(4))
    with pytest.raises(ValueError, match="samples of 8 to 32 bits"):
        read_wav(path)
