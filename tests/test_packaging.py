"""The archives that are installed, and the packages that are declared."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
import setuptools

REPOSITORY = Path(__file__).parents[1]
FLOORS = {
    "scalenet_gp": [
        path
        for path in sorted((REPOSITORY / "scalenet_gp").rglob("*.py"))
        if path.relative_to(REPOSITORY).parts[1] not in ("nodes", "pipelines")
    ],
    "nodes": sorted((REPOSITORY / "nodes").rglob("*.py")),
    "pipelines": sorted((REPOSITORY / "pipelines").rglob("*.py")),
}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cc3d": "connected-components-3d",
    "funlib": "funlib.geometry",
    "lsd_lite": "lsd-lite",
    "ome_zarr_models": "ome-zarr-models",
    "psycopg2": "psycopg2-binary",
    "pydantic_core": "pydantic",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
NOT_IMPORTED = ("nodes", "pipelines", "tests")

# The folder comes before an editable install of the same package.
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import scalenet_gp

assert scalenet_gp.__file__.startswith(sys.argv[1]), scalenet_gp.__file__
def fail(name):
    raise
for module in pkgutil.walk_packages(scalenet_gp.__path__, "scalenet_gp.", onerror=fail):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
    print(module.name)
"""


def run(*command, cwd):
    result = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source archive and the wheel built from it, made of a copy, so that nothing is left in the repository."""
    copy = tmp_path_factory.mktemp("source")
    for folder in ("scalenet_gp", "nodes", "pipelines", "tests"):
        shutil.copytree(REPOSITORY / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in REPOSITORY.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy2(path, copy)
    out = tmp_path_factory.mktemp("archives")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=copy)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def names_in(archive):
    if archive.suffix == ".whl":
        return [PurePosixPath(name) for name in zipfile.ZipFile(archive).namelist()]
    with tarfile.open(archive) as tar:
        return [PurePosixPath(*PurePosixPath(name).parts[1:]) for name in tar.getnames()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_an_archive_holds_the_package_and_no_top_level_nodes_or_pipelines(archives, kind):
    names = names_in(archives[kind])
    assert not {name.parts[0] for name in names if name.parts} & set(NOT_IMPORTED)
    wanted = {PurePosixPath("scalenet_gp", "py.typed")}
    for floor, paths in FLOORS.items():
        above = [] if floor == "scalenet_gp" else ["scalenet_gp"]
        wanted |= {PurePosixPath(*above, *path.relative_to(REPOSITORY).parts) for path in paths}
    configs = (REPOSITORY / "pipelines" / "configs").rglob("*.yaml")
    wanted |= {PurePosixPath("scalenet_gp", *path.relative_to(REPOSITORY).parts) for path in configs}
    assert wanted <= set(names)


@pytest.mark.slow
def test_every_module_imports_from_an_installed_archive(archives, tmp_path):
    """The wheel, which was itself built from the unpacked source archive."""
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "--target", target, archives["wheel"], cwd=elsewhere)
    assert not [path for path in target.iterdir() if path.stem in NOT_IMPORTED]

    imported = run(sys.executable, "-P", "-c", IMPORT_ALL, target, cwd=elsewhere).split()
    expected = {path.relative_to(target).with_suffix("").parts for path in target.glob("scalenet_gp/**/*.py")}
    expected = {".".join(parts).removesuffix(".__init__") for parts in expected} - {"scalenet_gp"}
    assert set(imported) == expected
    assert {"scalenet_gp.nodes", "scalenet_gp.pipelines"} < expected


@pytest.mark.parametrize("name", ["nodes", "pipelines"])
def test_the_folders_beside_the_package_say_how_to_import_them(name):
    result = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert re.fullmatch(rf"ImportError: import scalenet_gp\.{name}, not {name}: .*", result.stderr.splitlines()[-1])


def imports(path):
    """The modules that a file imports, wherever in it, by their absolute names."""
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{path}:{statement.lineno} is a relative import"
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


@pytest.fixture
def metadata(monkeypatch):
    """The arguments that setup.py gives setuptools."""
    given = {}
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path("setup.py")
    return given


def test_what_is_imported_is_declared_and_nothing_else(metadata):
    """The third-party packages that the code imports are those that setup.py requires."""
    modules = {name for paths in FLOORS.values() for path in paths for name in imports(path)}
    packages = {name.split(".")[0] for name in modules} - {*sys.stdlib_module_names, "scalenet_gp"}
    packages.discard("pytest")  # scalenet_gp.testing needs it, of the extra "test"
    packages.discard("psycopg2")  # graphs in PostgreSQL need it, of the extra "postgresql"
    if any(name.startswith("torch.utils.tensorboard") for name in modules):
        packages.add("tensorboard")
    assert {DISTRIBUTIONS.get(name, name) for name in packages} == {
        distribution(line) for line in metadata["install_requires"]
    }


def test_imports_of_tests_and_benchmarks_are_declared(metadata):
    """The third-party packages that tests and benchmarks import are requirements, of the package or of "test"."""
    paths = [path for folder in ("tests", "benchmarks") for path in (REPOSITORY / folder).rglob("*.py")]
    packages = {name.split(".")[0] for path in paths for name in imports(path)} - {*sys.stdlib_module_names}
    packages -= {"scalenet_gp", "tests", *(path.stem for path in paths)}
    packages.discard("leibnetz")  # make install installs it without its dependencies
    packages.discard("monai")  # what imports it is skipped, or says so, where it is not installed
    declared = {distribution(line) for line in metadata["install_requires"] + metadata["extras_require"]["test"]}
    assert {DISTRIBUTIONS.get(name, name) for name in packages} <= declared


def distribution(requirement):
    """The name of a requirement."""
    return re.match(r"[\w.-]+", requirement)[0]


@pytest.mark.parametrize("extra", ["test", "docs", "dev"])
def test_what_is_declared_has_an_exact_version(metadata, extra):
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = {distribution(line).lower() for line in lines if re.match(r"[\w.-]+==", line)}
    declared = {distribution(line).lower() for line in metadata["install_requires"] + metadata["extras_require"][extra]}
    assert declared <= exact
