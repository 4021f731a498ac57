"""Text classification by convolution (Kim 2014): each filter's largest response over the text."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq._promote import expand_rank
from jaxseq.masking import keep
from jaxseq.nn._call import Module
from jaxseq.nn._compact import compact, gather
from jaxseq.nn._flax import dropout, floats, given, linear, optional_embedding
from jaxseq.nn._ids import inputs
from jaxseq.nn.models._pooling import max_pool
from jaxseq.typing import AnyArray


class TextCNN(Module):
    """An embedding (for ids), convolutions of several widths, their maximum over time, and a linear layer: logits.

    A filter of width w is applied at every real step, to that step and the next w - 1, with zeros after the end. A text
    of one step therefore has a result too. Masked steps are left out, in any place.

    Args:
      in_features: D, the features of the inputs, or of the embeddings of ids.
      classes: K, the number of classes.
      widths: the widths of the filters, in steps.
      filters: the number of filters of each width.
      dropout: the dropout rate before the linear layer; used only with a key.
      vocabulary: the number of ids. None: inputs are floats, not ids.
      dtype: the dtype of the computation; params and inputs are cast to it. None: that of the params.
      param_dtype: the dtype of the params. None: JAX's default float.
      rngs: random keys for the params.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> model = nn.TextCNN(16, 2, vocabulary=100, filters=8, rngs=nnx.Rngs(0))
    >>> model(jnp.array([[5, 9, 2], [7, 0, 0]]), mask=jnp.array([[True, True, True], [True, False, False]])).shape
    (2, 2)
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        widths: Sequence[int] = (3, 4, 5),
        filters: int = 100,
        dropout: float = 0.5,
        vocabulary: int | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        D, filters = check.positive_int("in_features", in_features), check.positive_int("filters", filters)
        widths = tuple(check.positive_int("widths", width) for width in check.sequence("widths", widths))
        if not widths:
            raise ValueError("`widths` must hold at least one width; got none")
        self.in_features, self.dropout = D, check.rate("dropout", dropout)
        own = given(dtype, param_dtype, rngs)
        self.dtype = own.dtype
        self.embedding = optional_embedding(vocabulary, D, own)
        self.convs = nnx.List([nnx.Conv(D, filters, (w,), padding=[(0, w - 1)], **own._asdict()) for w in widths])
        self.head = linear(len(widths) * filters, check.positive_int("classes", classes), own)

    def __call__(self, xs: AnyArray, *, mask: AnyArray | None = None, key: jax.Array | None = None) -> jax.Array:
        """Returns logits `[B, K]`; a row without real steps gets the head's bias.

        Args:
          xs: float `[B, T, D]`, or ids `[B, T]`, int; ids on padding are ignored.
          mask: bool `[B, T]`, True where a step is real, in any pattern.
          key: a random key for dropout. None: no dropout.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        check.random_key(key)
        xs = inputs(self.embedding, None, "xs", "B, T", xs, mask)
        xs = floats("xs", "B, T, D", xs, self.head.kernel[...], self.dtype)
        check.features("xs", xs, self.in_features)
        mask = check.flags("mask", mask, xs.shape[:-1], "B, T")
        if mask is not None:
            order, _, lengths = compact(mask)
            xs, mask = (
                gather(keep(mask, xs), order),
                expand_rank(jnp.arange(xs.shape[-2], dtype=lengths.dtype), mask) < lengths[..., None],
            )
        found = [max_pool(jax.nn.relu(conv(xs)), mask) for conv in self.convs]
        return self.head(dropout(key, self.dropout, jnp.concatenate(found, axis=-1)))
