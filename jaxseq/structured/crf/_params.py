"""The params of a conditional random field, and the transitions that are allowed."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq.initializers import scaled_normal
from jaxseq.typing import AnyArray


class Params(NamedTuple):
    """Scores of transitions, and of the first and last tag; -inf forbids one."""

    transition: AnyArray  # [K, K], from row to column
    start: AnyArray  # [K], for the first tag
    end: AnyArray  # [K], for the last tag


class Allowed(NamedTuple):
    """Which tags may follow each other, and which may be first and last; NumPy or JAX arrays."""

    transition: AnyArray  # bool [K, K], from row to column
    start: AnyArray  # bool [K]
    end: AnyArray  # bool [K]


def init(key: jax.Array, K: int, dtype: jax.typing.DTypeLike | None = None) -> Params:
    """Returns `Params` for `K` tags, drawn from N(0, 0.1²).

    Args:
      key: a random key.
      K: the number of tags.
      dtype: a float dtype. None: JAX's default.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    check.random_key(key)
    K = check.positive_int("K", K)
    draw, keys = scaled_normal(0.1), jax.random.split(key, 3)
    return Params(*(draw(key, shape, dtype) for key, shape in zip(keys, ((K, K), (K,), (K,)), strict=True)))


_LETTERS = {"BIO": "BIO", "IOB1": "BIO", "BIOES": "BIOES"}


def bio(labels: Sequence[str], scheme: str = "BIO") -> Allowed:
    """Returns which labels may follow each other, as NumPy arrays; outside the sequence, labels count as "O".

    BIO (IOB2): "B-X" starts a span of type X, and "I-X" continues it after "B-X" or "I-X". IOB1: "I-X" does both, and
    "B-X" only starts a span right after another of the same type. BIOES (BILOU with other letters): after "B-X" and
    "I-X" comes "I-X" or "E-X", which ends the span; a span of one step is "S-X". A label that no other label can
    precede, such as "I-X" without "B-X", is on no path.

    Args:
      labels: the names of the K tags, in order: "O", or a letter and a type such as "B-PER". The type may be left out.
      scheme: "BIO", "IOB1" or "BIOES".

    Raises:
      TypeError, ValueError: `labels` are not distinct names of the scheme, or `scheme` is unknown.

    >>> from jaxseq.structured import crf
    >>> crf.bio(["O", "B-PER", "I-PER"]).transition.astype(int).tolist()
    [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    """
    check.one_of("scheme", scheme, tuple(_LETTERS))
    if not isinstance(labels, Iterable) or isinstance(labels, str) or not all(isinstance(x, str) for x in labels):
        raise TypeError(f"`labels` must be a sequence of names, such as ['O', 'B-PER']; got {check.short(labels)}")
    labels = list(labels)
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"`labels` must be distinct names, at least one; got {labels}")
    for label in labels:
        letter, dash, kind = label.partition("-")
        if letter not in list(_LETTERS[scheme]) or (letter == "O" and dash) or bool(dash) != bool(kind):
            expected = ", ".join(f"'{letter}-PER'" for letter in _LETTERS[scheme] if letter != "O")
            raise ValueError(f"`labels` must be 'O' or like {expected} in the scheme {scheme}; got {label!r}")

    letters, _, kinds = zip(*(label.partition("-") for label in [*labels, "O"]), strict=True)
    letters, kinds = np.array(letters), np.array(kinds)
    open_before = np.isin(letters, ["B", "I"])[:, None]  # the span may continue
    goes_on = open_before & (kinds[:, None] == kinds)
    if scheme == "BIOES":
        continues = np.isin(letters, ["I", "E"])
        allowed = np.where(continues, goes_on, ~open_before)
    else:
        allowed = goes_on | (letters != ("I" if scheme == "BIO" else "B"))
    return Allowed(allowed[:-1, :-1], allowed[-1, :-1], allowed[:-1, -1])


def constrain(params: Params, allowed: Allowed) -> Params:
    """Returns `params` with -inf where a transition, a first or a last tag is not allowed.

    The gradient of forbidden scores is 0. Call this inside the function that is differentiated, so that the trained
    params themselves stay finite.

    Args:
      params: the field's `Params`.
      allowed: an `Allowed` with bool `[K, K]`, `[K]` and `[K]`, for example from `bio`.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from jaxseq.structured import crf
    >>> params = crf.Params(jnp.zeros((3, 3)), jnp.zeros(3), jnp.zeros(3))
    >>> crf.constrain(params, crf.bio(["O", "B", "I"])).start
    Array([  0.,   0., -inf], dtype=float32)
    """
    check_params(params)
    if not isinstance(allowed, Allowed):
        raise TypeError(f"`allowed` must be a crf.Allowed(transition, start, end); got {type(allowed).__name__}")
    limited = []
    for name, values, flags in zip(Params._fields, params, allowed, strict=True):
        axes = "K, K" if name == "transition" else "K"
        values = check.real(f"params.{name}", axes, values)
        flags = check.array(f"allowed.{name}", axes, flags)
        check.flags(f"allowed.{name}", flags, values.shape, axes)
        limited.append(jnp.where(flags, values, -jnp.inf))
    return Params(*limited)


def check_params(params: Params) -> None:
    """Raises unless `params` are `Params`."""
    if not isinstance(params, Params):
        raise TypeError(f"`params` must be crf.Params(transition, start, end); got {type(params).__name__}")
