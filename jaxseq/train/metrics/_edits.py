"""Edit distance (Levenshtein 1966) and the error rates made of it.

    D[i, j] = min(D[i-1, j] + 1, D[i-1, j-1] + [label_i ≠ predicted_j], D[i, j-1] + 1),   D[i, 0] = i,   D[0, j] = j

A row is one step of a scan. Its own recurrence, over j, is a running minimum: with r the first two terms,
D[i, j] = min over k ≤ j of r[k] + (j - k). Padded labels leave the row as it is; padded predictions hand on the column
before, as they cost nothing: j then counts real ones only.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq.train._elementwise import integers


class Edits(NamedTuple):
    """How many edits lead from the labels to the predictions, and how many labels there are."""

    distance: jax.Array
    length: jax.Array

    @property
    def value(self) -> jax.Array:
        """Edits a label, over all sequences: the word error rate of words; NaN, or inf, where there is no label."""
        return jnp.asarray(self.distance) / self.length


def edit_distance(
    predicted: jax.Array,
    labels: jax.Array,
    *,
    predicted_mask: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Returns how many insertions, deletions and substitutions make each row's labels its predictions, int `[B]`.

    Args:
      predicted: int `[B, U]`, of any number of batch axes.
      labels: int `[B, L]`.
      predicted_mask: bool `[B, U]`, of any pattern.
      mask: bool `[B, L]`, of any pattern.

    Raises:
      TypeError, ValueError: dtypes or shapes do not fit.

    >>> from jaxseq.train import metrics
    >>> metrics.edit_distance(jnp.array([[1, 2, 4]]), jnp.array([[1, 3, 2, 4]])).item()
    1
    """
    return _distance(*_checked(predicted, labels, predicted_mask, mask))


def edits(
    predicted: jax.Array,
    labels: jax.Array,
    *,
    predicted_mask: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> Edits:
    """Returns the `Edits` of a batch, whose value is the error rate; arguments and errors as in `edit_distance`."""
    predicted, labels, predicted_mask, mask = _checked(predicted, labels, predicted_mask, mask)
    return Edits(jnp.sum(_distance(predicted, labels, predicted_mask, mask)), jnp.sum(mask))


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Returns the edits a word of the references, over all of them; words are what whitespace separates.

    Case and punctuation count: normalise both sides alike first.

    Raises:
      TypeError, ValueError: they are not as many strings, or the references hold no words.

    >>> from jaxseq.train import metrics
    >>> metrics.word_error_rate(["the cat sat", "on the mat"], ["the cat sat", "on a mat"])
    0.16666666666666666
    """
    return _error_rate(str.split, references, hypotheses)


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Returns the edits a character of the references, over all of them; spaces count but for those at the ends.

    Raises:
      TypeError, ValueError: they are not as many strings, or the references hold no characters.
    """
    return _error_rate(lambda text: list(text.strip()), references, hypotheses)


def _checked(predicted, labels, predicted_mask, mask):
    predicted, labels = check.array("predicted", "B, U", predicted), check.array("labels", "B, L", labels)
    predicted, labels = integers("predicted", predicted), integers("labels", labels)
    if predicted.ndim == 0 or labels.ndim == 0 or predicted.shape[:-1] != labels.shape[:-1]:
        raise ValueError(
            "`predicted` [B, U] and `labels` [B, L] must have the same batch axes; "
            f"got {predicted.shape} and {labels.shape}"
        )
    predicted_mask = check.flags("predicted_mask", predicted_mask, predicted.shape, "B, U")
    mask = check.flags("mask", mask, labels.shape, "B, L")
    predicted_mask = jnp.ones(predicted.shape, bool) if predicted_mask is None else predicted_mask
    return predicted, labels, predicted_mask, jnp.ones(labels.shape, bool) if mask is None else mask


@jax.jit
def _distance(predicted, labels, predicted_mask, mask):
    count = jnp.cumsum(predicted_mask, axis=-1)
    count = jnp.concatenate([jnp.zeros_like(count, shape=(*count.shape[:-1], 1)), count], axis=-1)  # j, in real ones
    beyond = predicted.shape[-1] + labels.shape[-1]  # no distance is above it

    def row(before, step):
        label, real = step
        changed = before[..., :-1] + (predicted != label[..., None]).astype(before.dtype)
        here = jnp.minimum(before[..., 1:] + 1, jnp.where(predicted_mask, changed, beyond))
        here = jnp.concatenate([before[..., :1] + 1, jnp.where(predicted_mask, here, beyond)], axis=-1)
        after = count + jax.lax.cummin(here - count, axis=here.ndim - 1)
        return jnp.where(real[..., None], after, before), None

    rows = jnp.moveaxis(labels, -1, 0), jnp.moveaxis(mask, -1, 0)
    return jax.lax.scan(row, count, rows)[0][..., -1]


def _error_rate(split: Callable[[str], list[str]], references: Sequence[str], hypotheses: Sequence[str]) -> float:
    for name, texts in (("references", references), ("hypotheses", hypotheses)):
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"`{name}` must be a list of strings; got {texts!r}")
    if len(references) != len(hypotheses):
        raise ValueError(f"`hypotheses` must be as many as `references`, {len(references)}; got {len(hypotheses)}")
    parts = [[split(text) for text in texts] for texts in (hypotheses, references)]
    number = {part: n for n, part in enumerate({part for texts in parts for text in texts for part in text})}
    if not any(parts[1]):
        raise ValueError("`references` must hold something to count by; all of them are empty")

    def pad(texts):
        """As many rows and columns as the next power of two: texts of other lengths compile nothing anew."""
        rows, columns = (1 << (size - 1).bit_length() for size in (len(texts), max(map(len, texts), default=1)))
        lengths = np.array([len(text) for text in texts] + [0] * (rows - len(texts)))
        mask = np.arange(columns) < lengths[:, None]
        padded = np.zeros(mask.shape, int)
        padded[mask] = [number[part] for text in texts for part in text]
        return jnp.asarray(padded), jnp.asarray(mask)

    (predicted, predicted_mask), (labels, mask) = (pad(texts) for texts in parts)
    distance, length = edits(predicted, labels, predicted_mask=predicted_mask, mask=mask)
    return int(distance) / int(length)
