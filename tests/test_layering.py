"""The house: a file imports only from rows above its own, and `import jaxseq` brings in jax only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxseq

ROOT = Path(jaxseq.__file__).parent

ROWS = [
    "_factory",
    "typing",
    "_promote",
    "_serialise",
    "check",
    "_meshes",
    "_placement",
    "_cast",
    "_cotangents",
    "_carry_parts",
    "_handed",
    "_reverse_only",
    "_around_backward",
    "_around",
    "masking",
    "_lengths",
    "recurrences",
    "initializers",
    "cells",
    "_activations",
    "kernels",
    "_unroll",
    "_check_bptt",
    "_stream",
    "wrappers",
    "diagnostics",
    "_top_k",
    "_eager",
    "structured",
    "decoding",
    "nn._compact",
    "nn._call",
    "nn._flax",
    "nn.recurrent",
    "nn._layer",
    "nn._ids",
    "nn.attention",
    "nn.convolution",
    "nn.blocks",
    "nn.models",
    "nn.decoders",
    "nn",
    "linen",
    "_written",
    "_plain",
    "export",
    "data",
    "_json",
    "train",
    "interop._arrays",
    "interop._layers",
    "interop",
]
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def row_of(module):
    """The place of `jaxseq.cells._lstm` is that of `cells`, of `jaxseq.nn.models._crf` that of `nn.models`."""
    _, *names = module.split(".")
    return next(ROWS.index(row) for row in (".".join(names[:2]), names[0]) if row in ROWS)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_rows_above(path):
    module = ".".join(("jaxseq", *path.relative_to(ROOT).with_suffix("").parts))
    for name in imported(path):
        if name.split(".")[0] != "jaxseq":
            continue
        own_row = row_of(name) == row_of(module)
        assert row_of(name) < row_of(module) or (own_row and module.count(".") > 1), f"{module} imports {name}"


def test_every_file_has_a_row():
    assert {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES} == {
        row for row in ROWS if "." not in row
    }


def test_import_brings_in_jax_only():
    """Neither what the subpackages need, nor a device, which `import` must leave to the user."""
    code = """
import sys, jax
before = set(sys.modules)
import jaxseq
new = {name.split('.')[0] for name in set(sys.modules) - before} - {'jaxseq'}
print(sorted(new & {'flax', 'optax', 'matplotlib', 'orbax', 'chex', 'scipy', 'torch', 'sklearn'}))
print(jax._src.xla_bridge.backends_are_initialized())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["[]", "False"]


def test_every_public_name_exists_once():
    assert sorted(set(jaxseq.__all__)) == sorted(jaxseq.__all__)
    for name in jaxseq.__all__:
        assert getattr(jaxseq, name) is not None


def test_subpackages_are_imported_when_first_used():
    code = """
import jaxseq
lazy = ('data', 'decoding', 'export', 'interop', 'linen', 'nn', 'structured', 'train')
print([getattr(jaxseq, name).__name__ for name in lazy])
try:
    jaxseq.nothing
except AttributeError as error:
    print(error)
print({*lazy, 'unroll', '__version__'} <= set(dir(jaxseq)))
import importlib.metadata
try:
    print(jaxseq.__version__ == importlib.metadata.version("jaxseq"))
except AttributeError as error:
    print("is not installed" in str(error))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        "['jaxseq.data', 'jaxseq.decoding', 'jaxseq.export', 'jaxseq.interop', 'jaxseq.linen', 'jaxseq.nn', "
        "'jaxseq.structured', 'jaxseq.train']",
        "module 'jaxseq' has no attribute 'nothing'",
        "True",
        "True",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_importing_a_file_imports_nothing_private_of_jaxs(path):
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
        assert not any((name or "").startswith("jax._src") for name in names), path
