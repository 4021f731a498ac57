"""Where an example is run from and writes to: by its path too; a smoke run never into the folder of a full one."""

import argparse
import importlib
import os
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
        [sys.executable, "examples/memory_tasks.py", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "python -m examples.memory_tasks" in run.stdout


def test_no_example_hides_a_module_of_python():
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert not names & {*sys.stdlib_module_names, "compression"}  # the latter is one from Python 3.14 on
