"""Examples: one task a file, from raw data to an evaluated model, each run as `python -m examples.NAME`."""

import argparse
from pathlib import Path


def out_folder(args: argparse.Namespace, name: str) -> Path:
    """Returns `--out`, by default `runs/<name>`; of a smoke run, whose model is no good, `runs/<name>-smoke`."""
    return args.out or Path("runs", f"{name}-smoke" if args.smoke else name)


def positive(text: str) -> int:
    """Parses a positive number."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number; got {text}")
    return int(text)
