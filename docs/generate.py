"""Pages of the reference that are written from the code: `make docs` does so before it builds.

The pages are not in the repository. ``python docs/generate.py`` writes them beside the others, to look at.
``python docs/generate.py networks`` predicts the figures of all networks anew, ``reference/networks.csv``, which takes
half a minute.
"""

from __future__ import annotations

import csv
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import typer
import yaml

import scalenet_gp
import scalenet_gp.nodes
from scalenet_gp import errors, networks
from scalenet_gp.analysis import predict_cost
from scalenet_gp.geometry import format_size
from scalenet_gp.networks import network_kinds
from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.config import reference_text
from scalenet_gp.pipelines.inspection import build_kind, survey_network

DOCS = Path(__file__).parent
TOP, NODES = "scalenet_gp", "scalenet_gp.nodes"
NETWORKS = DOCS / "reference" / "networks.csv"
SIDES = DOCS.parent / "benchmarks" / "evidence" / "models.yaml"
COLUMNS = ("kind", "parameters", "kmac_per_voxel", "field_of_view", "smallest_mib", "mib", "tiles")
LETTERS = """
Letters stand for the axes of tensors: B batch, C channels, Z Y X voxels (Y X in two dimensions). ROIs are boxes of
voxel corners in world units. Voxel sizes are nanometers where they are given to a network, and world units where they
are read from one.
"""


def pages() -> dict[str, str]:
    """Return the text of every generated page by its path below ``docs``."""
    api = {f"reference/api/{face.removeprefix('scalenet_gp.')}.md": _api_page(face) for face in faces()}
    return {
        **api,
        "reference/api/index.md": _api_index(),
        "reference/command_line.md": command_line(),
        "reference/errors.md": error_table(),
        "reference/networks.md": network_gallery(),
        "reference/run_file.md": reference_text(),
    }


def write() -> None:
    """Write the pages that have changed, and remove the pages of rooms that no longer exist."""
    made = pages()
    for path, text in made.items():
        file = DOCS / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    for file in (DOCS / "reference" / "api").glob("*.md"):
        if str(file.relative_to(DOCS)) not in made:
            file.unlink()


# The faces of rooms


def faces() -> list[str]:
    """Return the modules whose ``__all__`` is public: the package and the rooms of its two lower floors."""
    return [TOP, *_rooms(scalenet_gp), NODES, *_rooms(scalenet_gp.nodes)]


def _rooms(floor: ModuleType) -> list[str]:
    found = [room.name for room in pkgutil.iter_modules(floor.__path__, f"{floor.__name__}.") if room.ispkg]
    return [room for room in found if room not in (NODES, "scalenet_gp.pipelines") and _documented(room)]


def _documented(face: str) -> list[str]:
    """Return the public names of a face that no other face shows: each is on one page."""
    module = importlib.import_module(face)
    return [name for name in getattr(module, "__all__", ()) if _owner(face, name, getattr(module, name)) == face]


def _owner(face: str, name: str, item: object) -> str:
    if name in scalenet_gp.__all__ and getattr(scalenet_gp, name) is item:
        return TOP
    source = getattr(item, "__module__", face)
    if not isinstance(source, str) or not source.startswith(TOP):
        return face
    if name in scalenet_gp.nodes.__all__ and source.startswith(f"{NODES}."):
        return NODES
    parts = source.split(".")
    room = ".".join(parts[: 3 if source.startswith(f"{NODES}.") else 2])
    return room if name in getattr(importlib.import_module(room), "__all__", ()) else face


def _first_line(face: str) -> str:
    return (inspect.getdoc(importlib.import_module(face)) or "").partition("\n")[0]


def _api_page(face: str) -> str:
    module = importlib.import_module(face)
    hidden = [name for name in module.__all__ if name.startswith("__") or name not in _documented(face)]
    excluded = f"\n   :exclude-members: {', '.join(hidden)}" if hidden else ""
    note = LETTERS if face == TOP else ""
    return f"# {face}\n{note}\n```{{eval-rst}}\n.. automodule:: {face}\n   :show-inheritance:{excluded}\n```\n"


def _api_index() -> str:
    rows = [
        f"| [`{face}`]({face.removeprefix('scalenet_gp.')}.md) | {_first_line(face)} | {_names(face)} |"
        for face in faces()
    ]
    links = "\n".join(face.removeprefix("scalenet_gp.") for face in faces())
    return (
        "# API\n\nThe public names of the package and of its rooms. Import a name from the module of its row.\n"
        "Nothing else is public, also nothing of `scalenet_gp.pipelines`, whose interface is the command line.\n\n"
        "| module | contains | names |\n|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\n```{{toctree}}\n:hidden:\n\n{links}\n```\n"
    )


def _names(face: str) -> str:
    return ", ".join(f"{{py:obj}}`~{face}.{name}`" for name in _documented(face) if not name.startswith("__"))


# The command line


def command_line() -> str:
    """Return the page of all commands and their options."""
    text = [
        "# The command line\n",
        "`scalenet-gp COMMAND --help` prints the same. Errors of the user are printed in one line, with exit code 1.\n",
    ]
    for path, command in _commands(typer.main.get_command(app), "scalenet-gp"):
        text.append(f"## `{path}`\n\n{_plain(command.help or '')}\n")
        rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        if rows:
            text += ["| argument | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(text)


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    nested = getattr(command, "commands", None)
    if nested is None:
        yield path, command
        return
    for name, below in nested.items():
        if not below.hidden:
            yield from _commands(below, f"{path} {name}")


def _row(parameter: Any) -> str:
    option = parameter.param_type_name == "option"
    flags = [*parameter.opts, *parameter.secondary_opts] if option else [parameter.name.upper()]
    default = "" if parameter.default in (None, (), []) or callable(parameter.default) else f"`{parameter.default}`"
    shown = "required" if parameter.required else default
    return (
        f"| {', '.join(f'`{flag}`' for flag in flags)} | {shown} | {_plain(getattr(parameter, 'help', None) or '')} |"
    )


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\[/?[a-z ]+\]", "", text)).replace("|", "\\|").strip()


# Errors


def error_table() -> str:
    """Return the page of the package's own errors."""
    rows = []
    for name in errors.__all__:
        kind = getattr(errors, name)
        builtin = [base.__name__ for base in kind.__bases__ if base.__module__ == "builtins" and base is not Exception]
        rows.append(f"| `{name}` | {', '.join(f'`{base}`' for base in builtin)} | {_sentence(kind)} |")
    intro = (inspect.getdoc(errors) or "").partition("\n\n")[2]
    intro = re.sub(r":\w+:`(\w+)`", r"`\1`", intro).replace("``", "`")
    return (
        f"# Errors\n\n{_sentence(errors)} They stand in `scalenet_gp.errors`.\n\n{intro}\n\n"
        "| error | is also a | is raised when |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def _sentence(item: object) -> str:
    return re.sub(r"\s+", " ", (inspect.getdoc(item) or "").partition("\n\n")[0])


# Networks


def write_network_figures() -> None:
    """Write the figures of all kinds of networks at 8 nm, each with its defaults, as predicted on this machine."""
    with NETWORKS.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for kind in network_kinds():
            net = build_kind(kind)
            figures = survey_network(kind, net, 64)
            smallest = predict_cost(net.graph, net.smallest_plan, training=True).peak
            memory = (f"{size / 2**20:.0f}" for size in (smallest, figures.memory))
            field = format_size(figures.field_of_view)
            rows.writerow([kind, figures.parameters, f"{figures.macs / 1e3:.1f}", field, *memory, figures.tiles])


def network_gallery() -> str:
    """Return the page of all kinds of networks."""
    with NETWORKS.open(encoding="utf-8", newline="") as file:
        rows = {row["kind"]: row for row in csv.DictReader(file)}
    measured = _evidence()
    text = [
        "# Networks\n",
        "Every `kind` of `network` in run files, with its defaults: voxels of 8 nm, those of several scales with 32 nm",
        "as well. `scalenet-gp networks` prints the table for other voxels and sizes, `scalenet-gp inspect --network",
        "hrnet` every tensor of one. A step is one of training a single sample on one thread, without its optimizer;",
        "memory is predicted. The last figures are those of [the evidence](../evidence/index.md): mean Dice, and the",
        "share of right kinds, which only context tells, in 2D and with as many levels as that page says.\n",
        "| kind | parameters | kMAC per voxel | field of view (nm) | smallest step (MiB) | step of 64³ (MiB) "
        "| Dice, kind | tiles |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for kind, row in rows.items():
        shown = [f"{int(row['parameters']):,}", *(row[column] for column in COLUMNS[2:6])]
        tiles = "yes" if row["tiles"] == "True" else "no"
        text.append(f"| [`{kind}`](#{kind}) | {' | '.join(shown)} | {measured.get(kind, '')} | {tiles} |")
    text.append(
        "\nThe pictures show the nodes from left to right, each at the height of its voxel size. In networks that\n"
        "tile, tiles equal the whole; of the others, overlapping tiles are blended."
    )
    for kind in rows:
        builder = f"build_{kind}"
        owner = "scalenet_gp" if builder in scalenet_gp.__all__ else "scalenet_gp.networks"
        about = re.sub(r":\w+:`[.~]*(\w+)`", r"`\1`", _sentence(getattr(networks, builder))).removeprefix("Return ")
        text.append(
            f"\n## {kind}\n\n{{py:func}}`~{owner}.{builder}`: {about}\n\n"
            f"```{{image}} /_build/figures/network_{kind}.svg\n:alt: The nodes of a network of kind {kind}\n```"
        )
    return "\n".join(text) + "\n"


def _evidence() -> dict[str, str]:
    """Return the scores of each kind of network in the evidence, over its seeds; of several sides the best."""
    sides = yaml.safe_load(SIDES.read_text(encoding="utf-8"))["sides"]
    last: dict[str, dict[str, dict[str, str]]] = {}
    with (DOCS / "evidence" / "models.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):  # the points in time of a run follow one another
            last.setdefault(row["side"], {})[row["seed"]] = row
    best: dict[str, tuple[float, str]] = {}
    for name, runs in last.items():
        if sides[name]["kind"] == "ours":
            dice, kind = (fmean(float(run[score]) for run in runs.values()) for score in ("mean", "kind"))
            of = sides[name].get("builder", "scalenet")
            best[of] = max(best.get(of, (0.0, "")), (dice, f"{dice:.3f}, {kind:.3f}"))
    return {kind: shown for kind, (_, shown) in best.items()}


if __name__ == "__main__":
    if sys.argv[1:] == ["networks"]:
        write_network_figures()
    write()
