import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.signal

from jaxseq.data import _audio as audio
from tests.untyped import untyped

RATE, SIZE, HOP, FFT = 8000, 50, 20, 64
RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=(2, 333))
OPTIONS = {"bands": 10, "size_seconds": SIZE / RATE, "hop_seconds": HOP / RATE}


@pytest.mark.parametrize("n", [0, 3, 11])
@pytest.mark.parametrize(("size", "hop"), [(4, 2), (3, 5), (1, 1)])
def test_frames_are_those_that_fit(n, size, hop):
    signal = np.arange(2.0 * n).reshape(2, n)
    want = [[row[t : t + size] for t in range(0, n, hop) if t + size <= n] for row in signal]
    count = audio.frame_count(n, size, hop)
    got = jax.jit(audio.frames, static_argnums=(1, 2))(signal, size, hop)
    assert got.shape == (2, count, size)
    np.testing.assert_array_equal(got, np.reshape(want, (2, count, size)))


def test_frame_counts_of_lengths_and_masks():
    lengths = np.array([0, 3, 4, 5, 6, 11])
    mask = np.arange(11) < lengths[:, None]
    counts = audio.frame_count(jnp.asarray(lengths), 4, 2)
    np.testing.assert_array_equal(counts, [0, 0, 1, 1, 2, 4])
    np.testing.assert_array_equal(audio.frame_count(lengths, 4, 2), counts)
    np.testing.assert_array_equal(audio.frame_mask(mask, 4, 2), np.arange(4) < counts[:, None])
    mask[-1, 3] = False
    np.testing.assert_array_equal(audio.frame_mask(mask, 4, 2)[-1], [False, False, True, True])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("window", "fft_size"), [("hann", None), ("hamming", 51), ("array", 50)])
def test_power_spectrogram_is_scipys(window, fft_size):
    weights = untyped(scipy.signal.get_window)("hann" if window == "array" else window, SIZE)
    window = weights if window == "array" else window
    transform = scipy.signal.ShortTimeFFT(weights, HOP, RATE, mfft=fft_size or FFT, phase_shift=None)
    frames = (SIGNAL.shape[-1] - SIZE) // HOP + 1
    want = abs(transform.stft(SIGNAL, 0, frames, k_offset=transform.m_num_mid)) ** 2
    got = audio.power_spectrogram(SIGNAL, SIZE, HOP, fft_size=fft_size, window=window)
    np.testing.assert_allclose(got, want.swapaxes(-1, -2), rtol=1e-11, atol=1e-13)


def triangles(bands, fft_size, rate, low, high):
    """Filter by filter and frequency by frequency."""
    scale = 2595 / np.log(10)  # 1127.01048: the formula in natural logarithms
    mel = lambda f: scale * np.log1p(f / 700)
    points = [700 * np.expm1(m / scale) for m in np.linspace(mel(low), mel(high), bands + 2)]
    filters = np.zeros((fft_size // 2 + 1, bands))
    for k in range(len(filters)):
        for m in range(bands):
            filters[k, m] = np.interp(k * rate / fft_size, points[m : m + 3], [0, 1, 0])
    return filters


@pytest.mark.parametrize(
    ("bands", "fft_size", "rate", "low", "high"),
    [(40, 512, 16000, 0, 8000), (8, 61, 8000, 300, 3400), (1, 16, 10, 1, 4)],
)
def test_mel_filters(bands, fft_size, rate, low, high):
    got = audio.mel_filters(bands, fft_size, rate, low=low, high=high)
    np.testing.assert_allclose(got, triangles(bands, fft_size, rate, low, high), atol=1e-12)
    assert got.dtype == np.float64


def test_mel_formula():
    """1000 Hz is 1000 mel, the definition's anchor: as one band's centre it lies half-way in mel."""
    high = 700 * (10 ** (2000 / 2595) - 1)
    filters = audio.mel_filters(1, 20000, 20000, high=high)
    assert np.argmax(filters[:, 0]) == 1000
    np.testing.assert_allclose(filters.max(), 1, atol=1e-4)


def log_mel_by_hand(signal, floor=1e-10):
    window = [0.5 - 0.5 * np.cos(2 * np.pi * n / SIZE) for n in range(SIZE)]
    filters = triangles(10, FFT, RATE, 0, RATE / 2)
    rows = []
    for start in range(0, len(signal) - SIZE + 1, HOP):
        power = abs(np.fft.fft(signal[start : start + SIZE] * window, FFT)[: FFT // 2 + 1]) ** 2
        rows.append([np.log(max(sum(power * filters[:, m]), floor)) for m in range(10)])
    return np.array(rows)


@pytest.mark.usefixtures("x64")
def test_log_mel_mfcc_and_deltas_by_hand():
    @jax.jit
    def features(signal):
        energies = audio.log_mel(signal, RATE, **OPTIONS)
        cepstra = audio.mfcc(energies, coefficients=7)
        return energies, cepstra, audio.deltas(cepstra), audio.deltas(cepstra, width=1)

    energies, cepstra, slopes, slopes_of_one = features(SIGNAL)
    for b in range(2):
        want = log_mel_by_hand(SIGNAL[b])
        np.testing.assert_allclose(energies[b], want, rtol=1e-11, atol=1e-11)
        want = np.asarray(scipy.fft.dct(np.asarray(energies[b]), type=2, norm="ortho"))[:, :7]
        np.testing.assert_allclose(cepstra[b], want, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(slopes[b], deltas_by_hand(cepstra[b], 2), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(slopes_of_one[b], deltas_by_hand(cepstra[b], 1), rtol=1e-12, atol=1e-12)
    single = features(SIGNAL.astype(np.float32))
    assert {x.dtype for x in single} == {jnp.dtype("float32")}
    for x, exact in zip(single, (energies, cepstra, slopes, slopes_of_one), strict=True):
        np.testing.assert_allclose(x, exact, atol=1e-3)


def test_defaults_are_the_usual_ones():
    """25 ms every 10 ms, FFT of the next power of two, 40 bands, 13 coefficients."""
    rng = np.random.default_rng(1)
    signal = rng.normal(size=8000).astype(np.float32)
    options = {
        "bands": 40,
        "size_seconds": 0.025,
        "hop_seconds": 0.01,
        "fft_size": 512,
        "window": "hann",
        "floor": 1e-10,
    }
    got, want, narrow = jax.jit(
        lambda x: (
            audio.log_mel(x, 16000),
            audio.log_mel(x, 16000, **options, low=0.0, high=8000),
            audio.log_mel(x, 16000, low=300, high=3400, floor=1e3),
        )
    )(signal)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert got.shape == (48, 40)
    assert audio.mfcc(got).shape == (48, 13)
    assert narrow.min() == np.log(np.float32(1e3))
    assert np.any(narrow > narrow.min())


def test_silence_is_the_floor_with_finite_gradients():
    total = jax.jit(jax.value_and_grad(lambda x: audio.log_mel(x, RATE, **OPTIONS).sum()))
    value, gradient = total(np.zeros(70, np.float32))
    np.testing.assert_allclose(value, 2 * 10 * np.log(1e-10), rtol=1e-5)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("n", [0, SIZE - 1])
def test_a_signal_shorter_than_a_frame_has_none(n):
    energies = jax.jit(lambda x: audio.log_mel(x, RATE, **OPTIONS))(np.zeros((3, n), np.float32))
    assert energies.shape == (3, 0, 10)
    assert audio.mfcc(energies, coefficients=2).shape == audio.deltas(energies)[..., :2].shape == (3, 0, 2)


def test_frames_of_padded_signals_are_those_of_each_alone():
    """Their changes too, at any length."""
    lengths = [0, 49, 109, 333]
    mask = np.arange(333) < np.array(lengths)[:, None]
    signal = np.where(mask, SIGNAL[:1], np.nan).astype(np.float32)
    frames = audio.frame_mask(mask, SIZE, HOP)
    log_mel = jax.jit(lambda x: audio.log_mel(x, RATE, **OPTIONS))
    deltas = jax.jit(lambda x: audio.deltas(x, mask=frames))
    energies = log_mel(signal)
    slopes = deltas(energies)
    for b, n in enumerate(lengths):
        T = audio.frame_count(n, SIZE, HOP)
        alone = log_mel(signal[b, :n])
        np.testing.assert_allclose(energies[b, :T], alone, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(slopes[b, :T], deltas_by_hand(alone, 2), atol=1e-4)
        np.testing.assert_array_equal(slopes[b, T:], 0)
    gradient = jax.jit(jax.grad(lambda x: deltas(x).sum()))(energies)
    np.testing.assert_array_equal(np.where(frames[..., None], 0, gradient), 0)
    assert np.all(np.isfinite(gradient))


def deltas_by_hand(x, width):
    x = np.asarray(x, float)
    out = np.zeros_like(x)
    for t in range(len(x)):
        steps = range(-width, width + 1)
        out[t] = sum(n * x[min(max(t + n, 0), len(x) - 1)] for n in steps) / sum(n * n for n in steps)
    return out


def test_deltas_of_a_line_are_its_slope_and_padding_may_lead():
    line = 3 * np.arange(9.0, dtype=np.float32)[:, None] + 5
    np.testing.assert_allclose(jax.jit(audio.deltas)(line)[2:-2], 3, rtol=1e-6)
    mask = np.arange(9) >= 4
    got = jax.jit(audio.deltas)(np.where(mask[:, None], line, np.inf), mask=mask)
    np.testing.assert_allclose(got, np.concatenate([np.zeros((4, 1)), deltas_by_hand(line[4:], 2)]), rtol=1e-6)


def test_deltas_over_more_steps_than_there_are():
    x = np.random.default_rng(2).normal(size=(7, 2)).astype(np.float32)
    for width in (6, 7, 40):
        np.testing.assert_allclose(audio.deltas(x, width=width), deltas_by_hand(x, width), rtol=1e-5, atol=1e-6)
    assert np.all(np.isfinite(audio.deltas(x, width=2**30)))


def test_preemphasis():
    want = scipy.signal.lfilter([1, -0.97], [1], SIGNAL)
    preemphasis = jax.jit(audio.preemphasis, static_argnames="coefficient")
    np.testing.assert_allclose(preemphasis(SIGNAL.astype(np.float32)), want, atol=1e-5)
    np.testing.assert_array_equal(preemphasis(np.ones(3, np.float32), coefficient=0.5), [1, 0.5, 0.5])
    assert preemphasis(np.ones((2, 0), np.float32)).shape == (2, 0)


def test_errors():
    signal = np.zeros(100, np.float32)
    for call in (
        lambda x: audio.power_spectrogram(x, SIZE, HOP),
        lambda x: audio.log_mel(x, RATE),
        audio.preemphasis,
    ):
        with pytest.raises(TypeError, match=r"`signal` must be float32 or float64.*got int16.*Scale PCM samples"):
            call(np.zeros(100, np.int16))
        with pytest.raises(TypeError, match="`signal` must be an array"):
            call(untyped([0.0]))
        with pytest.raises(ValueError, match=r"`signal` must be \[..., N\], of at least 1 axis"):
            call(np.zeros((), np.float32))
    with pytest.raises(ValueError, match=r"`signal` must be \[..., N\]"):
        audio.frames(np.zeros(()), 1, 1)
    for size, hop in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="must be a positive int; got 0"):
            audio.frames(signal, size, hop)
    with pytest.raises(TypeError, match="`hop` must be a positive int"):
        audio.frame_count(9, 2, untyped(1.5))
    with pytest.raises(TypeError, match="`mask` must be bool"):
        audio.frame_mask(signal, 2, 1)
    with pytest.raises(ValueError, match="`fft_size` must be at least a frame's 50 samples; got 49"):
        audio.power_spectrogram(signal, SIZE, HOP, fft_size=49)
    with pytest.raises(ValueError, match="`window` must be 'hann' or 'hamming'; got 'flat'"):
        audio.power_spectrogram(signal, SIZE, HOP, window="flat")
    with pytest.raises(ValueError, match=r"`window` must be \[size\] = \(50,\).*got \(49,\)"):
        audio.power_spectrogram(signal, SIZE, HOP, window=np.ones(49))
    for low, high in ((-1, 100), (100, 100), (0, 4001)):
        with pytest.raises(ValueError, match=r"`low` and `high` must be 0 ≤ low < high ≤ rate / 2 = 4000.0"):
            audio.mel_filters(10, FFT, RATE, low=low, high=high)
    with pytest.raises(
        ValueError, match=r"band 0 of 40 contains no FFT frequency; they lie 125 Hz apart at this `rate`"
    ):
        audio.mel_filters(40, FFT, RATE)
    with pytest.raises(ValueError, match="`rate` must be a positive, finite number"):
        audio.log_mel(signal, 0)
    with pytest.raises(ValueError, match="`size_seconds × rate` must be a positive int; got 0"):
        audio.log_mel(signal, RATE, size_seconds=1e-6)
    with pytest.raises(ValueError, match="`hop_seconds` must be a positive, finite number"):
        audio.log_mel(signal, RATE, hop_seconds=-1)
    with pytest.raises(ValueError, match="`floor` must be a positive, finite number; got 0"):
        audio.log_mel(signal, RATE, floor=0)
    with pytest.raises(ValueError, match="`coefficients` must be at most the bands, 10; got 13"):
        audio.mfcc(np.zeros((4, 10), np.float32))
    with pytest.raises(ValueError, match=r"`features` must be \[..., T, F\]"):
        audio.deltas(signal)
    with pytest.raises(TypeError, match="`features` must be float32"):
        audio.deltas(np.zeros((3, 2), int))
    with pytest.raises(ValueError, match="`width` must be a positive int"):
        audio.deltas(signal[:, None], width=0)
    with pytest.raises(ValueError, match=r"`mask` must be bool \[..., T\] = \(100,\)"):
        audio.deltas(signal[:, None], mask=np.ones(99, bool))
    with pytest.raises(ValueError, match=r"`coefficient` must be a rate in \[0, 1\)"):
        audio.preemphasis(signal, coefficient=1)
