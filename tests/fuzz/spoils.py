"""Ways to spoil an argument: each a function of the valid value, which returns a wrong one, or NOT where it has none.

Those in `REFUSED` are wrong of kind, so that a result in place of an error is a fault; the others may have a result.
"""

import jax
import jax.numpy as jnp
import numpy as np

NOT = object()


def is_array(value):
    return isinstance(value, jax.Array | np.ndarray) and not is_key(value)


def is_key(value):
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of(kind, change):
    return lambda value: change(value) if kind(value) else NOT


def _array(change, *kinds):
    return _of(lambda value: is_array(value) and (not kinds or value.dtype.kind in kinds), change)


def _plain(change, *types):
    return _of(lambda value: isinstance(value, types) and not (isinstance(value, bool) and bool not in types), change)


def _tree(change):
    """Changes the first array in a pytree that is more than one array."""

    def changed(value):
        leaves, structure = jax.tree.flatten(value)
        place = next((i for i, leaf in enumerate(leaves) if is_array(leaf)), None)
        if place is None or is_array(value):
            return NOT
        leaf = change(np.asarray(leaves[place]))
        return NOT if leaf is NOT else jax.tree.unflatten(structure, [*leaves[:place], leaf, *leaves[place + 1 :]])

    return changed


def _is_tree(value):
    return isinstance(value, tuple | dict) and any(is_array(leaf) for leaf in jax.tree.leaves(value))


def _is_plain(value):
    return value is None or isinstance(value, int | float | str | dict | tuple) or is_array(value) or is_key(value)


REFUSED = {
    "an array of text": _array(lambda x: np.full(x.shape, "a")),
    "an array of objects": _array(lambda x: np.full(x.shape, None)),
    "complex": _array(lambda x: np.asarray(x).astype(np.complex64), "f", "i", "b"),
    "text for an array": _array(lambda x: "text"),
    "a dict for an array": _array(lambda x: {"a": x}),
    "an object for an array": _array(lambda x: object()),
    "wide integers": _array(lambda x: np.full(x.shape, 2**40), "i"),
    "text for a number": _of(is_number, lambda x: "text"),
    "a list for a number": _of(is_number, lambda x: [x, x]),
    "two numbers": _of(is_number, lambda x: np.array([x, x])),
    "a complex number": _of(is_number, lambda x: x + 1j),
    "NaN for a number": _of(is_number, lambda x: float("nan")),
    "half a number": _plain(lambda x: x + 0.5, int),
    "a huge number": _plain(lambda x: 2**40, int),
    "a word for a switch": _plain(lambda x: "no", bool),
    "flags for a switch": _plain(lambda x: np.array([True, False]), bool),
    "None for a switch": _plain(lambda x: None, bool),
    "a number for a word": _plain(lambda x: 3, str),
    "an array for a word": _plain(lambda x: np.ones(2), str),
    "a number for a key": _of(is_key, lambda x: 0),
    "text for a key": _of(is_key, lambda x: "seed"),
    "floats for a key": _of(is_key, lambda x: jnp.ones(2)),
    "a tree of text": _tree(lambda x: np.full(x.shape, "a")),
    "a tree of objects": _tree(lambda x: np.full(x.shape, None)),
    "a number for a tree": _of(_is_tree, lambda x: 3),
    "text for a tree": _of(_is_tree, lambda x: "text"),
    "another tree": _of(_is_tree, lambda x: {"wrong": np.ones(2), "tree": [np.ones(3)]}),
    "a complex tree": _tree(lambda x: x.astype(np.complex64) if x.dtype.kind == "f" else NOT),
    "a number for something": _of(lambda x: not _is_plain(x), lambda x: 3),
    "an object for something": _of(lambda x: x is not None, lambda x: object()),
}

OTHERS = {
    "None": _of(lambda x: x is not None and not isinstance(x, bool), lambda x: None),
    "NaN": _array(lambda x: np.asarray(x) * np.nan, "f"),
    "infinity": _array(lambda x: np.asarray(x) + np.inf, "f"),
    "huge floats": _array(lambda x: np.full(x.shape, 1e30, np.float32), "f"),
    "huge doubles": _array(lambda x: np.full(x.shape, 1e300), "f"),
    "negative": _array(lambda x: -np.asarray(x) - 1, "f", "i"),
    "an axis more": _array(lambda x: np.asarray(x)[None]),
    "an axis less": _array(lambda x: np.asarray(x)[0] if x.ndim else NOT),
    "no entries": _array(lambda x: np.asarray(x)[:0] if x.ndim else NOT),
    "no last entries": _array(lambda x: np.asarray(x)[..., :0] if x.ndim else NOT),
    "an entry less": _array(lambda x: np.asarray(x)[:-1] if x.ndim else NOT),
    "integers": _array(lambda x: np.ones(x.shape, int), "f", "b"),
    "floats": _array(lambda x: np.ones(x.shape), "i", "b"),
    "bools": _array(lambda x: np.ones(x.shape, bool), "f", "i"),
    "half floats": _array(lambda x: np.asarray(x).astype(np.float16), "f"),
    "unsigned": _array(lambda x: np.asarray(x).astype(np.uint8), "i"),
    "a list": _array(lambda x: np.asarray(x).tolist()),
    "zero": _of(is_number, lambda x: 0),
    "a negative number": _of(is_number, lambda x: -x - 1),
    "an infinite number": _plain(lambda x: float("inf"), float),
    "a large number": _plain(lambda x: 1e30, float),
    "no text": _plain(lambda x: "", str),
    "another word": _plain(lambda x: "nonsense", str),
    "an empty sequence": _plain(lambda x: type(x)(), list, dict),
    "a tree with an axis more": _tree(lambda x: np.stack([x, x, x])),
    "a tree of NaN": _tree(lambda x: x * np.nan if x.dtype.kind == "f" else NOT),
    "a tree of integers": _tree(lambda x: np.ones(x.shape, int)),
    "an empty tree": _of(_is_tree, lambda x: ()),
    "a list of None": _plain(lambda x: [None] * len(x), list, tuple),
    "a list of text": _plain(lambda x: ["text"] * len(x), list, tuple),
    "nested lists": _plain(lambda x: [list(x)], list, tuple),
    "a function without arguments": _of(lambda x: callable(x) and not isinstance(x, type), lambda x: lambda: 0),
}
SPOILS = REFUSED | OTHERS
"""By name; those of `OTHERS` may have a result."""

NOT_FINITE = {"NaN", "infinity", "huge floats", "huge doubles", "a large number", "an infinite number", "a tree of NaN"}
"""After which a result may be not finite."""

OF_SHAPE = {
    "an axis more",
    "an axis less",
    "no entries",
    "no last entries",
    "an entry less",
    "a tree with an axis more",
}
OF_SHAPE |= {"zero", "an empty sequence", "integers", "floats", "half floats", "bools"}
"""What fits no more to the other arguments: an error may name either."""
