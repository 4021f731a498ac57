"""How examples are laid out and run: tasks above what helps them, by their path too, each in a folder of its own."""

import argparse
import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import examples

ROOT = Path(examples.__file__).parents[1]
FOLDERS = {
    "address_parsing": "address_parsing",
    "anomaly_detection": "anomaly_detection",
    "demo": "demo",
    "ensemble": "ensemble",
    "fine_tuning": "fine_tuning",
    "forecasting": "forecasting",
    "forecasting_co2": "forecasting_co2",
    "language_model": "language_model-shakespeare",
    "linear_language_model": "linear_language_model",
    "model_compression": "model_compression",
    "phonemes": "phonemes",
    "pixel_digits": "pixel_digits",
    "pos_tagging": "pos_tagging",
    "recall": "recall",
    "regimes": "regimes",
    "returns": "returns",
    "selective_copying": "selective_copying",
    "sentiment": "sentiment-en",
    "series_classification": "series_classification",
    "speech_and_text": "speech_and_text",
    "speech_digits": "speech_digits",
    "state_tracking": "state_tracking",
    "text_cnn": "text_cnn",
    "transformer_language_model": "transformer_language_model",
    "translation": "translation",
}


TASKS = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "__init__")
HELPERS = ("data", "baselines", "shared", "reports")


def imported(path):
    """The modules of examples that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name and name.split(".")[0] == "examples"}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_imports_a_task(path):
    """But the tour, which runs one."""
    assert path.stem == "demo" or not imported(path) & {f"examples.{task}" for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_short_and_shows_its_model_and_its_training(task):
    text = (ROOT / "examples" / f"{task}.py").read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    assert f"    python -m examples.{task}" in text
    assert text.endswith('if __name__ == "__main__":\n    main()\n')
    assert not re.search(r"^(import|from) (matplotlib|sklearn|csv|zipfile|tarfile|re)\b", text, re.M), "a helper's"


def test_helpers_lie_in_their_folders():
    folders = {path.parent.name for path in (ROOT / "examples").glob("*/*.py")}
    assert folders == set(HELPERS)
    for path in (ROOT / "examples").glob("*/*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


@pytest.mark.parametrize("task", TASKS)
def test_help_says_what_every_option_does_and_its_default(task, capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"examples.{task}").main(["--help"])
    assert ended.value.code == 0
    options = re.sub(r"\n {10,}", "  ", capsys.readouterr().out.partition("\noptions:\n")[2])
    for line in options.splitlines():
        flags, _, text = line.strip().partition("  ")
        assert text.strip(), line
        if " " in flags.replace("-h, ", "") and "--generate" not in flags:  # it takes a value
            assert "default" in text or "of your own" in text or "of training" in text, line


def test_the_folder_is_the_given_one_or_that_of_the_kind_of_run():
    for out, smoke, folder in ((None, False, "runs/a"), (None, True, "runs/a-smoke"), (Path("b"), True, "b")):
        assert examples.out_folder(argparse.Namespace(out=out, smoke=smoke), "a") == Path(folder)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_example_asks_for_it(name, monkeypatch):
    class EnoughError(Exception):
        """Raised in place of the run."""

    def out_folder(args, task):
        raise EnoughError(examples.out_folder(args, task))

    module = importlib.import_module(f"examples.{name}")
    monkeypatch.setattr(module, "out_folder", out_folder)
    with pytest.raises(EnoughError) as raised:
        module.main(["--smoke"])
    assert raised.value.args == (Path("runs", f"{FOLDERS[name]}-smoke"),)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ensemble", ["--members", "0"], "--members: must be a positive number; got 0"),
        ("language_model", ["--steps", "-5"], "--steps: must be a positive number; got -5"),
        ("memory_tasks", ["--steps", "0"], "--steps: must be a positive number; got 0"),
        ("memory_tasks", ["--out", "folder"], "--out must be a picture, .png, .pdf or .svg; got folder"),
    ],
)
def test_what_is_no_number_of_anything_is_told_at_once(name, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, *arguments])
    with pytest.raises(SystemExit):
        importlib.import_module(f"examples.{name}").main()
    assert message in capsys.readouterr().err


def test_an_example_runs_by_its_path():
    """Then its folder is the first that Python looks for modules in."""
    run = subprocess.run(
        [sys.executable, "examples/sentiment.py", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "python -m examples.sentiment" in run.stdout


def test_no_example_hides_a_module_of_python():
    names = {path.stem for path in (ROOT / "examples").iterdir()}
    assert not names & {*sys.stdlib_module_names, "compression"}  # the latter is one from Python 3.14 on
