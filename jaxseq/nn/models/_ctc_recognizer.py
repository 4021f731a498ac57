"""Recognition of labels in frames without an alignment: speech, handwriting (Graves et al. 2006)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq._promote import widen
from jaxseq.nn._layer import Layer
from jaxseq.nn.models._tagger import SequenceTagger
from jaxseq.structured import ctc
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Kernel


class CTCRecognizer(SequenceTagger):
    """A `SequenceTagger` of frames that returns log-probabilities, with the loss and decoders of `structured.ctc`.

    Args:
      cell: a Cell, a Composite or an `nn.Layer`. For dropout, pass `jaxseq.dropout(cell, inputs=0.2)`.
      in_features: D, the features of the inputs, or of the embeddings of ids.
      labels: V, the number of symbols, including the blank.
      blank: the id of the blank among the V symbols.
      vocabulary: the number of ids. None: inputs are floats, not ids.
      kernel, dtype, param_dtype: as in `nn.Recurrent`.
      rngs: random keys for the params.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> model = nn.CTCRecognizer(jaxseq.bidirectional(jaxseq.lstm(8)), 4, 30, rngs=nnx.Rngs(0))
    >>> labels, label_mask = jnp.array([[5, 9, 2], [7, 7, 0]]), jnp.array([[1, 1, 1], [1, 1, 0]], bool)
    >>> model.loss(jnp.ones([2, 50, 4]), labels, label_mask=label_mask).shape
    (2,)
    """

    def __init__(
        self,
        cell: Cell | Composite | Layer,
        in_features: int,
        labels: int,
        *,
        blank: int = 0,
        vocabulary: int | None = None,
        kernel: Kernel | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        V, self.blank = check.positive_int("labels", labels), check.natural("blank", blank)
        if self.blank >= V:
            raise ValueError(f"`blank` must be one of the V = {V} `labels`, 0 to {V - 1}; got {blank}")
        options = {"vocabulary": vocabulary, "kernel": kernel, "dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        super().__init__(cell, in_features, V, **options)

    def __call__(
        self,
        xs: AnyArray,
        carry: Carry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns log-probabilities `[B, T, V]`, of float32 at least; on padding they are those of the head's bias.

        Args:
          xs: float `[B, T, D]`, or ids `[B, T]`, int; ids on padding are ignored.
          carry, mask, reset, key: as in `nn.Recurrent.unroll`.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        return super().__call__(xs, carry, mask=mask, reset=reset, key=key)

    def _result(self, ys):
        logits = self.head(ys)
        return jax.nn.log_softmax(logits.astype(widen(logits.dtype)))

    def loss(
        self,
        xs: AnyArray,
        labels: AnyArray,
        *,
        mask: AnyArray | None = None,
        label_mask: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns -log p(labels | xs) `[B]`, in nats; inf, with gradient 0, if there are too few frames for the labels.

        Args:
          xs, mask, key: as for a call.
          labels: int `[B, L]`.
          label_mask: bool `[B, L]`, True where a label is real; other labels are ignored.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        log_probs = self(xs, mask=mask, key=key)
        labels = check.integers("labels", "B, L", labels)
        batch = log_probs.shape[:-2]
        if labels.shape[:-1] != batch:
            raise ValueError(f"`labels` must be int [B, L], with the batch {batch} of `xs`; got {check.shaped(labels)}")
        label_mask = check.flags("label_mask", label_mask, labels.shape, "B, L")
        return ctc.loss(
            jnp.moveaxis(log_probs, -2, 0),
            jnp.moveaxis(labels, -1, 0),
            mask=_time_major(mask),
            label_mask=_time_major(label_mask),
            blank=self.blank,
        )

    def greedy(self, xs: AnyArray, *, mask: AnyArray | None = None) -> ctc.Decoded:
        """Returns the labels of the most probable path, `Decoded(labels [B, T], lengths [B], score [B])`.

        Arguments as for a call.
        """
        found = ctc.greedy(jnp.moveaxis(self(xs, mask=mask), -2, 0), mask=_time_major(mask), blank=self.blank)
        return found._replace(labels=jnp.moveaxis(found.labels, 0, -1))

    def beam_search(
        self,
        xs: AnyArray,
        size: int,
        *,
        mask: AnyArray | None = None,
        language_model: Any = None,
        carry: Carry = None,
        start: int | None = None,
        weight: float | AnyArray | None = None,
        bonus: float | AnyArray = 0.0,
        expand: int | None = None,
    ) -> ctc.Decoded:
        """Returns the best labellings, best first: `Decoded(labels [B, T, size], lengths [B, size], score [B, size])`.

        Args:
          xs, mask: as for a call.
          size, language_model, carry, start, weight, bonus, expand: as in `structured.ctc.beam_search`; `carry` is that
            of the language model.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        found = ctc.beam_search(
            jnp.moveaxis(self(xs, mask=mask), -2, 0),
            size,
            mask=_time_major(mask),
            blank=self.blank,
            language_model=language_model,
            carry=carry,
            start=start,
            weight=weight,
            bonus=bonus,
            expand=expand,
        )
        return found._replace(labels=jnp.moveaxis(found.labels, 0, -2))


def _time_major(flags):
    return None if flags is None else jnp.moveaxis(flags, -1, 0)
