"""Converts NamedTuples in a tree to dicts of their fields, for programs that run without jaxseq."""

from typing import Any

import jax


def plain(name: str, tree: Any) -> Any:
    """Returns a tree with dicts in place of its NamedTuples.

    Raises:
      TypeError: the tree, called `name`, has nodes other than arrays, tuples, lists, dicts and None.
    """
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()
    if isinstance(tree, dict):
        return {key: plain(f"{name}[{key!r}]", part) for key, part in tree.items()}
    if type(tree) in (tuple, list):
        return type(tree)(plain(f"{name}[{place}]", part) for place, part in enumerate(tree))
    if tree is not None and not jax.tree_util.all_leaves([tree]):
        raise TypeError(
            f"`{name}` must be made of arrays, tuples, lists, dicts and None to be exported; got {type(tree).__name__}"
        )
    return tree


def restore(like: Any, tree: Any) -> Any:
    """Returns a tree of the structure of `like` from the result of `plain`."""
    order, structure = jax.tree.flatten(like)
    places = jax.tree.leaves(plain("like", jax.tree.unflatten(structure, range(len(order)))))
    leaves = dict(zip(places, jax.tree.leaves(tree), strict=True))
    return jax.tree.unflatten(structure, [leaves[place] for place in range(len(order))])
