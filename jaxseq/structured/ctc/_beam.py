"""Prefix beam search (Graves 2012; Hannun et al. 2014): the most probable labels, summed over their paths.

For each prefix l in the beam, with last label e, two sums are kept: over the paths that end with a blank, and over
those that end with e. A frame with probabilities p updates them by

    blank'(l)  = p(blank) (blank(l) + label(l))
    label'(l)  = p(e) label(l)  +  the extension by e of l without e, if that is in the beam too
    label'(lc) = p(c) (label(l) [c ≠ e] + blank(l)) p_LM(c | l)^weight exp(bonus)             for the labels c

and the best of all these form the next beam. Equal prefixes are recognised exactly, by a matrix that tells which prefix
begins which. It is updated from the frame before by comparing only one label of each pair.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check
from jaxseq._top_k import top_k
from jaxseq.masking import choose
from jaxseq.structured._indices import along_last
from jaxseq.structured.ctc._greedy import Decoded
from jaxseq.structured.ctc._inputs import frames
from jaxseq.typing import AnyArray, Carry

LanguageModel = Callable[[Any, jax.Array], tuple[Any, jax.Array]]


class _Beam(NamedTuple):
    """The prefixes of one row, K of them, best first; an empty place has the probability 0."""

    blank: jax.Array  # [K], log of the sum over paths that end with a blank
    label: jax.Array  # [K], log of the sum over paths that end with a label
    labels: jax.Array  # int [K, T], -1 after the end
    lengths: jax.Array  # int [K]
    last: jax.Array  # int [K], the last label; the blank for the empty prefix
    begins: jax.Array  # bool [K, K]: the row's prefix begins, or equals, the column's


def beam_search(
    log_probs: AnyArray,
    size: int,
    *,
    mask: AnyArray | None = None,
    blank: int = 0,
    language_model: LanguageModel | None = None,
    carry: Carry = None,
    start: int | None = None,
    weight: float | AnyArray | None = None,
    bonus: float | AnyArray = 0.0,
    expand: int | None = None,
) -> Decoded:
    """Returns the `size` best labellings, best first: `Decoded(labels [T, B, size], lengths, score [B, size])`.

    The score is the log-probability of the labels, plus `weight` log p_LM(labels), plus `bonus` for each label. The
    probability sums the paths that the beam keeps; it is exact if the beam can hold all prefixes. If there are fewer
    labellings than `size`, the remaining places have the score -inf, the length 0 and no labels.

    Args:
      log_probs: float `[T, B, V]`, with any number of batch axes.
      size: the number of prefixes that are kept.
      mask: bool `[T, B]`, True where a frame is real, in any pattern; False frames are left out.
      blank: the id of the blank among the V symbols.
      language_model: `(carry, tokens int32 [N]) -> (carry, logits [N, V])`, reads one token and scores the next one,
        for N = B × size prefixes at once. The blank's logit takes part in the softmax. None: no language model.
      carry: the initial carry of the language model, a pytree of arrays `[B, ...]`. None: it has no carry.
      start: the first token that the language model reads, int. None: the blank.
      weight: the weight of the language model. None: 1.
      bonus: added for each label; above 0 it favours longer labellings.
      expand: the number of labels, the most probable ones of a frame, with which each prefix is extended. None: all.
        The extensions that are in the beam already get all their paths in either case.

    Raises:
      TypeError, ValueError: an argument does not fit, or the language model returns no matching carry and logits.

    >>> log_probs = jnp.log(jnp.array([[0.6, 0.4], [0.6, 0.4]]))
    >>> found = beam_search(log_probs, 2)
    >>> found.labels.T.tolist(), [f"{p:.2f}" for p in jnp.exp(found.score)]  # greedy would say: no label
    ([[1, -1], [-1, -1]], ['0.64', '0.36'])
    """
    log_probs, mask, blank = frames(log_probs, mask, blank)
    *batch, V = log_probs.shape[1:]
    size = check.positive_int("size", size)
    expand = V if expand is None else min(check.positive_int("expand", expand), V)
    weight = None if weight is None else check.number("weight", weight, "that is finite", math.isfinite)
    bonus = check.number("bonus", bonus, "that is finite", math.isfinite)
    if language_model is None:  # all prefixes then rank labels alike, except the label that they end with
        expand = min(expand, size + 1)
    listen, carry, gains = _listener(language_model, carry, start, weight, bonus, batch, size, log_probs, blank)
    # A language model may use values that change between calls, such as a module's params, so it is traced each time.
    search = _compiled if language_model is None else _search
    return search(log_probs, mask, carry, gains, listen, size, blank, expand)


def _search(log_probs, mask, carry, gains, listen, size, blank, expand):
    T, *batch, V = log_probs.shape
    B = math.prod(batch)
    log_probs = jnp.where(jnp.isnan(jnp.max(log_probs, -1, keepdims=True)), jnp.nan, log_probs)  # for a whole frame
    if expand == V:
        tried = jnp.broadcast_to(jnp.arange(V, dtype=jnp.int32), log_probs.shape)
    else:
        tried = top_k(jnp.where(jnp.arange(V) == blank, -jnp.inf, log_probs), expand)[1]

    def step(state, inputs):
        (log_p, tried), real = inputs
        beam, carry, gains = state
        new, source, added, taken_off = jax.vmap(_advance, (0, 0, 0, 0, None))(beam, gains, log_p, tried, blank)
        new = (new, *listen(carry, gains, new.last, source, added))
        return (new, taken_off) if real is None else (choose(real, new, state), jnp.where(real, taken_off, 0))

    inputs = (log_probs.reshape(T, B, V), tried.reshape(T, B, expand)), None if mask is None else mask.reshape(T, B)
    beam = jax.tree.map(lambda x: jnp.broadcast_to(x, (B, *x.shape)), _empty(size, T, blank, log_probs.dtype))
    (beam, _, _), taken_off = _meshes.scan(step, (beam, carry, gains), inputs)

    score = jnp.logaddexp(beam.blank, beam.label) + jnp.sum(taken_off, 0)[:, None]
    is_some = score > -jnp.inf
    lengths = jnp.where(is_some, beam.lengths, 0)
    labels = jnp.where(is_some[..., None], beam.labels, -1)[..., :T]
    return Decoded(
        jnp.moveaxis(labels, -1, 0).reshape(T, *batch, size), *(x.reshape(*batch, size) for x in (lengths, score))
    )


_compiled = jax.jit(_search, static_argnums=(4, 5, 6, 7))


def _empty(size, T, blank, dtype):
    """Returns the beam before the first frame, which holds the empty prefix only."""
    nothing = jnp.full(size, -jnp.inf, dtype)
    return _Beam(
        blank=nothing.at[0].set(0),
        label=nothing,
        labels=jnp.full((size, max(T, 1)), -1, jnp.int32),
        lengths=jnp.zeros(size, jnp.int32),
        last=jnp.full(size, blank, jnp.int32),
        begins=jnp.eye(size, dtype=bool),
    )


def _advance(beam, gains, log_p, tried, blank):
    """Advances the beam of one row by one frame.

    Returns the next beam, the source of each of its prefixes, whether it was extended by a label, and the scale that
    was subtracted from the logarithms. `gains [K, V]`, or a shape that broadcasts to it, is what each label adds to the
    score of each prefix.
    """
    K, E = len(beam.last), len(tried)
    every = jnp.arange(K)
    gains = jnp.broadcast_to(gains, (K, len(log_p)))
    both = jnp.logaddexp(beam.blank, beam.label)

    def extended(source, label):
        """Returns the log-sum of a prefix with one more label; paths that end with that label need a blank first."""
        paths = jnp.where(label == beam.last[source], beam.blank[source], both[source])
        return paths + log_p[label] + gains[source, label]

    # Find the prefix in the beam of which this prefix is the extension. Only a possible prefix may receive its paths.
    longer = beam.begins & (beam.lengths[None] == beam.lengths[:, None] + 1) & ~jnp.isneginf(both)[None]
    from_shorter = jnp.where(jnp.any(longer, 0), extended(jnp.argmax(longer, 0), beam.last), -jnp.inf)
    stay_blank = both + log_p[blank]
    stay_label = jnp.logaddexp(beam.label + log_p[beam.last], from_shorter)
    is_there = longer.astype(log_p.dtype) @ (beam.last[:, None] == tried[None]).astype(log_p.dtype) > 0
    extend = jnp.where(is_there | (tried == blank)[None], -jnp.inf, extended(every[:, None], tried[None]))

    found = jnp.concatenate([jnp.logaddexp(stay_blank, stay_label), extend.reshape(-1)])
    scores, place = top_k(found, K)
    added = place >= K
    source = jnp.where(added, (place - K) // E, place)
    label = tried[(place - K) % E]
    best = jnp.max(found)  # NaN if any is NaN
    best = jnp.where(jnp.isneginf(best), 0, best)

    labels, lengths = beam.labels[source], beam.lengths[source]
    next_label = labels[:, lengths].T  # of the column's prefix, at the length of the row's prefix
    follows = ~added[:, None] | (next_label == label[:, None])
    ends_here = added[:, None] & (along_last(labels.shape) == lengths[:, None])
    new = _Beam(
        blank=jnp.where(added, -jnp.inf, stay_blank[source]) - best,
        label=jnp.where(added, scores, stay_label[source]) - best,
        labels=jnp.where(ends_here, label[:, None], labels),
        lengths=lengths + added.astype(lengths.dtype),
        last=jnp.where(added, label, beam.last[source]),
        begins=(beam.begins[source][:, source] & follows) | jnp.eye(K, dtype=bool),
    )
    return new, source, added, best


def _no_listener(carry, gains, *_):
    return carry, gains


def _listener(language_model: LanguageModel | None, carry, start, weight, bonus, batch, size, log_probs, blank):
    """Returns the function that runs a language model along with the beam, its carry, and the gains of first labels.

    The function maps carry `[B, K, ...]` and gains `[B, K, V]` to those of the next beam.
    """
    B, V, dtype = math.prod(batch), log_probs.shape[-1], log_probs.dtype
    if language_model is None:
        for name, given in (("carry", carry), ("start", start), ("weight", weight)):
            if given is not None:
                raise ValueError(f"`{name}` is an option of the language model; it needs a `language_model`")
        return _no_listener, None, jnp.full((B, 1, 1), bonus, dtype)
    if not callable(language_model):
        raise TypeError(
            f"`language_model` must be (carry, tokens [N]) -> (carry, logits [N, V]); got {language_model!r}"
        )
    check.function_taking("language_model", language_model, 2)
    start = blank if start is None else check.natural("start", start)
    weight = 1.0 if weight is None else weight
    carry = check.as_jax(carry, "carry")
    for leaf in jax.tree.leaves(carry):
        if jnp.shape(leaf)[: len(batch)] != tuple(batch):
            raise ValueError(
                f"`carry` must have the batch axes {tuple(batch)} of `log_probs` first; got {check.shaped(leaf)}"
            )

    def hear(carry, tokens):
        """Returns the carry after the tokens `[B, K]`, and the gain of each next label."""
        flat = jax.tree.map(lambda x: x.reshape(B * size, *x.shape[2:]), carry)
        after, logits = language_model(flat, tokens.reshape(-1))
        kinds, expected = (jax.tree.map(check.shaped, tree) for tree in (after, flat))
        if kinds != expected:
            raise ValueError(f"`language_model` must return a carry like the one it is given, {expected}; got {kinds}")
        if jnp.shape(logits) != (B * size, V):
            raise ValueError(
                f"`language_model` must return logits [N, V] = {(B * size, V)}; got {check.shaped(logits)}"
            )
        after = jax.tree.map(lambda x: x.reshape(B, size, *x.shape[1:]), after)
        log_p = jax.nn.log_softmax(logits.astype(dtype)).reshape(B, size, V)
        return after, (jnp.where(weight == 0, 0, weight * log_p) + bonus).astype(dtype)

    def listen(carry, gains, last, source, added):
        carry, gains = jax.tree.map(lambda x: jax.vmap(lambda x, source: x[source])(x, source), (carry, gains))
        return choose(added, hear(carry, last), (carry, gains))

    def each(x):
        x = jnp.asarray(x)
        x = x.reshape(B, 1, *x.shape[len(batch) :])
        return jnp.broadcast_to(x, (B, size, *x.shape[2:]))

    return (listen, *hear(jax.tree.map(each, carry), jnp.full((B, size), start, jnp.int32)))
