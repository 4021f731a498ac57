"""Examples: one task a file, from raw data to an evaluated model, each run as `python -m examples.NAME`.

By its path it runs too, so no file here has the name of a module that Python or JAX imports.
"""

import argparse
from pathlib import Path


def options(doc: str | None, folder: str) -> argparse.ArgumentParser:
    """Returns a parser with what every example takes: `--out`, by default a folder in `runs`, and `--smoke`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help=f"folder to write to; default runs/{folder}[-smoke]")
    parser.add_argument("--smoke", action="store_true", help="made-up data and few steps, without download")
    return parser


def out_folder(args: argparse.Namespace, name: str) -> Path:
    """Returns `--out`, by default `runs/<name>`; of a smoke run, whose model is no good, `runs/<name>-smoke`."""
    return args.out or Path("runs", f"{name}-smoke" if args.smoke else name)


def positive(text: str) -> int:
    """Parses a positive number."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number; got {text}")
    return int(text)
