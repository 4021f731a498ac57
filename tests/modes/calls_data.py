"""Loaders, padding, series, sound, augmentation: much of it NumPy, which no mode changes."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import data
from tests.modes.inputs import B, D, T, floats, ids, key, mask
from tests.modes.table import of

RATE = 800.0


def texts():
    return [np.arange(1, 4), np.arange(1, 3)]


@of("data.batches", "data.bucketed", "data.streams", "data.Loader", "data.prefetch", traced=False)
def loaders():
    examples = {"x": np.arange(5.0)}
    loader = data.batches(examples, 2, seed=0)
    found = [loader, data.bucketed(texts(), {}, 2, multiple=2), data.streams(np.arange(9), 2, 2)]
    return [list(each.epoch(0)) for each in found], list(data.prefetch(loader.epoch(0)))


@of("data.pad", "data.unpad", "data.pack", "data.place", "data.unpack", traced=False)
def laid():
    padded, packed = data.pad(texts()), data.pack(texts(), 5)
    placed = data.place(texts(), packed)
    return padded, data.unpad(*padded), packed, placed, data.unpack(placed, packed)


@of("data.split", "data.split_in_time", "data.unique", "data.words", "data.Vocabulary", traced=False)
def texts_and_splits():
    vocabulary = data.Vocabulary.build([data.words("a b a")])
    slices = [np.arange(9)[part] for part in data.split_in_time(9, (0.5, 0.5))]
    return data.split(9, (0.5, 0.5), seed=0), slices, data.unique(["a", "b", "a"]), vocabulary.encode(["a", "c"])


@of("data.fill_missing", "data.windows", "data.cyclic", traced=False)
def series():
    xs = np.array([[0.0, 1.0], [np.nan, 2.0], [3.0, 5.0]], np.float32)
    filled = data.fill_missing(xs)
    scale = data.Normalizer.fit(filled.xs)
    scaled = scale.apply(jnp.asarray(filled.xs)), scale.invert(floats(B, T, 2)), scale.apply(floats(B, 1), columns=[1])
    return filled, scaled, data.windows(filled.xs, 1, 1), data.cyclic(np.arange(3), 24)


@of("data.time_mask", "data.feature_mask", "data.jitter", "data.token_dropout")
def augmented():
    xs, flags = floats(B, T, D), mask(B)
    changed = data.time_mask(key(), xs, spans=1, width=2, mask=flags, value=jnp.zeros(D))
    jittered = data.jitter(key(), xs, jnp.ones(D), mask=flags), data.jitter(key(), xs, 0.1)
    dropped = data.token_dropout(key(), ids(B, T), 0.5, 1, mask=flags)
    return changed, data.feature_mask(key(), xs, spans=1, width=2), jittered, dropped


@of("data.frame_count", "data.frames", "data.frame_mask", "data.preemphasis", "data.power_spectrogram")
def sound():
    signal = floats(B, 32)
    counts = data.frame_count(32, 8, 4), data.frame_count(jnp.array([32, 20]), 8, 4)
    framed = data.frames(signal, 8, 4), data.frame_mask(mask(B, last=32), 8, 4)
    return counts, framed, data.preemphasis(signal), data.power_spectrogram(signal, 8, 4)


@of("data.mel_filters", "data.log_mel", "data.mfcc", "data.deltas")
def features():
    mels = data.log_mel(floats(B, 40), RATE, bands=4)
    return data.mel_filters(4, 32, RATE), mels, data.mfcc(mels, coefficients=3), data.deltas(mels), _masked_deltas(mels)


def _masked_deltas(mels):
    return jax.jit(data.deltas)(mels, mask=mask(B, last=mels.shape[-2]))
