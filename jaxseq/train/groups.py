"""Groups of parameters, selected by the names of their leaves, each with its own optimizer or frozen.

The path of a leaf is its names and indices joined by "/": "forward/w_x", "layers/0/kernel". In an `nnx.State` it ends
at the variable. A pattern is a shell pattern (`fnmatch`) that must match the whole path; "*" also matches "/". For
example, "*w_h" is every leaf whose name ends in w_h, and "1/*" is all of the second layer of a stack.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxseq import check
from jaxseq.train._params import numbers, patterns
from jaxseq.typing import Params


def paths(params: Params) -> Any:
    """Returns `params` with its path in place of each leaf.

    >>> paths(jaxseq.stack(jaxseq.rnn(2)).init(jax.random.key(0), 3))
    (RnnParams(w_x='0/w_x', w_h='0/w_h', b='0/b'),)
    """

    def name(path, node):
        path = jax.tree_util.keystr(path, simple=True, separator="/")
        return jax.tree.map(lambda _: path, node)

    # variables are recognised by their type, because other trees may have a field named value
    return jax.tree_util.tree_map_with_path(name, params, is_leaf=lambda node: isinstance(node, nnx.Variable))


def by_path(params: Params, rules: Mapping[str, Any], *, default: Any) -> Any:
    """Returns `params` with a label in place of each leaf: that of the first pattern in `rules` that matches its path.

    Args:
      params: any pytree, such as an `nnx.State`; only its structure is used.
      rules: a dict from pattern to label. The first match counts, so put specific patterns first.
      default: the label of leaves that no pattern matches.

    Raises:
      TypeError: `rules` is not a mapping with patterns as keys.
      ValueError: a pattern selects no leaf, because none matches it or earlier patterns select them all.

    >>> params = jaxseq.rnn(2).init(jax.random.key(0), 3)
    >>> by_path(params, {"w_*": "decayed"}, default="plain")
    RnnParams(w_x='decayed', w_h='decayed', b='plain')
    """
    _check_mapping("rules", rules, "labels")
    return _labelled("rules", params, rules, default)


def _labelled(name, params, rules, default):
    """Returns the result of `by_path`; `name` is the argument that errors name."""
    named = paths(params)
    names = jax.tree.leaves(named)
    taken = {name: pattern for pattern in reversed(list(rules)) for name in names if fnmatch.fnmatchcase(name, pattern)}
    # optax also calls a transformation with params that have no leaves
    idle = [pattern for pattern in rules if pattern not in taken.values()] if names else []
    if idle:
        cause = "The first pattern that matches a leaf selects it: put specific patterns before general ones."
        if not any(fnmatch.fnmatchcase(name, idle[0]) for name in names):
            cause = 'A pattern must match the whole path; "*" stands for any part of it, including "/".'
        told = ", ".join(names)
        told = told if len(told) <= 200 else f"{told[:197]}..."
        raise ValueError(
            f"`{name}`: the pattern {check.short(idle[0])} selects no leaf; the paths of `params` are {told}. {cause}"
        )
    return jax.tree.map(lambda path: rules[taken[path]] if path in taken else default, named)


def per_group(
    groups: Mapping[str, optax.GradientTransformation | None], *, default: optax.GradientTransformation | None
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that applies to each group of parameters its own transformation; None freezes a group.

    A frozen leaf gets updates of exactly zero and has no optimizer state. Other transformations in the chain still see
    it: `clip_by_global_norm` counts the gradients of frozen leaves, and a later `add_decayed_weights` would change
    them.

    Args:
      groups: a dict from pattern to transformation; the first match counts, as in `by_path`.
      default: the transformation of all other leaves.

    Raises:
      TypeError: `groups` is not a mapping with patterns as keys, or a value is neither a transformation nor None.
      ValueError: from the optimizer's `init`, if a pattern selects no leaf.

    >>> optimizer = per_group({"*w_h": None, "*b": optax.sgd(0.1)}, default=optax.adamw(1e-3))
    >>> params = jaxseq.rnn(2).init(jax.random.key(0), 3)
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> updates.w_h.tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    _check_mapping("groups", groups, "transformations")
    members = {f"group_{i}": group for i, group in enumerate(groups.values())} | {"default": default}
    for given, member in zip([*groups, "default"], members.values(), strict=True):
        if member is not None and not isinstance(member, optax.GradientTransformation):
            raise TypeError(
                f"`groups` and `default`: the group {given!r} must be an optax.GradientTransformation, or None to "
                f"freeze it; got {check.short(member)}"
            )
    rules = dict(zip(groups, members, strict=False))
    return optax.partition(
        {name: optax.set_to_zero() if member is None else member for name, member in members.items()},
        lambda params: _labelled("groups", params, rules, "default"),
    )


def matrices(params: Params, where: str | Sequence[str] | None, name: str = "where") -> Any:
    """Returns `params` with a bool for each leaf: whether it is one of the matrices that `where` selects.

    Args:
      params: a pytree of arrays.
      where: a pattern, or a list of them. None: every floating leaf of two axes.
      name: the argument that errors name.

    Raises:
      TypeError: `where` is neither a pattern nor a list of them.
      ValueError: a pattern matches no leaf, or a leaf that is not a floating matrix.
    """
    numbers("params", params)
    eligible = jax.tree.map(
        lambda leaf: jnp.ndim(leaf) == 2 and jnp.issubdtype(jnp.result_type(leaf), jnp.floating), params
    )
    if where is None:
        return eligible
    chosen = _labelled(name, params, dict.fromkeys(patterns(name, where), True), False)
    for path, leaf, wanted, fits in zip(*map(jax.tree.leaves, (paths(params), params, chosen, eligible)), strict=True):
        if wanted and not fits:
            raise ValueError(
                f"`{name}` must select floating matrices [in, out] of `params`; {path} is {check.shaped(leaf)}. "
                "Give patterns that do not match it."
            )
    return chosen


def _check_mapping(name, value, labels):
    if not isinstance(value, Mapping) or not all(isinstance(pattern, str) for pattern in value):
        raise TypeError(f'`{name}` must map patterns such as "*w_h" to {labels}; got {check.short(value)}')
