"""Language models that see windows of T characters, and nothing before: batches, bits, and writing on."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from examples.shared.characters import read_on
from jaxseq import data, nn


def streams(documents: Sequence[np.ndarray], batch: tuple[int, int]) -> data.Loader:
    """Returns batches that go on from one another; without a carry, windows side by side."""
    return data.streams(documents, *batch).map(lambda batch: {**batch, "scored": batch["mask"]})


def windows(documents: Sequence[np.ndarray], batch: tuple[int, int]) -> data.Loader:
    """Returns windows of T that overlap by a half; a character is scored once, where most others stand before it."""
    B, T = batch
    places = [(d, i) for d in documents for i in range(0, max(len(d) - 1 - T // 2, 1), T // 2)]
    xs, mask = data.pad([document[i : i + T + 1][:-1] for document, i in places], length=T)
    targets = data.pad([document[i + 1 : i + T + 1] for document, i in places], length=T).xs
    first = np.array([[i == 0] for _, i in places])
    arrays = {"xs": xs, "targets": targets, "mask": mask, "scored": mask & (first | (np.arange(T) >= T // 2))}
    return data.batches({**arrays, "reset": np.zeros_like(mask)}, B, last="pad")


def bits_in_windows(model: nn.LanguageModel, documents: Sequence[np.ndarray], batch: tuple[int, int]) -> np.ndarray:
    """Returns the bits of each character that is scored."""
    bits = []
    for window in windows(documents, batch).epoch(0):
        _, found = read_on(model, None, *(jnp.asarray(window[name]) for name in ("xs", "targets", "mask")))
        bits.append(np.asarray(found)[window["scored"]])
    return np.concatenate(bits)


generate = nnx.jit(nn.LanguageModel.generate, static_argnums=2)


def write(model: nn.LanguageModel, prompt: np.ndarray, length: int, key: jax.Array, window: int | None) -> np.ndarray:
    """Returns the prompt `[P]` and what the model writes after it, ids `[P + length]`.

    A window that is full goes on from the last half of it; None: the model remembers all.
    """
    room, ids = len(prompt) + length if window is None else window, prompt
    while len(ids) < len(prompt) + length:
        seen = ids if len(ids) < room else ids[-(room // 2) :]
        more = generate(model, seen[None], room - len(seen), key=jax.random.fold_in(key, len(ids)), temperature=0.8)
        ids = np.concatenate([ids, more[0]])
    return ids[: len(prompt) + length]
