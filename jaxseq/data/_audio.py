"""Features of sound: spectrograms, log-mel energies, cepstral coefficients (MFCC) and their changes in time.

    frame_t = signal[t hop : t hop + size]                          only frames that lie wholly inside the signal
    P_t[k]  = |Σ_n window[n] frame_t[n] exp(-2πi k n / fft_size)|²  the power spectrum, zero-padded, not scaled
    M_t[m]  = log max(Σ_k P_t[k] filter_m[k], floor)                log-mel energies, natural logarithm
    mel(f)  = 2595 log₁₀(1 + f / 700)                               O'Shaughnessy's formula, as in HTK (not Slaney's)
    C_t[j]  = Σ_m √(2 / bands) cos(π j (m + ½) / bands) M_t[m]      the orthonormal DCT-II; divided by √2 at j = 0
    Δ_t     = Σ_n n (x_{t+n} - x_{t-n}) / 2 Σ_n n²,  n = 1 … width  the slope of the line through 2 width + 1 steps

Filters are triangles of height 1, linear in Hz. Each lies between neighbouring points that are evenly spaced in mel
(Davis & Mermelstein 1980). Time is the last axis of a signal `[..., N]` and the last but one of features `[..., T, F]`;
batch axes come first. A frame depends on its own samples only. In a padded batch, the frames that `frame_mask` marks
therefore equal the frames of each signal computed separately.
"""

import functools
import math
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq._promote import expand_rank
from jaxseq.typing import AnyArray

Count = TypeVar("Count", int, jax.Array, np.ndarray)

_COSINE = {"hann": 0.5, "hamming": 0.54}


def frame_count(n: Count, size: int, hop: int) -> Count:
    """Returns the number of frames that lie wholly inside n samples: 1 + ⌊(n - size) / hop⌋, or 0 if n < size.

    Args:
      n: the number of samples: an int, or an int array of lengths.
      size: samples in a frame.
      hop: samples from the start of one frame to the start of the next.

    Raises:
      TypeError, ValueError: `n` is not an integer, or `size` or `hop` is not a positive one.

    >>> from jaxseq import data
    >>> data.frame_count(1000, 400, 160)
    4
    """
    size, hop = check.positive_int("size", size), check.positive_int("hop", hop)
    if not isinstance(n, jax.Array | np.ndarray):
        return max(0, 1 + (check.natural("n", n) - size) // hop)
    if not jnp.issubdtype(n.dtype, jnp.integer):
        raise TypeError(f"`n` must be an int or an array of ints; got {check.shaped(n)}")
    count = 1 + (n - size) // hop
    return count * (n >= size).astype(count.dtype)


def frames(signal: AnyArray, size: int, hop: int) -> jax.Array:
    """Returns the frames `[..., T, size]` of a signal, T = `frame_count(N, size, hop)`.

    Samples after the last whole frame are left out. A signal shorter than a frame has no frames. Pad the signal with
    `jnp.pad` if these samples should count.

    Args:
      signal: `[..., N]`.
      size: samples in a frame.
      hop: samples from the start of one frame to the start of the next.

    Raises:
      TypeError, ValueError: `signal` is not an array of at least 1 axis, or `size` or `hop` is not a positive int.

    >>> from jaxseq import data
    >>> data.frames(jnp.arange(6), 3, 2).tolist()
    [[0, 1, 2], [2, 3, 4]]
    """
    signal = check.array("signal", "..., N", signal)
    if signal.ndim == 0:
        raise ValueError("`signal` must be [..., N], of at least 1 axis; got ()")
    starts = hop * np.arange(frame_count(signal.shape[-1], size, hop))
    return signal[..., starts[:, None] + np.arange(size)]


def frame_mask(mask: AnyArray, size: int, hop: int) -> jax.Array:
    """Returns a mask of the frames that hold real samples only, bool `[..., T]`.

    Args:
      mask: bool `[..., N]`, True where a sample is real.
      size, hop: as in `frames`.

    Raises:
      TypeError, ValueError: `mask` is not bool of at least 1 axis, or `size` or `hop` is not a positive int.
    """
    mask = check.array("mask", "..., N", mask)
    check.flags("mask", mask, mask.shape, "..., N")
    return jnp.all(frames(mask, size, hop), axis=-1)


def preemphasis(signal: AnyArray, *, coefficient: float = 0.97) -> jax.Array:
    """Returns the signal after pre-emphasis, `[..., N]`: y_t = x_t - coefficient x_{t-1}, with y_0 = x_0.

    Args:
      signal: float32 or float64 `[..., N]`.
      coefficient: in [0, 1).

    Raises:
      TypeError, ValueError: `signal` or `coefficient` does not fit.
    """
    signal = _signal(signal)
    coefficient = check.rate("coefficient", coefficient)
    return jnp.concatenate([signal[..., :1], signal[..., 1:] - coefficient * signal[..., :-1]], axis=-1)


def power_spectrogram(
    signal: AnyArray, size: int, hop: int, *, fft_size: int | None = None, window: str | AnyArray = "hann"
) -> jax.Array:
    """Returns the power spectrum |FFT|² of windowed frames, not scaled, `[..., T, fft_size // 2 + 1]`.

    Args:
      signal: float32 or float64 `[..., N]`.
      size: samples in a frame.
      hop: samples from the start of one frame to the start of the next.
      fft_size: length of the FFT, to which frames are zero-padded. None: the smallest power of two of at least `size`.
      window: "hann" or "hamming", both periodic, or an array `[size]`, for example from `scipy.signal.get_window`.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    signal = _signal(signal)
    fft_size, weights = _fft_size(fft_size, size), _window(window, size).astype(signal.dtype)
    framed = frames(signal, size, hop)
    spectrum = jnp.fft.rfft(framed * expand_rank(weights, framed), n=fft_size)
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def mel_filters(bands: int, fft_size: int, rate: float, *, low: float = 0.0, high: float | None = None) -> np.ndarray:
    """Returns triangular mel filters, float64 `[fft_size // 2 + 1, bands]`.

    `power @ filters` gives mel energies `[..., T, bands]` from a power spectrum `[..., T, fft_size // 2 + 1]`.

    Args:
      bands: the number of filters.
      fft_size: length of the FFT that the power spectrum was made with.
      rate: sampling rate, in Hz.
      low: start of the first triangle, in Hz.
      high: end of the last triangle, in Hz. None: half of `rate`.

    Raises:
      TypeError, ValueError: an argument does not fit, or a band is so narrow that no frequency of the FFT lies in it.
    """
    bands, fft_size = check.positive_int("bands", bands), check.positive_int("fft_size", fft_size)
    rate, low = check.positive_finite("rate", rate), check.finite("low", low)
    high = rate / 2 if high is None else check.positive_finite("high", high)
    if not 0 <= low < high <= rate / 2:
        raise ValueError(f"`low` and `high` must be 0 ≤ low < high ≤ rate / 2 = {rate / 2}; got {low} and {high}")
    first, last = 2595 * np.log10(1 + np.array([low, high]) / 700)
    mels = np.linspace(first, last, bands + 2)
    left, centre, right = (700 * (10 ** (mels[i : i + bands] / 2595) - 1) for i in range(3))
    hertz = np.fft.rfftfreq(fft_size, 1 / rate)[:, None]
    filters = np.maximum(0, np.minimum((hertz - left) / (centre - left), (right - hertz) / (right - centre)))
    reached = np.any(filters > 0, axis=0)
    if not np.all(reached):
        raise ValueError(
            f"`bands`: band {np.argmin(reached)} of {bands} contains no FFT frequency; they lie "
            f"{rate / fft_size:.3g} Hz apart at this `rate`. Take fewer `bands` or a larger `fft_size`."
        )
    return filters


def log_mel(
    signal: AnyArray,
    rate: float,
    *,
    bands: int = 40,
    size_seconds: float = 0.025,
    hop_seconds: float = 0.010,
    fft_size: int | None = None,
    window: str | AnyArray = "hann",
    low: float = 0.0,
    high: float | None = None,
    floor: float = 1e-10,
) -> jax.Array:
    """Returns the natural logarithm of the mel energies of a signal, `[..., T, bands]`.

    Args:
      signal: float32 or float64 `[..., N]`.
      rate: sampling rate, in Hz.
      bands: the number of mel bands.
      size_seconds: length of a frame, in seconds; rounded to whole samples.
      hop_seconds: time from the start of one frame to the start of the next, in seconds; rounded to whole samples.
      fft_size, window: as in `power_spectrogram`.
      low, high: as in `mel_filters`.
      floor: the least energy; smaller energies are raised to it before the logarithm, and their gradient is zero.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from jaxseq import data
    >>> data.mfcc(data.log_mel(jnp.zeros([2, 16_000]), 16_000)).shape
    (2, 98, 13)
    """
    rate, floor = check.positive_finite("rate", rate), check.positive_finite("floor", floor)
    size, hop = (
        check.positive_int(f"{name} × rate", round(check.positive_finite(name, seconds) * rate))
        for name, seconds in (("size_seconds", size_seconds), ("hop_seconds", hop_seconds))
    )
    fft_size = _fft_size(fft_size, size)
    power = power_spectrogram(signal, size, hop, fft_size=fft_size, window=window)
    energies = power @ mel_filters(bands, fft_size, rate, low=low, high=high).astype(power.dtype)
    return jnp.log(jnp.maximum(energies, floor))


def mfcc(log_mels: AnyArray, *, coefficients: int = 13) -> jax.Array:
    """Returns the first cepstral coefficients of each frame (MFCC), `[..., T, coefficients]`.

    They are the orthonormal DCT-II of the log-mel energies.

    Args:
      log_mels: float32 or float64 `[..., T, bands]`, as `log_mel` returns them.
      coefficients: how many to keep. Number 0 is the frame's mean log energy times √bands.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    log_mels = _signal(log_mels, "log_mels", "..., T, bands")
    coefficients = check.positive_int("coefficients", coefficients)
    if coefficients > log_mels.shape[-1]:
        raise ValueError(f"`coefficients` must be at most the bands, {log_mels.shape[-1]}; got {coefficients}")
    return jax.scipy.fft.dct(log_mels, type=2, norm="ortho")[..., :coefficients]


def deltas(features: AnyArray, *, width: int = 2, mask: AnyArray | None = None) -> jax.Array:
    """Returns the slope of each feature over time, per step, `[..., T, F]`.

    Applied twice, it gives the acceleration. Beyond each end, the first or the last real step is repeated.

    Args:
      features: float `[..., T, F]`.
      width: the number of steps on either side over which the slope is taken.
      mask: bool `[..., T]`, True where a step is real. Real steps must be contiguous. The slope is zero at padding.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    features = _signal(features, "features", "..., T, F")
    if features.ndim < 2:
        raise ValueError(f"`features` must be [..., T, F], of at least 2 axes; got {features.shape}")
    width = check.positive_int("width", width)
    mask = check.flags("mask", mask, features.shape[:-1], "..., T")
    if features.size == 0:
        return features
    return _slopes(features, jnp.ones(features.shape[:-1], bool) if mask is None else mask, width)


@functools.partial(jax.jit, static_argnames="width")
def _slopes(features, real, width):
    features = jnp.where(real[..., None], features, 0)
    T = real.shape[-1]
    first = jnp.argmax(real, axis=-1, keepdims=True)
    last = T - 1 - jnp.argmax(real[..., ::-1], axis=-1, keepdims=True)

    def at(shift):
        steps = jnp.clip(expand_rank(jnp.arange(T), first) + shift, first, last)
        return jnp.take_along_axis(features, steps[..., None], axis=-2)

    inside = min(width, T - 1)
    slopes, _ = jax.lax.scan(
        lambda total, n: (total + n.astype(features.dtype) * (at(n) - at(-n)), None),
        jnp.zeros_like(features),
        jnp.arange(1, inside + 1),
    )
    beyond = (
        width * (width + 1) - inside * (inside + 1)
    ) / 2  # the sum of all n for which both t - n and t + n lie beyond the ends
    slopes = slopes + beyond * (at(T) - at(-T))
    return jnp.where(real[..., None], slopes / (width * (width + 1) * (2 * width + 1) / 3), 0)


def _signal(x: AnyArray, name: str = "signal", axes: str = "..., N") -> jax.Array:
    x = check.array(name, axes, x)
    if x.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"`{name}` must be float32 or float64 [{axes}]; got {x.dtype} {x.shape}. Scale PCM samples to [-1, 1]."
        )
    if x.ndim == 0:
        raise ValueError(f"`{name}` must be [{axes}], of at least 1 axis; got ()")
    return x


def _fft_size(fft_size: int | None, size: int) -> int:
    size = check.positive_int("size", size)
    if fft_size is None:
        return 2 ** math.ceil(math.log2(size))
    fft_size = check.positive_int("fft_size", fft_size)
    if fft_size < size:
        raise ValueError(f"`fft_size` must be at least a frame's {size} samples; got {fft_size}")
    return fft_size


def _window(window: str | AnyArray, size: int) -> jax.Array:
    if isinstance(window, str):
        check.one_of("window", window, tuple(_COSINE))
        a = _COSINE[window]
        return jnp.asarray(a - (1 - a) * np.cos(2 * np.pi * np.arange(size) / size))
    window = check.array("window", "size", window)
    if window.shape != (size,):
        raise ValueError(f"`window` must be [size] = ({size},), one weight per sample; got {window.shape}")
    return window
