"""Examples: one task a file, from raw data to an evaluated model, each run as `python -m examples.NAME`.

A task imports no other one. Beneath the tasks lie

    data/        where the data come from: readers of files and packages, and what is made up for smoke runs
    baselines/   what stands beside the models
    shared/      parts of models and of training that several tasks have in common
    reports/     tables and pictures of what came out

A task runs by its path too, so nothing here has the name of a module that Python or JAX imports.
"""

import argparse
from pathlib import Path


class Help(argparse.RawDescriptionHelpFormatter):
    """Shows the description as it is, and the default of every option that takes a value and has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        told = "default" in text or any(action.default is none for none in (None, False, argparse.SUPPRESS))
        return text if told else f"{text}; default {_words(action.default)}".removeprefix("; ")


def _words(default: object) -> str:
    """The default as it is typed."""
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


def options(doc: str | None, folder: str) -> argparse.ArgumentParser:
    """Returns a parser with what every example takes: `--out`, by default a folder in `runs`, and `--smoke`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=Help)
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
