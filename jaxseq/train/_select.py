"""Which leaves of a stored tree are read, and which of the new one stay as they are."""

import ast
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxseq import check

_STEP = re.compile(r"""\.\w+|\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\]]*)\]""")
"""A step of a path as `jax.tree_util.keystr` writes it."""


class Selection:
    """A part of a stored tree without the leaves that are fresh, by `part` and `fresh` of `load`."""

    def __init__(self, part: str, fresh: str | Sequence[str]):
        if not isinstance(part, str):
            raise TypeError(f'`part` must be a path such as "state/params"; got {check.short(part)}')
        patterns = [fresh] if isinstance(fresh, str) else fresh
        if not isinstance(patterns, Sequence) or not all(isinstance(pattern, str) for pattern in patterns):
            raise TypeError(f'`fresh` must be a pattern such as "head/*", or several; got {check.short(fresh)}')
        self._part, self._patterns = part, list(patterns)

    def of(self, version: Path, found: Iterable[str]) -> dict[str, str]:
        """Returns the stored names of the part's leaves, by the names that they have in the part.

        Raises:
          ValueError: there is no such part.
        """
        names = {}
        for name in found:
            steps = _STEP.findall(name)
            for depth in range(len(steps) + 1):
                if _path("".join(steps[:depth])) == self._part:
                    names["".join(steps[depth:]) or "."] = name
                    break
        if self._part and not names:
            parts = {_path("".join(_STEP.findall(name)[:depth])) for name in found for depth in (1, 2)}
            there = check.brief(", ".join(sorted(parts)))
            raise ValueError(f"`part` must be in {version}: {there}, ...; got {check.short(self._part)}")
        return names

    def hint(self, found: Iterable[str]) -> str:
        """Returns how to read the params alone, where all of a run was asked for; else nothing."""
        is_run = any(name.startswith("['state'].params") for name in found)
        return '. To read its params, give part="state/params"' if is_run and not self._part else ""

    def fresh(self, wanted: Mapping[str, Any], stored: Mapping[str, str]) -> set[str]:
        """Returns the names that a pattern of `fresh` matches.

        Raises:
          ValueError: a pattern matches none.
          TypeError: a leaf of `wanted` that is to stay is only a shape.
        """
        paths = {name: _path(name) for name in [*wanted, *stored]}
        matched = set()
        for pattern in self._patterns:
            taken = {name for name in paths if _matches(name, pattern)}
            if not taken:
                there = check.brief(", ".join(paths.values()))
                raise ValueError(
                    f"`fresh` {check.short(pattern)} matches no leaf; the paths are {there}, by `part` {self._part!r}"
                )
            matched |= taken
        for name in matched & wanted.keys():
            if isinstance(wanted[name], jax.ShapeDtypeStruct):
                raise TypeError(f"`like{name}` must be an array to stay as it is; got a shape")
        return matched


def _matches(name, pattern):
    """Whether a pattern matches a leaf's path; to `groups.paths` the value of an `nnx.Variable` is the variable."""
    return any(fnmatch.fnmatchcase(_path(each), pattern) for each in {name, name.removesuffix(".value")})


def _path(name):
    """The path of a leaf, as `groups.paths` writes it."""
    return "/".join(map(_plain, _STEP.findall(name)))


def _plain(step):
    if step.startswith("."):
        return step[1:]
    inner = step[1:-1]
    return str(ast.literal_eval(inner)) if inner[:1] in ("'", '"') else inner
