"""What has become faster or slower between two runs of a benchmark: two results.json, of other versions or machines.

    python -m benchmarks.compare old.json new.json [--slower 1.1]

Of each case and contender that both have, the medians, and the new one over the old: above 1, it has become slower; and
the same of the least times, which other work on a machine moves less. Contenders that did not change, and the rate of
the large matrix product in the suite, tell how far the machine itself was another. With `--slower` only what takes more
than so many times as long is shown, by medians and by least times, and the exit code is 1 where anything is.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from benchmarks import results
from jaxseq import check

Stored = dict[str, Any]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--slower", type=float, metavar="RATIO")
    args = parser.parse_args(argv)
    old, new = (_read(parser, path) for path in (args.old, args.new))
    print("\n".join(differences(old["header"], new["header"])))
    pairs = common(old, new)
    shown = pairs if args.slower is None else [pair for pair in pairs if min(slower(*pair)) > args.slower]
    print(table(shown))
    print(f"\n{summary(pairs)}")
    for name, stored, other in (("old", old, new), ("new", new, old)):
        alone = {results.key(record) for record in stored["records"]} - set(map(results.key, other["records"]))
        if alone:
            print(f"in the {name} file alone: {len(alone)}")
    if args.slower is not None and shown:
        raise SystemExit(1)


def _read(parser: argparse.ArgumentParser, path: Path) -> Stored:
    """What is stored in a file of results; ends the program where it is none."""
    try:
        found = json.loads(path.read_text())
        for record in found["records"]:
            results.key(record)
            if not all(record[name] > 0 for name in ("median_s", "min_s")):
                raise ValueError(f"times must be above 0; got {record['median_s']} and {record['min_s']}")
        differences(found["header"], found["header"])
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        parser.error(f"{path} is no results.json of a benchmark: {check.short(error)}")
    return found


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns a line for each thing in which two headers differ, one where there is none."""
    flat = [{"machine": header["machine"], **header["versions"]} for header in (old, new)]
    names = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]
    lines = [f"{name}: {flat[0].get(name, 'none')} → {flat[1].get(name, 'none')}" for name in names]
    return lines or ["the same machine and versions"]


def common(old: Stored, new: Stored) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns the records of each case and contender that stand in both files, what slowed down the most first."""
    before = {results.key(record): record for record in old["records"]}
    pairs = [(before[results.key(record)], record) for record in new["records"] if results.key(record) in before]
    return sorted(pairs, key=lambda pair: -slower(*pair)[0])


def slower(old: dict[str, Any], new: dict[str, Any]) -> tuple[float, float]:
    """Returns how many times as long the new one takes, by medians and by least times."""
    return new["median_s"] / old["median_s"], new["min_s"] / old["min_s"]


def table(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Returns a line for each pair of records."""
    heads = "".join(f"{head:>12}" for head in ("old ms", "new ms", "new / old", "of minima"))
    lines = [f"{'':64}{heads}"]
    for old, new in pairs:
        case = ", ".join(str(old[name]) for name in results.KEY)
        times = "".join(f"{1e3 * record['median_s']:12.3f}" for record in (old, new))
        lines.append(f"{case:64}{times}" + "".join(f"{ratio:12.2f}" for ratio in slower(old, new)))
    return "\n".join(lines)


def summary(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Returns the geometric means of new over old: of each contender, and of the matrix product's time."""
    lines = [f"{'geometric means, new / old':40}{'medians':>10}{'minima':>10}{'cases':>10}"]
    for name in dict.fromkeys(new["contender"] for _, new in sorted(pairs, key=lambda pair: results.key(pair[1]))):
        ratios = [slower(old, new) for old, new in pairs if new["contender"] == name]
        means = "".join(f"{_mean(column):10.2f}" for column in zip(*ratios, strict=True))
        lines.append(f"  {name:38}{means}{len(ratios):10}")
    rates = [old["matmul_gflops"] / new["matmul_gflops"] for old, new in pairs if old.get("matmul_gflops")]
    if rates:
        lines.append(f"  {'(a large matrix product)':38}{_mean(rates):10.2f}")
    return "\n".join(lines)


def _mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


if __name__ == "__main__":
    main()
