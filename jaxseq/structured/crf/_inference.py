"""Inference in a linear-chain conditional random field; see `jaxseq.structured.crf`.

All functions take the field's `Params`; the scores `[T, B, K]` of its tags, with any number of batch axes; and a mask,
bool `[T, B]`, True where a step is real. Steps where the mask is False are left out: the real steps around them are
neighbours. Functions compute in the dtype of the scores, or in float32 for 16-bit scores.

With `parallel=True` blocks of time run in parallel, see `jaxseq.structured.semiring`; the results are the same.

All functions raise `ValueError` or `TypeError` if an argument does not fit the others.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from jaxseq import check, masking
from jaxseq._meshes import rows
from jaxseq._promote import widen
from jaxseq.structured import _chain, _partition, semiring
from jaxseq.structured import _check as check_scores
from jaxseq.structured._chain import Chain, Path
from jaxseq.structured._indices import along_last
from jaxseq.structured._steps import step_before
from jaxseq.structured.crf._params import Params, check_params
from jaxseq.typing import AnyArray


def log_likelihood(
    params: Params,
    scores: AnyArray,
    tags: AnyArray,
    *,
    mask: AnyArray | None = None,
    parallel: bool | NamedSharding = False,
) -> jax.Array:
    """Returns log p(tags | scores) `[B]`, in nats; 0 for a row without steps.

    For tags that are impossible (-inf on their path, or a tag out of range on a real step) it is -inf, with gradient 0.

    Args:
      params: the field's `Params`.
      scores: `[T, B, K]`.
      tags: int `[T, B]`, each in [0, K); tags on False steps are ignored.
      mask: bool `[T, B]`, True where a step is real.
      parallel: whether blocks of time run in parallel.

    >>> params = Params(jnp.zeros((2, 2)), jnp.zeros(2), jnp.zeros(2))
    >>> print(f"{jnp.exp(log_likelihood(params, jnp.zeros((3, 2)), jnp.array([0, 1, 1]))):.3f}")
    0.125
    """
    chain, mask = enter(params, scores, mask, parallel)
    tags = _tags(tags, chain.scores)
    # Subtracting one number from all scores of a step changes nothing, and numbers near 0 have smaller rounding errors.
    chain = chain._replace(scores=semiring.scaled(chain.scores)[0])
    along = _score(chain, tags, mask)
    total = _partition.log_partition(chain, mask, parallel=parallel)
    return jnp.where(jnp.isneginf(along) & ~jnp.isnan(total), -jnp.inf, along - total)


def log_partition(
    params: Params, scores: AnyArray, *, mask: AnyArray | None = None, parallel: bool | NamedSharding = False
) -> jax.Array:
    """Returns log Z `[B]`, the log-sum of the scores of all paths; 0 for a row without steps, -inf if none is possible.

    Its gradients are the marginals. Arguments as for `log_likelihood`.
    """
    chain, mask = enter(params, scores, mask, parallel)
    return _partition.log_partition(chain, mask, parallel=parallel)


def score(params: Params, scores: AnyArray, tags: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns the score of the path `tags`, `[B]`, which is its log-likelihood plus log Z; 0 for a row without steps.

    If a tag is out of range on a real step, it is -inf, with gradient 0. Arguments as for `log_likelihood`.
    """
    chain, mask = enter(params, scores, mask)
    return _score(chain, _tags(tags, chain.scores), mask)


def marginals(
    params: Params, scores: AnyArray, *, mask: AnyArray | None = None, parallel: bool | NamedSharding = False
) -> jax.Array:
    """Returns p(y_t | scores) `[T, B, K]`; 0 on False steps, and in rows where no path is possible.

    Arguments as for `log_likelihood`.
    """
    chain, mask = enter(params, scores, mask, parallel)
    return jnp.exp(_chain.log_marginals(*_chain.both_ways(chain, mask, parallel=parallel), mask))


def pairs(
    params: Params, scores: AnyArray, *, mask: AnyArray | None = None, parallel: bool | NamedSharding = False
) -> jax.Array:
    """Returns p(y_{t-1}, y_t | scores) `[T-1, B, K, K]`, at index t-1; 0 on False steps and a row's first real step.

    y_{t-1} is the tag of the last real step before. Arguments as for `log_likelihood`.
    """
    chain, mask = enter(params, scores, mask, parallel)
    return jnp.exp(_chain.log_pairs(chain, *_chain.both_ways(chain, mask, parallel=parallel), mask))


def viterbi(
    params: Params, scores: AnyArray, *, mask: AnyArray | None = None, parallel: bool | NamedSharding = False
) -> Path:
    """Returns the best path as `Path(states, score)`: int `[T, B]`, -1 on False steps, and `[B]`.

    Ties go to the lower tag, compared from the last step back. A row without steps has the score 0. If no path is
    possible, the score is -inf and the tags are -1. Arguments as for `log_likelihood`.
    """
    chain, mask = enter(params, scores, mask, parallel)
    return _chain.best(chain, mask, parallel=parallel)


def sample(key: jax.Array, params: Params, scores: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
    """Draws tags from p(y | scores), int `[T, B]`; -1 on False steps, and in rows where no path is possible.

    `key` is a random key; for several draws, use `jax.vmap` over keys. Other arguments as for `log_likelihood`.
    """
    check.given_key(key)
    chain, mask = enter(params, scores, mask)
    return _chain.draw(key, chain, mask)


def enter(params: Params, scores: Any, mask: Any, parallel: Any = False) -> tuple[Chain, jax.Array | None]:
    """Returns the field and its scores as a chain, and the mask, after checking all arguments."""
    check_params(params)
    scores = check_scores.scores("scores", scores)
    check_scores.same_states("scores", scores, **{f"params.{name}": x for name, x in params._asdict().items()})
    mask = check_scores.real_steps(mask, scores, parallel)
    scores = masking.keep(mask, scores.astype(widen(scores.dtype)))
    chain = Chain(
        initial=check_scores.states("params.start", params.start, scores),
        transition=check_scores.states("params.transition", params.transition, scores, "K, K"),
        scores=scores,
        final=check_scores.states("params.end", params.end, scores),
    )
    return chain, mask


def _score(chain, tags, mask):
    K = chain.scores.shape[-1]
    real = jnp.ones(tags.shape, bool) if mask is None else mask
    known = (tags >= 0) & (tags <= jnp.asarray(min(K - 1, jnp.iinfo(tags.dtype).max), tags.dtype))
    tags = jnp.where(real & known, tags, 0).astype(jnp.int32)
    before = step_before(real)
    tags_before = jnp.take_along_axis(tags, jnp.maximum(before, 0), 0)
    is_last = step_before(real[::-1])[::-1] < 0
    parts = (
        (real, jnp.sum(jnp.where(tags[..., None] == along_last(chain.scores.shape), chain.scores, 0), -1)),
        (real & (before < 0), rows(chain.initial, tags)),
        (real & (before >= 0), rows(chain.transition, tags_before, tags)),
        (real & is_last, rows(chain.final, tags)),
    )
    total = jnp.sum(sum(jnp.where(here, part, 0) for here, part in parts), 0)
    return jnp.where(jnp.all(known | ~real, 0), total, -jnp.inf)


def _tags(tags, scores):
    tags = check.integers("tags", "T, B", tags)
    expected = scores.shape[:-1]
    if tags.shape != expected:
        hint = " Did you pass batch-major?" if tags.shape[:2] == expected[1::-1] else ""
        raise ValueError(
            f"`tags` must be int [T, B] = {expected}, the steps of `scores`; got {check.shaped(tags)}.{hint}"
        )
    return tags
