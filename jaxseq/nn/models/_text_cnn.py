"""Text classification by convolution (Kim 2014): the strongest match of each filter, anywhere in a text."""

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


class TextCNN(Module):
    """Embedding (for ids), convolutions of several widths, their maximum over time, linear layer: a row of logits.

    A filter of width w is held against all w steps in a row that begin in the text, zeros after its end, so that a text
    of one step has an answer too. What a mask leaves out is as if it were not there, wherever it stands.

    Args:
      in_features: D, of the inputs or of their embeddings.
      classes: K.
      widths: how many steps filters see.
      filters: how many of each width.
      dropout: the rate of dropout before the linear layer, drawn where a key is given.
      vocabulary: the number of ids; None: inputs are floats.
      dtype: the dtype of the computation, to which params and inputs are cast; None: that of the params.
      param_dtype: the dtype of the params; None: JAX's default float.
      rngs: draws the params.

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
            raise ValueError("`widths` must hold one width at least; got none")
        self.in_features, self.dropout = D, check.rate("dropout", dropout)
        own = given(dtype, param_dtype, rngs)
        self.dtype = own.dtype
        self.embedding = optional_embedding(vocabulary, D, own)
        self.convs = nnx.List([nnx.Conv(D, filters, (w,), padding=[(0, w - 1)], **own._asdict()) for w in widths])
        self.head = linear(len(widths) * filters, check.positive_int("classes", classes), own)

    def __call__(self, xs: jax.Array, *, mask: jax.Array | None = None, key: jax.Array | None = None) -> jax.Array:
        """Returns logits `[B, K]`; those of a row without a real step are the head's bias.

        Args:
          xs: float `[B, T, D]`, or ids `[B, T]`, int, which on padding may be anything.
          mask: bool `[B, T]`, True on real steps, of any pattern.
          key: a key for dropout; None: none.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        check.random_key(key)
        xs = floats("xs", "B, T, D", inputs(self.embedding, None, xs, mask), self.head.kernel[...], self.dtype)
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
