"""Prefix beam search (Graves 2012; Hannun et al. 2014): the most probable labels, each summed over its paths.

Of every prefix l in the beam, with last label e, two sums are kept: of the paths that end with a blank, and of those
that end with e. A frame with the probabilities p makes of them

    blank'(l)  = p(blank) (blank(l) + label(l))
    label'(l)  = p(e) label(l)  +  what comes from l without e, where that is in the beam too
    label'(lc) = p(c) (label(l) [c ≠ e] + blank(l)) p_LM(c | l)^weight exp(bonus)             for the labels c

and the best of all these are the next beam. Prefixes are told apart exactly: beside them goes a matrix that says which
one begins which. From that of the frame before it follows without a look at more than one label of each pair.
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
from jaxseq.typing import Carry

LanguageModel = Callable[[Any, jax.Array], tuple[Any, jax.Array]]


class _Beam(NamedTuple):
    """The prefixes of one row, best first, K of them; one that is not has the probability 0."""

    blank: jax.Array  # [K], logarithm of the sum of the paths that end with a blank
    label: jax.Array  # [K], and of those that end with a label
    labels: jax.Array  # int [K, T], -1 after the end
    lengths: jax.Array  # int [K]
    last: jax.Array  # int [K], the last label; of the empty prefix the blank
    begins: jax.Array  # bool [K, K]: the row's prefix begins the column's, or is the same


def beam_search(
    log_probs: jax.Array,
    size: int,
    *,
    mask: jax.Array | None = None,
    blank: int = 0,
    language_model: LanguageModel | None = None,
    carry: Carry = None,
    start: int | None = None,
    weight: float | jax.Array | None = None,
    bonus: float | jax.Array = 0.0,
    expand: int | None = None,
) -> Decoded:
    """Returns the `size` best labellings, best first: `Decoded(labels [T, B, size], lengths, score [B, size])`.

    The score is the log-probability of the labels, as far as the beam holds their paths, which is all of it where the
    beam is as large as the number of prefixes, plus `weight` log p_LM(labels) and `bonus` for each label. A place that
    is left over, as there are fewer labellings, has the score -inf, the length 0, and no labels.

    Args:
      log_probs: float `[T, B, V]`, any number of batch axes, also none.
      size: how many prefixes are kept.
      mask: bool `[T, B]`, True on real frames, of any pattern; the others are as if they were not there.
      blank: the symbol of V that is no label.
      language_model: `(carry, tokens int32 [N]) -> (carry, logits [N, V])`, what may follow after one more token, for
        N = B × size prefixes at once. What it says of the blank takes its part in the softmax. None: no language model.
      carry: the language model's, to start from: a pytree of arrays `[B, ...]`; None: it has none.
      start: the token it is given first, int; None: the blank.
      weight: what the language model counts; None: 1.
      bonus: what a label counts, for longer labellings where it is above 0.
      expand: how many labels, the most probable ones of a frame, are tried after every prefix; None: all of them.
        A prefix that is in the beam is followed by all its paths in either case.

    Raises:
      TypeError, ValueError: an argument does not fit, or the language model does not do as it should.

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
    if language_model is None:  # after each prefix the better labels are the same, but for the one that it ends with
        expand = min(expand, size + 1)
    listen, carry, gains = _listener(language_model, carry, start, weight, bonus, batch, size, log_probs, blank)
    # A language model may read what changes between calls, such as a module's params: a program kept for it would not.
    search = _compiled if language_model is None else _search
    return search(log_probs, mask, carry, gains, listen, size, blank, expand)


def _search(log_probs, mask, carry, gains, listen, size, blank, expand):
    T, *batch, V = log_probs.shape
    B = math.prod(batch)
    log_probs = jnp.where(jnp.isnan(jnp.max(log_probs, -1, keepdims=True)), jnp.nan, log_probs)  # of all of a frame
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
    """The beam before the first frame: the empty prefix alone."""
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
    """One frame of one row.

    Returns the next beam, where each of its prefixes comes from, whether with one more label, and what was taken off
    the logarithms. `gains [K, V]`, or what broadcasts to it, is what each prefix adds to the score of each label.
    """
    K, E = len(beam.last), len(tried)
    every = jnp.arange(K)
    gains = jnp.broadcast_to(gains, (K, len(log_p)))
    both = jnp.logaddexp(beam.blank, beam.label)

    def extended(source, label):
        """The logarithm of a prefix with one more label: one that it ends with counts only after a blank."""
        paths = jnp.where(label == beam.last[source], beam.blank[source], both[source])
        return paths + log_p[label] + gains[source, label]

    # Of which prefix in the beam, with one more label, is this one? Only one that is possible may take its paths.
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
    best = jnp.max(found)  # NaN where one is
    best = jnp.where(jnp.isneginf(best), 0, best)

    labels, lengths = beam.labels[source], beam.lengths[source]
    next_label = labels[:, lengths].T  # of the column's, after as many as the row's prefix has
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
    """The function that keeps a language model beside the beam, its carry, and what it adds to the first labels.

    Of carry `[B, K, ...]` and gains `[B, K, V]` it makes those of the next beam.
    """
    B, V, dtype = math.prod(batch), log_probs.shape[-1], log_probs.dtype
    if language_model is None:
        for name, given in (("carry", carry), ("start", start), ("weight", weight)):
            if given is not None:
                raise ValueError(f"`{name}` is the language model's; without a `language_model` it has no meaning")
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
                f"`carry` must lead with the batch {tuple(batch)} of `log_probs`; got {check.shaped(leaf)}"
            )

    def hear(carry, tokens):
        """The carry after the tokens `[B, K]`, and what each next label adds."""
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
