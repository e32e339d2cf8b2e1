"""Docstrings: their examples run, and they begin with a verb or a noun."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest

import scalenet_gp

REPOSITORY = Path(__file__).parents[1]
FLOORS = ("scalenet_gp", "nodes", "pipelines")
SOURCES = {
    f"{path.relative_to(REPOSITORY)}": path
    for floor in FLOORS
    for path in sorted((REPOSITORY / floor).rglob("*.py"))
    if floor != "scalenet_gp" or path.relative_to(REPOSITORY).parts[1] not in FLOORS
}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ODD = (
    *("What ", "Whatever ", "Which ", "Those ", "That ", "How ", "Whether ", "Where ", "When "),
    *("As ", "By ", "Of ", "So ", "It ", "Its ", "They "),
)
"""No docstring begins so: it is a clause or a part of a sentence, and its subject has yet to be read or guessed."""


def module_of(source: str) -> str:
    parts = Path(source).with_suffix("").parts
    return ".".join([*([] if parts[0] == "scalenet_gp" else ["scalenet_gp"]), *parts]).removesuffix(".__init__")


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the text of every docstring, also of the strings below attributes and in private code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for statement in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, value.value.strip()


def faces() -> list[str]:
    """The modules whose `__all__` is public: the package, the floors' own, and every room of the first two floors."""
    rooms = [name for _, name, is_package in pkgutil.iter_modules(scalenet_gp.__path__, "scalenet_gp.") if is_package]
    nodes = importlib.import_module("scalenet_gp.nodes")
    rooms += [name for _, name, is_package in pkgutil.iter_modules(nodes.__path__, "scalenet_gp.nodes.") if is_package]
    return ["scalenet_gp", *(name for name in rooms if name != "scalenet_gp.pipelines")]


def public_classes() -> dict[str, type]:
    """The public classes by where they are defined; errors and protocols explain themselves."""
    found = {}
    for face in map(importlib.import_module, faces()):
        for name in getattr(face, "__all__", ()):
            item = getattr(face, name)
            if inspect.isclass(item) and item.__module__.startswith("scalenet_gp") and not issubclass(item, Exception):
                found[f"{item.__module__}.{item.__qualname__}"] = item
    return found


@pytest.mark.parametrize("source", [name for name, path in SOURCES.items() if ">>> " in path.read_text("utf-8")])
def test_the_examples_of_a_module_run(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    result = doctest.testmod(importlib.import_module(module_of(source)), optionflags=OPTIONS)
    assert result.attempted > 0
    assert result.failed == 0


def test_no_docstring_begins_with_a_clause() -> None:
    tests = {f"{path.relative_to(REPOSITORY)}": path for path in sorted((REPOSITORY / "tests").rglob("*.py"))}
    found = [
        f"{source}:{line}"
        for source, path in [*SOURCES.items(), *tests.items()]
        for line, text in docstrings(path)
        if text.startswith(ODD)
    ]
    assert found == []


def test_every_public_class_has_an_example() -> None:
    assert [name for name, item in public_classes().items() if ">>> " not in (item.__doc__ or "")] == []
