"""The files around the code agree with one another: Makefile, workflow, hooks, citation, notebooks, version."""

import re
import subprocess
from itertools import product
from pathlib import Path

import nbformat
import pytest
import yaml

import scalenet_gp

REPOSITORY = Path(__file__).parents[1]
TARGETS = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
LARGEST = 500 * 1024


def read(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


def commands(job):
    """Every command of a job of the workflow, for each combination of its matrix."""
    matrix = job["strategy"]["matrix"]
    for values in product(*matrix.values()):
        chosen = dict(zip(matrix, values, strict=True))
        for step in job["steps"]:
            command = step.get("run", "")
            for name, value in chosen.items():
                command = command.replace(f"${{{{ matrix.{name} }}}}", value)
            yield command


def test_the_workflow_runs_targets_of_the_makefile_with_every_python():
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"].values()
    run = [command for job in jobs for command in commands(job) if command]
    assert all(command.startswith("make ") for command in run)
    assert {command.split()[1] for command in run} == {"lint", "test", "docs", "build"} <= TARGETS
    assert {command.partition("PYTHON=")[2] for command in run} == {"python3.11", "python3.12", "python3.13"}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", ".ci/run", ".pre-commit-config.yaml"])
def test_the_targets_that_a_file_names_exist(name):
    named = set(re.findall(r"\bmake ([a-z]+)(?=[`\s]*(?:$|[`#|,(]|PYTHON|\s{2,}))", read(name), re.MULTILINE))
    assert named <= TARGETS
    assert named or name == "README.md"


def test_every_target_but_clean_and_help_is_described_for_contributors():
    page = read("CONTRIBUTING.md")
    assert {target for target in TARGETS if f"`make {target}`" not in page} <= {"help", "clean"}


def test_hooks_use_the_tools_of_the_project():
    hooks = {
        hook["id"]: hook for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]
    }
    assert {"ruff", "ruff-format", "mypy", "nbstripout", "check-yaml", "check-toml"} <= hooks.keys()
    assert hooks["check-added-large-files"]["args"] == [f"--maxkb={LARGEST // 1024}"]
    assert "/.venv" in read(".gitignore") or ".venv*/" in read(".gitignore")


def tracked_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not in a git repository")
    return [path for path in map(REPOSITORY.joinpath, filter(None, listed.stdout.split("\0"))) if path.is_file()]


def test_no_file_is_large():
    assert [path for path in tracked_files() if path.stat().st_size > LARGEST] == []


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("notebooks/*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_stored_without_outputs(path):
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert code
    assert [cell.source for cell in code if cell.outputs or cell.execution_count] == []


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("notebooks/*.ipynb")), ids=lambda path: path.name)
def test_links_of_notebooks_lead_somewhere(path):
    links = re.findall(r"\]\((?!http)([^)]+)\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_version_stands_in_one_place_and_the_citation_and_changelog_name_it():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == scalenet_gp.__version__
    assert re.search(rf"^## {re.escape(scalenet_gp.__version__)} \(", read("CHANGELOG.md"), re.MULTILINE)
    assert '"' + scalenet_gp.__version__ + '"' not in read("setup.py")
