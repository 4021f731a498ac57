"""What a suite found, as a table of each case, a summary over sizes, and a picture.

A ratio is a contender's median time over that of `jaxseq` in the same run: above 1, jaxseq is faster.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.suite import CELLS, CONTENDERS, DTYPES, JAX_PEERS, MODES, PEERS, Case

Records = list[dict[str, Any]]
HEADS = ("error", "trace ms", "compile ms", "min ms", "median ms", "peak MiB", "GFLOP/s", "of matmul", "ratio")


def case_of(record: dict[str, Any]) -> Case:
    """Returns the case of a record."""
    return Case(*(record[name] for name in Case._fields))


def table(records: Records) -> str:
    """Returns the table of one case, the fastest first."""
    case, matmul = case_of(records[0]), records[0]["matmul_gflops"]
    size = f"(B, T, D, H) = {tuple(case[3:])}"
    lines = [f"{case.cell}, {case.mode}, {case.dtype}, {size}; matmul {matmul:.0f} GFLOP/s"]
    lines.append(f"  {'':16}" + "".join(f"{head:>11}" for head in HEADS))
    for record in sorted(records, key=lambda record: record["median_s"]):
        cells = [
            _number(record["error"], 1, ".0e"),
            *(_number(record[name], 1e3, ".0f") for name in ("trace_s", "compile_s")),
            *(_number(record[name], 1e3, ".3f") for name in ("min_s", "median_s")),
            _number(record["peak_bytes"], 2**-20, ".1f"),
            _number(record["gflops"], 1, ".2f"),
            _number(record["fraction_of_matmul"], 1, ".3f"),
            _number(record["ratio"], 1, ".2f"),
        ]
        lines.append(f"  {record['contender']:16}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def summary(records: Records) -> str:
    """Returns ratios over sizes: of the best JAX peer of each size, of the best peer, and of each contender."""
    lines = ["Times over jaxseq's, over sizes"]
    for cell, mode, dtype in groups(records):
        heads = "".join(f"{head:>10}" for head in ("geo. mean", "min", "max", "sizes"))
        lines += ["", f"  {f'{cell}, {mode}, {dtype}':30}{heads}"]
        ratios = ratios_by_size(records, cell, mode, dtype)
        rows = {"best JAX peer": _best(ratios, JAX_PEERS), "best peer": _best(ratios, PEERS), **ratios}
        for name, found in rows.items():
            if found:
                mean = math.exp(sum(map(math.log, found.values())) / len(found))
                numbers = "".join(f"{number:10.2f}" for number in (mean, min(found.values()), max(found.values())))
                lines.append(f"    {name:28}{numbers}{len(found):10}")
    return "\n".join(lines)


def groups(records: Records) -> list[tuple[str, str, str]]:
    """Returns the cells, modes and dtypes of the records, in the suite's order."""
    found = {(record["cell"], record["mode"], record["dtype"]) for record in records}
    every = ((cell, mode, dtype) for dtype in DTYPES for mode in MODES for cell in CELLS)
    return [group for group in every if group in found]


def ratios_by_size(records: Records, cell: str, mode: str, dtype: str) -> dict[str, dict[tuple, float]]:
    """Returns each contender's ratios by size, jaxseq's own left out."""
    ratios: dict[str, dict[tuple, float]] = {name: {} for name in CONTENDERS if name != "jaxseq"}
    for record in records:
        case, ratio = case_of(record), record["ratio"]
        if ratio is not None and record["contender"] in ratios and case[:3] == (cell, mode, dtype):
            ratios[record["contender"]][case[3:]] = ratio
    return ratios


def draw(records: Records, path: Path) -> None:
    """Draws the ratios by size, a panel for each cell, mode and dtype."""
    from matplotlib.figure import Figure

    shown = groups(records)
    rows = [(mode, dtype) for dtype in DTYPES for mode in MODES if any(group[1:] == (mode, dtype) for group in shown)]
    columns = [cell for cell in CELLS if any(group[0] == cell for group in shown)]
    styles = _styles({record["contender"] for record in records})
    sizes = list(dict.fromkeys(case_of(record)[3:] for record in records))
    labels = [", ".join(map(str, size)) for size in sizes]
    width = max(3.2, 1.2 + 0.5 * len(sizes))
    figure = Figure(figsize=(1 + width * len(columns), 1.6 + 2.8 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey="row")
    for row, (mode, dtype) in enumerate(rows):
        for column, cell in enumerate(columns):
            panel = panels[row, column]
            ratios = ratios_by_size(records, cell, mode, dtype)
            for name, style in styles.items():
                places = [sizes.index(size) for size in ratios[name]]
                panel.plot(places, list(ratios[name].values()), **style, linestyle="", label=name)
            panel.axhline(1, color="black", linewidth=1)
            panel.set_yscale("log", base=2)
            panel.set_xlim(-0.5, len(sizes) - 0.5)
            panel.set_title(f"{cell}, {mode}, {dtype}", fontsize=10)
            panel.set_xticks(range(len(sizes)), labels, rotation=60, ha="right", rotation_mode="anchor")
            panel.yaxis.set_major_formatter("{x:g}")
            panel.tick_params(labelsize=8)
            panel.grid(axis="y", alpha=0.3)
    for panel in panels[:, 0]:
        panel.set_ylabel("time / jaxseq's")
    for panel in panels[-1]:
        panel.set_xlabel("B, T, D, H")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2 * len(columns) + 1, fontsize=8)
    figure.savefig(path, dpi=120)


def _styles(names: set[str]) -> dict[str, dict[str, Any]]:
    """How the contenders are marked: peers in colours, jaxseq's own kernels hollow and grey."""
    own = [name for name in CONTENDERS if name in names and name != "jaxseq" and name not in PEERS]
    peers = [name for name in PEERS if name in names]
    hollow = {"color": "grey", "markerfacecolor": "none", "markersize": 5}
    return {
        **{name: {"marker": "s^vDo<>"[number], **hollow} for number, name in enumerate(own)},
        **{name: {"marker": "oXsD^vP*"[number], "color": f"C{number}"} for number, name in enumerate(peers)},
    }


def _best(ratios: dict[str, dict[tuple, float]], names: Iterable[str]) -> dict[tuple, float]:
    """The smallest ratio of these contenders at each size."""
    best: dict[tuple, float] = {}
    for name in names:
        for size, ratio in ratios[name].items():
            best[size] = min(ratio, best.get(size, math.inf))
    return best


def _number(value, factor, form):
    return "–" if value is None else format(factor * value, form)
