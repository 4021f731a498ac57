"""What a machine was found to do, as a page of Markdown: a row for each case, a column for each contender."""

from typing import Any

from benchmarks import suite

Records = list[dict[str, Any]]


def page(header: dict[str, Any], records: Records, laws: Records, left_out: list[str], wrong: list[str]) -> str:
    """Returns the page; a table that would be empty is left out."""
    versions = ", ".join(f"{name} {version}" for name, version in header["versions"].items())
    recurrent = [record for record in records if record["cell"] in suite.CELLS]
    linear = [record for record in records if record["cell"] not in suite.CELLS]
    parts = [
        f"{header['machine']}\n\n{versions}",
        _section("Laws: the largest error of any leaf's largest entry", _laws(laws)),
        _section("Recurrent cells: median ms, and in brackets how many times jaxseq's", _times(recurrent)),
        _section("Linear cells: median ms, and in brackets how many times bptt's", _times(linear)),
        _section("Wrong", [f"* {line}" for line in wrong]),
        _section("Left out", [f"* {line}" for line in left_out]),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _section(title, lines):
    return "\n".join([f"## {title}", "", *lines]) if lines else ""


def _laws(laws):
    """A row for each kernel."""
    kernels = dict.fromkeys(law["kernel"] for law in laws)
    of_kernel = {kernel: [law for law in laws if law["kernel"] == kernel] for kernel in kernels}
    rows = [
        (kernel, str(len(held)), str(len({law["cell"] for law in held})), f"{max(law['error'] for law in held):.0e}")
        for kernel, held in of_kernel.items()
    ]
    return _table(("kernel", "cases held", "cells", "error"), rows)


def _times(records):
    """A row for each cell, mode and size."""
    contenders = [*dict.fromkeys(record["contender"] for record in records)]
    rows: dict[tuple, dict[str, str]] = {}
    for record in records:
        case = record["cell"], record["mode"], ", ".join(str(record[axis]) for axis in "BTDH")
        ratio = "" if record["ratio"] is None else f" ({record['ratio']:.2f})"
        rows.setdefault(case, {})[record["contender"]] = f"{1e3 * record['median_s']:.3f}{ratio}"
    cells = [(*case, *(times.get(name, "–") for name in contenders)) for case, times in rows.items()]
    return _table(("cell", "mode", "B, T, D, H", *contenders), cells)


def _table(heads, rows):
    if not rows:
        return []
    return [f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rows)]
