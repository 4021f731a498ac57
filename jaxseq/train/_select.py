"""Which leaves of a stored tree are read, and which leaves of `like` are kept."""

import ast
import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path

from jaxseq import check

_STEP = re.compile(r"""\.\w+|\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\]]*)\]""")
"""One step of a path, as `jax.tree_util.keystr` writes it."""


def part_of(part: str, version: Path, found: Iterable[str]) -> dict[str, str]:
    """Returns the stored names of a part's leaves, by the names that they have in the part.

    Raises:
      ValueError: there is no such part.
    """
    names = {}
    for name in found:
        steps = _STEP.findall(name)
        for depth in range(len(steps) + 1):
            if _joined(steps[:depth]) == part:
                names["".join(steps[depth:]) or "."] = name
                break
    if part and not names:
        parts = {_joined(_STEP.findall(name)[:depth]) for name in found for depth in (1, 2)}
        there = check.brief(", ".join(sorted(parts)))
        raise ValueError(f"`part` must be in {version}: {there}, ...; got {check.short(part)}")
    return names


def check_part(part: str) -> None:
    """Raises unless `part` is a path."""
    if not isinstance(part, str):
        raise TypeError(f'`part` must be a path such as "state/params"; got {check.short(part)}')


def hint(part: str, found: Iterable[str]) -> str:
    """Returns how to read something else than all that was stored, where that was asked for."""
    if part:
        return ""
    if any(name.startswith("['state'].params") for name in found):
        return '. To read its params, give part="state/params"'
    return ". A `part` of it is read by its path, and into another tree by train.transfer"


def path_of(name: str) -> str:
    """Returns the path of a leaf, as `groups.paths` writes it: the value of an `nnx.Variable` is the variable."""
    return _joined(_STEP.findall(name.removesuffix(".value") if name.endswith("].value") else name))


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern matches a leaf's path."""
    return any(fnmatch.fnmatchcase(path, pattern) for path in (path_of(name), _joined(_STEP.findall(name))))


def _joined(steps):
    return "/".join(map(_plain, steps))


def _plain(step):
    if step.startswith("."):
        return step[1:]
    inner = step[1:-1]
    return str(ast.literal_eval(inner)) if inner[:1] in ("'", '"') else inner
