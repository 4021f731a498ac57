"""Parameters by the names of their leaves: groups that train apart, each at its own rate or not at all.

A leaf's path is its names joined by "/", with the numbers of tuples and lists: "forward/w_x", "layers/0/kernel". In an
`nnx.State` it ends at the variable. A pattern is a shell pattern (`fnmatch`) on the whole path, in which "*" also
stands for "/": "*w_h" is every leaf whose name ends in w_h, "1/*" all of the second layer of a stack.
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

    # variables are told by type, as other trees may have a field named value
    return jax.tree_util.tree_map_with_path(name, params, is_leaf=lambda node: isinstance(node, nnx.Variable))


def by_path(params: Params, rules: Mapping[str, Any], *, default: Any) -> Any:
    """Returns `params` with a label in place of each leaf: that of the first pattern in `rules` to match its path.

    Args:
      params: any pytree, an `nnx.State` too; only its structure is used.
      rules: pattern to label, the most special first.
      default: the label of the leaves that no pattern matches.

    Raises:
      TypeError: `rules` is not a mapping of patterns.
      ValueError: a pattern takes no leaf, because none matches it or others take them all before it.

    >>> params = jaxseq.rnn(2).init(jax.random.key(0), 3)
    >>> by_path(params, {"w_*": "decayed"}, default="plain")
    RnnParams(w_x='decayed', w_h='decayed', b='plain')
    """
    _check_mapping("rules", rules, "labels")
    return _labelled("rules", params, rules, default)


def _labelled(name, params, rules, default):
    """What `by_path` returns; `name` is what errors call the patterns."""
    named = paths(params)
    names = jax.tree.leaves(named)
    taken = {name: pattern for pattern in reversed(list(rules)) for name in names if fnmatch.fnmatchcase(name, pattern)}
    # optax probes a transformation with params that have no leaves
    idle = [pattern for pattern in rules if pattern not in taken.values()] if names else []
    if idle:
        cause = "The first pattern to match takes a leaf: put the special before the general."
        if not any(fnmatch.fnmatchcase(name, idle[0]) for name in names):
            cause = 'A pattern is held against the whole path; "*" stands for any part of it, "/" too.'
        told = ", ".join(names)
        told = told if len(told) <= 200 else f"{told[:197]}..."
        raise ValueError(
            f"`{name}`: the pattern {check.short(idle[0])} takes no leaf; the paths of `params` are {told}. {cause}"
        )
    return jax.tree.map(lambda path: rules[taken[path]] if path in taken else default, named)


def per_group(
    groups: Mapping[str, optax.GradientTransformation | None], *, default: optax.GradientTransformation | None
) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser that treats each group of parameters by its own transformation; None freezes.

    A frozen leaf gets updates of exactly zero and has no optimiser state. What stands outside in a chain sees it still:
    `clip_by_global_norm` counts the gradients of frozen leaves, and `add_decayed_weights` after this would move them.

    Args:
      groups: pattern to transformation, the first to match a leaf's path takes it, as in `by_path`.
      default: the transformation of all other leaves.

    Raises:
      TypeError: `groups` is not a mapping of patterns; something is neither a transformation nor None.
      ValueError: from `init`, where a pattern takes no leaf.

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
                f"`groups` and `default`: the group {given!r} must be an optax.GradientTransformation or None, which "
                f"freezes; got {check.short(member)}"
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
      where: a pattern or several; None: every floating leaf of two axes.
      name: what errors call `where`.

    Raises:
      TypeError: `where` is not a pattern or several.
      ValueError: a pattern matches no leaf, or one that is not a floating matrix.
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
                "Give patterns that leave it out."
            )
    return chosen


def _check_mapping(name, value, labels):
    if not isinstance(value, Mapping) or not all(isinstance(pattern, str) for pattern in value):
        raise TypeError(f'`{name}` must map patterns such as "*w_h" to {labels}; got {check.short(value)}')
