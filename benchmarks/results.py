"""Results in a folder: `results.json` holds a header, machine and versions, and a flat record per case and contender.

A later run with the same folder replaces the records that it measures again and keeps the rest, so that a suite can be
done in pieces; pieces of another machine, other XLA_FLAGS or other versions do not mix.
"""

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from benchmarks import measure
from benchmarks.suite import Case

PACKAGES = (
    *("jax", "jaxlib", "jaxseq", "flax", "dm-haiku", "equinox", "keras", "torch", "onnx", "onnxruntime", "numpy"),
    *("jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "libtpu"),
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


def folder(root: Path) -> Path:
    """Returns the folder of these versions of jaxseq and jax on this device, so that what differs does not mix."""
    versions = "-".join(f"{name}-{metadata.version(name)}" for name in ("jaxseq", "jax"))
    return root / re.sub(r"[^a-z0-9.]+", "-", f"{versions}-{jax.devices()[0].device_kind}".lower())


def load(folder: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the records of a folder, none where it is new; raises where they come from elsewhere."""
    path = folder / "results.json"
    if not path.exists():
        return []
    stored = json.loads(path.read_text())
    if stored["header"] != header:
        raise SystemExit(f"{path} is of another machine, XLA_FLAGS or versions; name another folder: --out")
    return stored["records"]


def key(record: dict[str, Any]) -> tuple:
    """Returns what a record is of: its case and contender."""
    return tuple(record[name] for name in KEY)


def merge(records: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the records with the new ones among them, in place of those of the same case and contender."""
    merged = {key(record): record for record in [*records, *new]}
    return list(merged.values())


def save(folder: Path, header: dict[str, Any], records: list[dict[str, Any]], **more: Any) -> None:
    """Writes `results.json`, whole or not at all; `more` stands beside header and records."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(record) for record in records)
    others = "".join(f'"{name}": {json.dumps(value)},\n' for name, value in more.items())
    unfinished = folder / "results.json.new"
    unfinished.write_text(f'{{"header": {json.dumps(header)},\n{others}"records": [\n{lines}\n]}}\n')
    unfinished.replace(folder / "results.json")
