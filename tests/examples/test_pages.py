"""README and docs: their code imports what it uses; tables, pictures and names are those of what they are about."""

import ast
import builtins
import doctest
import re
import runpy
from pathlib import Path

import pytest

from jaxseq import diagnostics

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OF_THE_READER = {  # what a page on a task is given
    "anomaly_detection.md": {"values", "known", "changes", "mean", "std"},
    "ensemble.md": {"make_model", "optimizer", "graph", "loss_fn", "loader", "xs", "mask"},
    "fine_tuning.md": {"model", "key", "loss_fn", "loader"},
    "language_model.md": {"texts"},
    "linear_language_model.md": {"texts"},
    "model_compression.md": {"params", "graph", "loss_fn", "loader", "key"},
    "phonemes.md": {"words", "sounds"},
    "pixel_digits.md": {"pixels", "labels"},
    "pos_tagging.md": {"sentences", "tagged"},
    "regimes.md": {"returns"},
    "returns.md": {"returns", "columns", "scale"},
    "sentiment.md": {"texts", "labels"},
    "series_classification.md": {"sequences", "labels"},
    "speech_and_text.md": {"texts", "signal", "real"},
    "speech_digits.md": {"texts", "signal", "real"},
    "text_cnn.md": {"texts", "labels"},
    "transformer_language_model.md": {"texts"},
    "translation.md": {"sources", "targets"},
}


def programs(page):
    """The doctests of a page as one program, and that of its other blocks of Python."""
    text = page.read_text(encoding="utf-8")
    yield "".join(example.source for example in doctest.DocTestParser().get_examples(text))
    yield "\n".join(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if ">>>" not in block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_where_its_names_come_from(page):
    for program in programs(page):
        nodes = list(ast.walk(ast.parse(program)))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        known = {*dir(builtins), *OF_THE_READER.get(page.name, ())}
        known |= {
            alias.asname or alias.name
            for node in nodes
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        known |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        known |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
        assert {name.id for name in names} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_words_in_angle_brackets_are_code(page):
    """A browser takes `<end>` for a tag, and shows nothing."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    assert re.findall(r"</?\w+>", re.sub(r"`[^`]*`", "", text)) == []


def numbers(text):
    """The numbers in a text, with how many digits stand behind the point."""
    found = re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?", text)
    return [(float(number.replace(",", "")), len(number.partition(".")[2])) for number in found]


def test_the_table_of_tasks_has_the_numbers_of_the_results():
    """Rounded as it stands there, also from per cent, and from bytes to kB."""
    sections = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").split("\n## ")
    rows = re.findall(
        r"^\| \[(\w+)\].*\| (.*) \|$", (ROOT / "docs" / "tasks" / "index.md").read_text(encoding="utf-8"), re.M
    )
    assert len(rows) > 5
    for task, cell in rows:
        results = numbers("".join(section for section in sections if f"python -m examples.{task}" in section))
        assert results
        for number, digits in numbers(cell):
            values = (value * scale for value, _ in results for scale in (1, 1e-2, 1e-3))
            assert number in {round(value, digits) for value in values}, f"{task}: {number}"


def test_the_page_on_layers_has_the_figures_of_other_pages():
    docs = ROOT / "docs"
    pages = ("results", "linear", "performance", "tasks/index", "tasks/pixel_digits")
    there = "".join((docs / f"{page}.md").read_text(encoding="utf-8") for page in pages)
    figures = re.findall(r"\d+\.\d+", (docs / "which_layer.md").read_text(encoding="utf-8"))
    assert len(figures) > 30
    assert [figure for figure in figures if figure not in re.findall(r"\d+\.\d+", there)] == []


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#]+)(?:#([\w-]+))?\)", text)
    assert len(links) > 20
    for file, section in links:
        headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(encoding="utf-8"), re.M)
        assert not section or section in {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in headings}


def test_pictures_are_as_they_are_drawn():
    pictures = runpy.run_path(str(ROOT / "docs" / "draw.py"))["PICTURES"]
    for file, draw in pictures.items():
        assert (ROOT / "docs" / "static" / file).read_text(encoding="utf-8") == draw(), "run `python docs/draw.py`"


def test_the_page_on_symptoms_names_every_diagnostic():
    page = (ROOT / "docs" / "symptoms.md").read_text(encoding="utf-8")
    names = [name for name in vars(diagnostics) if not name.startswith("_")]
    assert [name for name in names if not re.search(rf"\b{name}\b", page)] == []
