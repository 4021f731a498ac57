"""The pages of the reference show every public name, and no other; the first page leads to every page."""

import importlib
import re
import types
from pathlib import Path

import pytest

PAGES = Path(__file__).parent.parent / "docs" / "api"
PACKAGES = ["", ".data", ".decoding", ".diagnostics", ".export", ".interop", ".linen", ".nn", ".structured", ".train"]


def shown():
    """The names on the pages, each with the module that it is of."""
    for page in sorted(PAGES.glob("*.md")):
        module = None
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
                module = match[1]
            elif module and (match := re.fullmatch(r"   (\w+)", line)):
                yield module, match[1]


def public():
    """Every public object that is jaxseq's, by its id: one of its names."""
    found, seen = {}, set()

    def walk(module, name):
        if module.__name__ in seen:
            return
        seen.add(module.__name__)
        for key in getattr(module, "__all__", [key for key in vars(module) if not key.startswith("_")]):
            value = vars(module)[key]
            if isinstance(value, types.ModuleType):
                own = value.__name__.split(".")
                if own[0] == "jaxseq" and not any(part.startswith("_") for part in own) and key != "check":
                    walk(value, value.__name__)
            elif is_of(value, module):
                found.setdefault(id(value), f"{name}.{key}")

    for package in PACKAGES:
        walk(importlib.import_module(f"jaxseq{package}"), f"jaxseq{package}")
    return found


def is_of(value, module):
    """Whether a module gives out a value of the library, and has not imported it for its own use."""
    origin = getattr(value, "__module__", None) or ""
    return origin.startswith("jaxseq") and (hasattr(module, "__path__") or origin == module.__name__)


def test_every_public_name_is_on_a_page():
    there = {id(getattr(importlib.import_module(module), name)) for module, name in shown()}
    assert {name for key, name in public().items() if key not in there} == set()


def test_no_name_is_on_two_pages():
    names = list(shown())
    assert len(names) > 200
    assert len({id(getattr(importlib.import_module(module), name)) for module, name in names}) == len(names)


@pytest.mark.parametrize(
    "page",
    sorted(
        str(path.relative_to(PAGES.parent).with_suffix(""))
        for path in (*PAGES.glob("*.md"), *PAGES.parent.glob("*.md"))
        if path.stem != "index"
    ),
)
def test_a_page_is_reached_from_the_first_one(page):
    assert f"\n{page}\n" in (PAGES.parent / "index.md").read_text(encoding="utf-8")
