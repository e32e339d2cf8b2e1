"""How Sphinx builds the documentation: `make docs`."""

import gc
import re
import sys
from dataclasses import is_dataclass
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from funlib.geometry import Roi
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

from scalenet_gp import Node, build_scalenet
from scalenet_gp.networks import network_kinds
from scalenet_gp.pipelines.inspection import build_kind

sys.path.insert(0, str(Path(__file__).parent))
from generate import write

# Trees of documents are millions of objects, which would be looked through for garbage over and over.
gc.freeze()
gc.set_threshold(100_000)

project = "scalenet_gp"
author = "The scalenet_gp developers"
project_copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "evidence/*_table.md"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # what overrides has the documentation of what it overrides, which is listed there
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "scalenet_gp"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sphinx = False

write()

# The figures that the pages show are drawn anew each time, by what they document.
_figures = Path(__file__).parent / "_build" / "figures"
_figures.mkdir(parents=True, exist_ok=True)
_net = build_scalenet([{"top_resolution": (nm,) * 3, "downsample_factors": [(2, 2, 2)]} for nm in (128, 64, 32)])
_net.figure(_net.plan({"2_output": Roi((0, 0, 0), (512, 512, 512))})).savefig(_figures / "fields_of_view.svg")
for _kind in network_kinds():
    build_kind(_kind).diagram().savefig(_figures / f"network_{_kind}.svg")


_BARE = re.compile(r":(class|func|exc):`(?=\w+`)|:(meth|attr):`(?=\w+\.\w+`)")
"""A reference by a name without its module, as in :class:`Plan`."""


def _prepared(app: object, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    """Rewrite the parts of a docstring that Sphinx would misread."""
    if what in ("attribute", "data", "property"):
        lines.insert(
            0, "\\"
        )  # which shows as nothing; napoleon takes what precedes a colon in the first line for a type
    lines[:] = [_BARE.sub(r"\g<0>.", line) for line in lines]  # with a dot before it, a name is looked for everywhere


def _arguments(app: object, what: str, name: str, item: object, *_: object) -> tuple[str, None] | None:
    """A node's are those of its class and not of what builds all nodes; of pydantic's models the fields are shown.

    Those of a dataclass are shown without what is annotated for checking them.
    """
    if isinstance(item, type) and issubclass(item, Node):
        return stringify_signature(item.signature(), show_return_annotation=False, unqualified_typehints=True), None
    if isinstance(item, type) and is_dataclass(item):
        types, shown = get_type_hints(item), signature(item)
        plain = [argument.replace(annotation=types[name]) for name, argument in shown.parameters.items()]
        shown = shown.replace(parameters=plain)
        return stringify_signature(shown, show_return_annotation=False, unqualified_typehints=True), None
    return ("", None) if isinstance(item, type) and issubclass(item, BaseModel) else None


_navigation: dict[tuple[int, str], str] = {}


def _shared_navigation(app: object, page: str, template: str, context: dict[str, Any], *_: object) -> None:
    """Make the navigation of pages of source code once: they are in no table of contents, so only their depth counts.

    It would be made for each of them, and take a third of the time of all.
    """
    if page.startswith("_modules/") and "toctree" in context:
        make = context["toctree"]

        def toctree(**options: Any) -> str:
            key = page.count("/"), repr(sorted(options.items()))
            if key not in _navigation:
                _navigation[key] = make(**options)
            return _navigation[key]

        context["toctree"] = toctree


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("html-page-context", _shared_navigation, priority=400)  # the theme comes at 500
    app.connect("autodoc-process-signature", _arguments)
    app.connect("autodoc-process-docstring", _prepared, priority=400)  # napoleon comes at 500
