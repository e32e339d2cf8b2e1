"""The house: which room may import which, no cycle, faces only, and each file format or framework in its rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

# Rooms and the rooms that they import, typing included. A room is a folder; `nodes` and `pipelines` are those floors'
# own faces, `.config` is a room of the same floor. Every room may import `errors`.
ROOMS = {
    # scalenet_gp
    "errors": "",
    "scalenet_gp": "geometry graph leibnet networks",
    "analysis": "geometry graph kernels",
    "exchange": "geometry volumes",
    "geometry": "",
    "graph": "geometry kernels options",
    "inference": "graph kernels layers leibnet",
    "interop": "geometry graph layers leibnet",
    "kernels": "",
    "layers": "geometry graph kernels",
    "leibnet": "analysis graph kernels options serialization",
    "losses": "options",
    "metrics": "",
    "networks": "geometry graph layers leibnet options",
    "options": "geometry",
    "pictures": "",
    "segmentation": "kernels options",
    "serialization": "",
    "testing": "graph kernels leibnet",
    "tissue": "volumes",
    "training": "analysis geometry graph kernels layers leibnet losses metrics options pictures serialization",
    "volumes": "geometry kernels options pictures",
    # nodes
    "nodes": ".augment .predict .prefetch .samplers .sources .targets .train .write",
    "nodes.arrays": "graph leibnet",
    "nodes.augment": "geometry kernels options .requests",
    "nodes.cellmap": "geometry volumes .sources .targets",
    "nodes.chains": "",
    "nodes.predict": "graph kernels leibnet .arrays",
    "nodes.prefetch": "volumes .requests",
    "nodes.requests": "",
    "nodes.samplers": "geometry volumes .requests",
    "nodes.sources": "geometry volumes .requests",
    "nodes.targets": "geometry kernels losses volumes .requests .sources",
    "nodes.testing": "testing",
    "nodes.train": "graph leibnet losses training .arrays",
    "nodes.write": "geometry volumes",
    # pipelines
    "pipelines": "",
    "pipelines.blockwise": "kernels options serialization volumes .process",
    "pipelines.challenge": "geometry leibnet metrics options serialization volumes .config .data .prediction .process "
    ".segmentation",
    "pipelines.cli": "geometry kernels networks options tissue training volumes .blockwise .challenge .config .data .demo .evaluation .exchange .experiments .inspection .masks .measuring .planning .plots .prediction .process .reports .runs .segmentation .training .viewing",  # noqa: E501
    "pipelines.config": "geometry inference leibnet losses networks nodes.augment nodes.targets options segmentation "
    "serialization training volumes",
    "pipelines.data": "geometry graph inference layers leibnet nodes nodes.arrays nodes.augment nodes.sources options "
    "volumes .config",
    "pipelines.demo": "training volumes .config .data .evaluation .experiments .plots .prediction .process .runs .segmentation .training",  # noqa: E501
    "pipelines.evaluation": "geometry leibnet losses metrics options nodes nodes.arrays nodes.chains nodes.prefetch serialization training volumes .blockwise .config .data .plots .prediction .process .runs .segmentation",  # noqa: E501
    "pipelines.exchange": "exchange geometry volumes .blockwise",
    "pipelines.experiments": "analysis geometry graph kernels leibnet metrics options serialization training volumes .blockwise .config .data .evaluation .inspection .process .runs .segmentation .training",  # noqa: E501
    "pipelines.inspection": "analysis geometry graph leibnet networks nodes nodes.chains options training volumes .blockwise .config .data .evaluation .plots .process .training",  # noqa: E501
    "pipelines.measuring": "geometry options segmentation serialization volumes .blockwise",
    "pipelines.masks": "geometry tissue volumes .plots .process",
    "pipelines.planning": "analysis geometry graph leibnet networks nodes options serialization volumes .blockwise .config .data .process",  # noqa: E501
    "pipelines.plots": "geometry nodes nodes.augment nodes.chains nodes.samplers pictures volumes .config .data",
    "pipelines.prediction": "geometry inference kernels leibnet nodes.chains options serialization training volumes .blockwise .config .data",  # noqa: E501
    "pipelines.process": "",
    "pipelines.reports": "analysis geometry leibnet metrics options pictures serialization training volumes .config .data .evaluation .experiments .plots .runs",  # noqa: E501
    "pipelines.runs": "options serialization .config .process",
    "pipelines.segmentation": "geometry options segmentation serialization training volumes .blockwise .config",
    "pipelines.training": "geometry graph kernels leibnet nodes nodes.chains nodes.prefetch serialization training "
    "volumes .config .data .evaluation .process .runs",
    "pipelines.viewing": "volumes .segmentation",
}

# Packages that only some rooms may import; a floor's name stands for all of its rooms.
PACKAGES = {
    "daisy": "pipelines",
    "gunpowder": "nodes pipelines",
    "numcodecs": "volumes",
    "pytest": "testing",
    "tensorstore": "volumes",
    "zarr": "volumes",
}


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        source: the module that imports.
        line: the line.
        module: the module that is imported from.
        name: the imported name; empty for a module as a whole.
    """

    source: str
    line: int
    module: str
    name: str

    def __str__(self) -> str:
        return f"{path_of(self.source)}:{self.line} imports {self.name or 'all'} of {self.module}"


@cache
def modules() -> dict[str, Path]:
    """The files of the package by module name."""
    files = {}
    for floor in ("scalenet_gp", "nodes", "pipelines"):
        for path in sorted((REPOSITORY / floor).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            if floor == "scalenet_gp" and parts[1] in ("nodes", "pipelines"):
                continue  # the links
            parts = parts if floor == "scalenet_gp" else ("scalenet_gp", *parts)
            files[".".join(parts).removesuffix(".__init__")] = path
    return files


def path_of(module: str) -> str:
    return str(modules()[module].relative_to(REPOSITORY))


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports() -> tuple[Import, ...]:
    """All imports of the package, wherever in a file and for whatever purpose."""
    return tuple(found for module in modules() for found in imports_of(module))


def imports_of(module: str) -> Iterator[Import]:
    for statement in ast.walk(tree(module)):
        if isinstance(statement, ast.Import):
            yield from (Import(module, statement.lineno, alias.name, "") for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{path_of(module)}:{statement.lineno} is a relative import"
            for alias in statement.names:
                whole = f"{statement.module}.{alias.name}"
                if whole in modules() and alias.name not in public_names(str(statement.module)):
                    yield Import(module, statement.lineno, whole, "")
                else:
                    yield Import(module, statement.lineno, str(statement.module), alias.name)


def room_of(module: str) -> str:
    """The room of a module: ``graph`` of ``scalenet_gp.graph.plan``, ``nodes.train`` of ``scalenet_gp.nodes.train``."""
    parts = module.split(".")[1:]
    if not parts or parts[0] == "_version":
        return "scalenet_gp"
    return ".".join(parts[:2]) if parts[0] in ("nodes", "pipelines") else parts[0]


def whole_name(other: str, room: str) -> str:
    """The name of a room of the table: ``.config`` is on the floor of ``room``."""
    return f"{room.split('.')[0]}{other}" if other.startswith(".") else other


def face_of(room: str) -> str:
    return "scalenet_gp" if room == "scalenet_gp" else f"scalenet_gp.{room}"


@cache
def public_names(module: str) -> frozenset[str]:
    """The ``__all__`` of a module."""
    for statement in tree(module).body if module in modules() else []:
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == ["__all__"]:
            return frozenset(ast.literal_eval(statement.value))
    return frozenset()


def between_rooms() -> list[Import]:
    ours = [found for found in imports() if found.module.split(".")[0] == "scalenet_gp"]
    return [found for found in ours if room_of(found.source) != room_of(found.module)]


def order(graph: dict[str, set[str]]) -> None:
    """Fail if the graph has a cycle, and name it."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"there is a cycle: {' <- '.join(error.args[1])}")


def test_rooms_import_as_the_table_says():
    found: dict[str, set[str]] = {room_of(module): set() for module in modules()}
    for one in between_rooms():
        found[room_of(one.source)].add(room_of(one.module))
    table = {room: {whole_name(other, room) for other in others.split()} for room, others in ROOMS.items()}
    unsaid = [
        str(one)
        for one in between_rooms()
        if room_of(one.module) not in {"errors", *table.get(room_of(one.source), ())}
    ]
    assert not unsaid, "not in the table:\n" + "\n".join(unsaid)
    unused = {room: sorted(others - found[room]) for room, others in table.items() if others - found[room]}
    assert not unused, "in the table, not imported"
    assert set(table) == set(found)


def test_there_is_no_cycle_of_rooms():
    graph: dict[str, set[str]] = {}
    for one in between_rooms():
        graph.setdefault(room_of(one.source), set()).add(room_of(one.module))
    order(graph)


def test_there_is_no_cycle_of_files():
    graph: dict[str, set[str]] = {}
    for one in imports():
        if one.module in modules():
            graph.setdefault(one.source, set()).add(one.module)
    order(graph)


def test_other_rooms_are_entered_through_their_faces():
    wrong = []
    for one in between_rooms():
        face = face_of(room_of(one.module))
        if one.module != face:
            wrong.append(f"{one}, which is behind the face {face}")
        elif one.name and one.name not in public_names(face):
            wrong.append(f"{one}, which is not in its __all__")
    assert not wrong, "\n" + "\n".join(wrong)


def test_within_a_room_files_are_imported_not_the_face():
    wrong = [
        str(one)
        for one in imports()
        if one.source != one.module
        and "__main__" not in one.source
        and one.module == face_of(room_of(one.source))
        and one.module in modules()
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_imported_only_in_its_rooms(package):
    rooms = PACKAGES[package].split()
    users = [one for one in imports() if one.module.split(".")[0] == package]
    wrong = [
        str(one) for one in users if room_of(one.source) not in rooms and room_of(one.source).split(".")[0] not in rooms
    ]
    assert not wrong, "\n" + "\n".join(wrong)
    assert users
