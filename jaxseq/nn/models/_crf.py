"""A conditional random field on the logits of a tagger, which makes tags depend on each other."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseq import check
from jaxseq.nn._call import Module
from jaxseq.nn._flax import given
from jaxseq.structured import crf
from jaxseq.typing import AnyArray


class CRF(Module):
    """A linear-chain conditional random field (Lafferty et al. 2001): `jaxseq.structured.crf`, batch-major.

    Its scores `[B, T, K]`, with any number of batch axes, are the logits of any model. Train the model and the field
    together, on the mean of -`log_likelihood`. A row whose tags are not allowed makes this mean infinite, without a
    gradient, so leave such rows out. The other functions of `structured.crf` take `head.field()` as their params.

    Args:
      tags: K, the number of tags.
      allowed: which tags may follow each other, for example from `crf.bio(labels)`. None: all.
      param_dtype: the dtype of the params. None: JAX's default float. Sums have the dtype of the scores, or float32
        for 16-bit scores.
      rngs: random keys for the params.

    Attributes:
      params: `crf.Params`, each leaf an `nnx.Param`: `head.params.transition`. They stay finite; transitions that are
        not allowed are masked when the params are used.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> from jaxseq.structured import crf
    >>> rngs = nnx.Rngs(0)
    >>> tagger = nn.SequenceTagger(jaxseq.lstm(8), 4, 3, vocabulary=100, rngs=rngs)
    >>> head = nn.CRF(3, allowed=crf.bio(["O", "B-PER", "I-PER"]), rngs=rngs)
    >>> words, tags = jnp.array([[5, 9, 2], [7, 0, 0]]), jnp.array([[1, 2, 0], [0, -1, -1]])
    >>> mask = tags >= 0
    >>> def loss(tagger, head):
    ...     return -jnp.mean(head.log_likelihood(tagger(words, mask=mask), tags, mask=mask))
    >>> gradients = nnx.grad(loss, argnums=(0, 1))(tagger, head)
    >>> head.decode(tagger(words, mask=mask), mask=mask).shape
    (2, 3)
    """

    def __init__(
        self,
        tags: int,
        *,
        allowed: crf.Allowed | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        own = given(None, param_dtype, rngs)
        params = crf.init(rngs.params(), check.positive_int("tags", tags), own.param_dtype)
        if allowed is not None:
            crf.constrain(params, allowed)
        # Kept as hashable tuples, because arrays would be part of the module's state.
        self._allowed = None if allowed is None else tuple(_tuples(np.asarray(flags).tolist()) for flags in allowed)
        self.params = nnx.data(jax.tree.map(nnx.Param, params))

    def log_likelihood(self, scores: AnyArray, tags: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
        """Returns log p(tags | scores) `[B]`, in nats; 0 for a row without steps.

        If tags are not allowed, or out of range on a real step, it is -inf, with gradient 0.

        Args:
          scores: `[B, T, K]`.
          tags: int `[B, T]`, each in [0, K); tags on padding are ignored.
          mask: bool `[B, T]`, True where a step is real, in any pattern. None: all steps are real.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        scores, mask = self._time_major(scores, mask)
        tags = check.integers("tags", "B, T", tags)
        T, *batch, _ = scores.shape
        if tags.shape != (*batch, T):
            raise ValueError(f"`tags` must be int [B, T] = {(*batch, T)}; got {check.shaped(tags)}")
        return crf.log_likelihood(self.field(), scores, jnp.moveaxis(tags, -1, 0), mask=mask)

    def field(self) -> crf.Params:
        """Returns the params as arrays, with -inf where a tag is not allowed, for `jaxseq.structured.crf`."""
        params = crf.Params(*(param[...] for param in self.params))
        return params if self._allowed is None else crf.constrain(params, crf.Allowed(*map(np.array, self._allowed)))

    def sample(self, key: jax.Array, scores: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
        """Draws tags from p(tags | scores), int `[B, T]`, -1 on padding; arguments as in `log_likelihood`."""
        scores, mask = self._time_major(scores, mask)
        return jnp.moveaxis(crf.sample(key, self.field(), scores, mask=mask), 0, -1)

    def decode(self, scores: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
        """Returns the best tags (Viterbi), int `[B, T]`, -1 on padding; arguments as in `log_likelihood`."""
        scores, mask = self._time_major(scores, mask)
        return jnp.moveaxis(crf.viterbi(self.field(), scores, mask=mask).states, 0, -1)

    def k_best(self, scores: AnyArray, k: int, *, mask: AnyArray | None = None) -> crf.Path:
        """Returns the k best paths, best first: `Path(states, score)`, int `[B, T, k]`, -1 on padding, and `[B, k]`.

        If there are fewer than k, the remaining scores are -inf and their tags -1. Arguments as in `log_likelihood`;
        `k` is an int.
        """
        scores, mask = self._time_major(scores, mask)
        tags, best = crf.k_best(self.field(), scores, k, mask=mask)
        return crf.Path(jnp.moveaxis(tags, 0, -2), best)

    def marginals(self, scores: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
        """Returns each tag's probability at each step, `[B, T, K]`, 0 on padding; arguments as in `log_likelihood`."""
        scores, mask = self._time_major(scores, mask)
        return jnp.moveaxis(crf.marginals(self.field(), scores, mask=mask), 0, -2)

    def _time_major(self, scores, mask):
        scores = check.inputs("scores", "B, T, K", scores, None)
        if scores.ndim < 2:
            raise ValueError(f"`scores` must be [B, T, K], of at least 2 axes; got {scores.dtype} {scores.shape}")
        K = self.params.start.shape[0]
        if scores.shape[-1] != K:
            raise ValueError(f"`scores` must be [B, T, K] with the K = {K} tags of this field; got {scores.shape}")
        mask = check.flags("mask", mask, scores.shape[:-1], "B, T")
        return jnp.moveaxis(scores, -2, 0), None if mask is None else jnp.moveaxis(mask, -1, 0)


def _tuples(nested):
    return tuple(map(_tuples, nested)) if isinstance(nested, list) else nested
