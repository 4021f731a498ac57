"""The site: pages from Markdown, the reference from docstrings. `make docs` builds it; a warning is an error."""

import importlib.metadata
import re

import jax
import numpy as np
from sphinx.util.typing import stringify_annotation

import jaxseq.typing

project = "jaxseq"
author = "the jaxseq authors"
copyright = author  # noqa: A001, the name that Sphinx reads
release = version = importlib.metadata.version("jaxseq")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "jaxseq"
html_static_path = ["static"]
html_css_files = ["jaxseq.css"]
html_theme_options = {"navigation_with_keys": True}

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

templates_path = ["templates"]
autosummary_generate = True
autosummary_imported_members = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False


ALIASES = {  # by what Python makes of them; the longest first
    np.typing.ArrayLike: "~numpy.typing.ArrayLike",
    jax.typing.ArrayLike: "~jax.typing.ArrayLike",
    jax.typing.DTypeLike: "~jax.typing.DTypeLike",
    jaxseq.typing.AnyArray: "~jaxseq.typing.AnyArray",
    jax.Array: "~jax.Array",
}


def with_aliases(app, what, name, obj, options, signature, returned):
    """Writes the names of types of arrays in place of the unions that they stand for."""
    for alias, written in ALIASES.items():
        signature = signature and signature.replace(stringify_annotation(alias, "smart"), written)
    return signature, returned


def skip_fields(app, what, name, obj, skip, options):
    """Leaves out the fields of NamedTuples, which their docstrings tell."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def from_markdown(app, what, name, obj, options, lines):
    """Turns what a docstring has as Markdown, `xs` in single ticks and |x| as it stands, into reStructuredText."""
    is_session, section, written = False, "", []
    for line in lines:
        is_session = line.lstrip().startswith(">>>") or (is_session and line.strip() != "")
        if is_session:
            written.append(line)
            continue
        section = line.strip() if re.fullmatch(r"\w+:", line.strip()) else section
        *parts, last = re.split(r"`([^`]+)`", line)
        pairs = [escaped(text) + f"``{code}``\\ " for text, code in zip(parts[::2], parts[1::2], strict=True)]
        line = "".join([*pairs, escaped(last)])
        written += one_each(line) if section == "Attributes:" else [line]
    lines[:] = written


def one_each(line):
    """A line for each name of `k, q: what they are`, as Napoleon does for arguments but not for attributes."""
    fields = re.fullmatch(r"(\s+)(\w+(?:, \w+)+)(: .*)", line)
    return [fields[1] + name + fields[3] for name in fields[2].split(", ")] if fields else [line]


def escaped(text):
    """Of a text without code: bars and stars are bars and stars, but where a list or a field begins."""
    return re.sub(r"([|*])", r"\\\1", text)


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-signature", with_aliases)
    app.connect("autodoc-process-docstring", from_markdown, priority=100)  # before Napoleon's, which adds markup
