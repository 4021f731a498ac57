import struct
import wave

import numpy as np
import pytest
from scipy.io import wavfile

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


def test_read_wav_of_floats(tmp_path):
    path = tmp_path / "a.wav"
    wavfile.write(path, 8000, np.array([[0.5, 0.25], [-2.0, 0.0]], np.float32))
    signal, rate = read_wav(path)
    assert rate == 8000
    assert signal.tolist() == [0.375, -1.0]


def test_read_wav_of_the_extensible_format_and_with_other_chunks(tmp_path):
    path = tmp_path / "a.wav"
    write_wav(path, [[1], [-(2**23)]], 3)
    whole = path.read_bytes()
    subformat = bytes.fromhex("0100000000001000800000aa00389b71")  # PCM
    extensible = struct.pack("<IH", 40, 0xFFFE) + whole[22:36] + struct.pack("<HHI", 22, 24, 4) + subformat
    extra = b"odd " + struct.pack("<I", 4) + b"abcd"
    chunks = b"WAVEfmt " + extensible + extra + whole[36:]
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    np.testing.assert_array_equal(read_wav(path)[0], np.array([2.0**-23, -1], np.float32))


def test_read_wav_errors(tmp_path):
    path = tmp_path / "a.wav"
    with pytest.raises(FileNotFoundError):
        read_wav(path)
    write_wav(path, np.zeros((10, 2)), 2)
    whole = path.read_bytes()
    law = whole[:20] + struct.pack("<H", 7) + whole[22:]
    for content, reason in [
        (b"", r"must be a whole WAV file .*a.wav is not: File format b'' not understood"),
        (b"no sound at all", "is not: File format b'no s' not understood"),
        (whole[:-3], "is not: Reached EOF prematurely"),
        (whole[:20], "it ends before the sound"),
        (whole[:4] + struct.pack("<I", 28) + whole[8:36], "it ends before the sound"),  # no chunk of sound
        (law, "is not: Unknown wave file format: MULAW"),
        (whole[:22] + struct.pack("<H", 0) + whole[24:], "is not: "),  # no channels
        (whole[:28] + struct.pack("<IHH", 11025 * 10, 10, 40) + whole[36:], "integers of 8 to 32 bits"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            read_wav(path)
