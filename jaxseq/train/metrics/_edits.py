"""Edit distance (Levenshtein 1966), and error rates computed from it.

    D[i, j] = min(D[i-1, j] + 1, D[i-1, j-1] + [label_i ≠ predicted_j], D[i, j-1] + 1),   D[i, 0] = i,   D[0, j] = j

One step of a scan computes one row. The row's own recurrence over j is a running minimum: with r the minimum of the
first two terms, D[i, j] = min over k ≤ j of r[k] + (j - k). A padded label leaves the row unchanged. A padded
prediction costs nothing and copies the column before; j then counts real predictions only.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import _meshes, check
from jaxseq.train._elementwise import integers, strings
from jaxseq.typing import AnyArray


class Edits(NamedTuple):
    """The number of edits from the labels to the predictions, and the number of labels."""

    distance: jax.Array
    length: jax.Array

    @property
    def value(self) -> jax.Array:
        """Edits per label over all sequences, such as the word error rate; NaN or inf if there are no labels."""
        return jnp.asarray(self.distance) / self.length


def edit_distance(
    predicted: AnyArray,
    labels: AnyArray,
    *,
    predicted_mask: AnyArray | None = None,
    mask: AnyArray | None = None,
) -> jax.Array:
    """Returns the least number of insertions, deletions and substitutions from labels to predictions, int `[B]`.

    Args:
      predicted: int `[B, U]`, with any number of batch axes.
      labels: int `[B, L]`.
      predicted_mask: bool `[B, U]`, True where a prediction is real, in any pattern.
      mask: bool `[B, L]`, True where a label is real, in any pattern.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.

    >>> from jaxseq.train import metrics
    >>> metrics.edit_distance(jnp.array([[1, 2, 4]]), jnp.array([[1, 3, 2, 4]])).item()
    1
    """
    return _distance(*_checked(predicted, labels, predicted_mask, mask))


def edits(
    predicted: AnyArray,
    labels: AnyArray,
    *,
    predicted_mask: AnyArray | None = None,
    mask: AnyArray | None = None,
) -> Edits:
    """Returns the edits of a batch, whose value is the error rate per label.

    Args:
      predicted: int `[B, U]`, with any number of batch axes.
      labels: int `[B, L]`.
      predicted_mask: bool `[B, U]`, True where a prediction is real, in any pattern.
      mask: bool `[B, L]`, True where a label is real, in any pattern.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.
    """
    predicted, labels, predicted_mask, mask = _checked(predicted, labels, predicted_mask, mask)
    return Edits(jnp.sum(_distance(predicted, labels, predicted_mask, mask)), jnp.sum(mask))


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Returns the word error rate: the edits per word of the references, over all pairs. Whitespace separates words.

    Case and punctuation count, so normalise both sides in the same way first.

    Args:
      references: the true texts, strings.
      hypotheses: the predicted texts, as many strings.

    Raises:
      TypeError, ValueError: the numbers of strings differ, or the references hold no words.

    >>> from jaxseq.train import metrics
    >>> metrics.word_error_rate(["the cat sat", "on the mat"], ["the cat sat", "on a mat"])
    0.16666666666666666
    """
    return _error_rate(str.split, references, hypotheses)


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Returns the character error rate: the edits per character of the references, over all pairs.

    Spaces count, except those at the ends of a text.

    Args:
      references: the true texts, strings.
      hypotheses: the predicted texts, as many strings.

    Raises:
      TypeError, ValueError: the numbers of strings differ, or the references hold no characters.
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
    count = jnp.concatenate([jnp.zeros_like(count, shape=(*count.shape[:-1], 1)), count], axis=-1)  # j of real ones
    beyond = predicted.shape[-1] + labels.shape[-1]  # no distance is greater

    def row(before, step):
        label, real = step
        changed = before[..., :-1] + (predicted != label[..., None]).astype(before.dtype)
        here = jnp.minimum(before[..., 1:] + 1, jnp.where(predicted_mask, changed, beyond))
        here = jnp.concatenate([before[..., :1] + 1, jnp.where(predicted_mask, here, beyond)], axis=-1)
        after = count + jax.lax.cummin(here - count, axis=here.ndim - 1)
        return jnp.where(real[..., None], after, before), None

    rows = jnp.moveaxis(labels, -1, 0), jnp.moveaxis(mask, -1, 0)
    return _meshes.scan(row, count, rows)[0][..., -1]


def _error_rate(split: Callable[[str], list[str]], references: Sequence[str], hypotheses: Sequence[str]) -> float:
    for name, texts in (("references", references), ("hypotheses", hypotheses)):
        strings(name, texts, "['the cat sat']")
    if len(references) != len(hypotheses):
        raise ValueError(f"`hypotheses` must be as many as `references`, {len(references)}; got {len(hypotheses)}")
    parts = [[split(text) for text in texts] for texts in (hypotheses, references)]
    number = {part: n for n, part in enumerate({part for texts in parts for text in texts for part in text})}
    if not any(parts[1]):
        raise ValueError("`references` must hold at least one word or character; all of them are empty")

    def pad(texts):
        """Pads rows and columns to the next power of two, so that texts of other lengths rarely need a compilation."""
        rows, columns = (1 << (size - 1).bit_length() for size in (len(texts), max(map(len, texts), default=1)))
        lengths = np.array([len(text) for text in texts] + [0] * (rows - len(texts)))
        mask = np.arange(columns) < lengths[:, None]
        padded = np.zeros(mask.shape, int)
        padded[mask] = [number[part] for text in texts for part in text]
        return jnp.asarray(padded), jnp.asarray(mask)

    (predicted, predicted_mask), (labels, mask) = (pad(texts) for texts in parts)
    distance, length = edits(predicted, labels, predicted_mask=predicted_mask, mask=mask)
    return int(distance) / int(length)
