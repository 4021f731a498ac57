"""The results of a suite in a folder: `results.json` holds a header and one flat record per case and contender.

A later run with the same folder replaces the records that it measures again and keeps the rest, so that a suite can be
done in pieces; pieces of another machine, other XLA_FLAGS or other versions do not mix.
"""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.suite import Case

PACKAGES = (
    *("jax", "jaxlib", "jaxseq", "flax", "dm-haiku", "equinox", "keras", "torch", "onnx", "onnxruntime", "numpy"),
    *("jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu"),
)
KEY = (*Case._fields, "contender")


def describe() -> dict[str, Any]:
    """Returns a header: the machine with XLA_FLAGS, and the versions of jaxseq and its peers."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"machine": measure.describe_machine(), "versions": versions}


def load(folder: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the records of a folder, none where it is new; raises where they come from elsewhere."""
    path = folder / "results.json"
    if not path.exists():
        return []
    stored = json.loads(path.read_text())
    if stored["header"] != header:
        raise SystemExit(f"{path} is of another machine, XLA_FLAGS or versions; name another folder: --out")
    return stored["records"]


def merge(records: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the records with the new ones among them, in place of those of the same case and contender."""
    merged = {tuple(record[name] for name in KEY): record for record in [*records, *new]}
    return list(merged.values())


def save(folder: Path, header: dict[str, Any], records: list[dict[str, Any]]) -> None:
    """Writes `results.json`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(record) for record in records)
    unfinished = folder / "results.json.new"
    unfinished.write_text(f'{{"header": {json.dumps(header)},\n"records": [\n{lines}\n]}}\n')
    unfinished.replace(folder / "results.json")
