"""The documentation: its code runs in the order of the pages and prints what they say, and Sphinx builds it."""

from __future__ import annotations

import importlib
import pickle
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from scalenet_gp import errors
from scalenet_gp.networks import network_kinds
from scalenet_gp.pipelines.inspection import build_kind
from tests.test_house import ROOMS

DOCS = Path(__file__).parents[1] / "docs"
TABLES = sorted(DOCS.glob("evidence/*_table.md"))  # parts of pages
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts and page not in TABLES)
BLOCKS = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```$)?", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem
)
def test_the_python_of_a_page_runs_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": f"docs.{page.stem}"}
    found = list(BLOCKS.finditer(text))
    assert len(found) == text.count("```python")
    for block in found:
        line = text.count("\n", 0, block.start("code"))
        exec(compile("\n" * line + block["code"], str(page), "exec"), names)
        assert capsys.readouterr().out == (block["printed"] or "")


def test_every_text_block_is_the_output_of_a_python_block():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("```text") == sum(block["printed"] is not None for block in BLOCKS.finditer(text)), page


def test_blocks_are_of_the_language_that_they_name(generated: dict[str, str]) -> None:
    """Sphinx colors them, and warns of those that it cannot read."""
    lexers = importlib.import_module("pygments.lexers")  # rich and pytest need it
    for page, text in {str(page): page.read_text(encoding="utf-8") for page in PAGES}.items() | generated.items():
        for language, code in re.findall(r"^```([a-z]+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            lexer = lexers.get_lexer_by_name(language)
            assert not [word for kind, word in lexer.get_tokens(code) if "Error" in kind], (page, code)


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    """The pages that are written from the code."""
    return runpy.run_path(str(DOCS / "generate.py"))["pages"]()


def test_the_reference_has_every_room_command_and_error_once(generated: dict[str, str]) -> None:
    commands = re.findall(r"^## `scalenet-gp (.+)`$", generated["reference/command_line.md"], re.MULTILINE)
    assert {"demo", "train", "predict", "evaluate", "inspect", "preview", "mask", "view"} <= set(commands)
    assert len(commands) == len(set(commands))
    listed = re.findall(r"^\| `(\w+)` \|", generated["reference/errors.md"], re.MULTILINE)
    assert listed == errors.__all__
    names = re.findall(r"\{py:obj\}`~([\w.]+)`", generated["reference/api/index.md"])
    objects = [name.rpartition(".") for name in names]
    found = [id(getattr(importlib.import_module(module), name)) for module, _, name in objects]
    assert len(found) > 100
    assert len(set(names)) == len(names)


def test_the_gallery_has_every_network_as_it_is(generated: dict[str, str]) -> None:
    """``python docs/generate.py networks`` writes the figures anew; those that cost no prediction are compared."""
    page = generated["reference/networks.md"]
    rows = re.findall(r"^\| \[`(\w+)`\]\S+ \| ([\d,]+) \| .*? \| (yes|no) \|$", page, re.MULTILINE)
    expected = []
    for kind in network_kinds():
        net = build_kind(kind)
        parameters = sum(parameter.numel() for parameter in net.parameters())
        expected.append((kind, f"{parameters:,}", "yes" if net.tileable else "no"))
    assert rows == expected
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(network_kinds())


def test_links_lead_to_pages(generated: dict[str, str]) -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in PAGES}
    pages |= {DOCS / path: text for path, text in generated.items()}
    there = set(pages) | {DOCS.parent / "CHANGELOG.md"}
    for page, text in pages.items():
        for link in re.findall(r"\]\((?!http|#)([^)#]+\.md)(?:#[^)]*)?\)", text):
            assert (page.parent / link).resolve() in there, f"{page} links to {link}"
    listed = set((DOCS / "index.md").read_text(encoding="utf-8").split())
    for page in PAGES:
        path = str(page.relative_to(DOCS).with_suffix(""))
        assert path in listed or path == "index" or path.startswith("reference/api/"), (
            f"{page} is in no table of contents"
        )


@pytest.mark.slow
def test_sphinx_reads_it_without_a_warning(warm_executable: str, tmp_path: Path) -> None:
    """All pages are read and all references resolved; ``make docs`` writes HTML of them as well, in twice the time."""
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason="installed by `make docs`, which builds the documentation")
    sphinx = [warm_executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--builder", "dummy"]
    quotes = ["--define", "smartquotes=0"]  # makes no warning, but takes long
    result = subprocess.run([*sphinx, *quotes, DOCS, tmp_path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = pickle.loads((tmp_path / ".doctrees" / "environment.pickle").read_bytes()).domaindata["py"]["objects"]
    for name in ("scalenet_gp.LeibNet.largest_plan", "scalenet_gp.layers.AttentionGate", "scalenet_gp.nodes.Train"):
        assert not found[name].aliased, name  # it is on a page, and Sphinx warns of a second one


def test_the_architecture_page_lists_every_room_once():
    """The rooms are those of the table of imports, tests/test_house.py."""
    page = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rooms = [name if name.startswith(("nodes.", "pipelines.")) else f"scalenet_gp.{name}" for name in ROOMS]
    listed = re.findall(r"^\| `([a-z_]+/[a-z_]+)` \|", page, re.MULTILINE)
    floors = {"scalenet_gp.errors", "scalenet_gp.scalenet_gp", "scalenet_gp.nodes", "scalenet_gp.pipelines"}
    assert sorted(listed) == sorted(room.replace(".", "/") for room in rooms if room not in floors)
