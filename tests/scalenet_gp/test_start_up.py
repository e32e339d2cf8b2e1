"""Start-up: heavy packages are imported only when they are used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import scalenet_gp

HEAVY = ("daisy", "gunpowder", "matplotlib", "numba", "onnx", "scipy", "skimage", "tensorstore", "zarr")
LATE = (
    *("cc3d", "edt", "fastremap", "matplotlib", "numba", "onnx", "scipy", "skimage", "tensorboard"),
    "torch.utils.tensorboard",
)
"""Packages that no room imports with itself. gunpowder imports some of them for itself."""

STEPS = {
    "package": "import scalenet_gp",
    "network": "scalenet_gp.build_unet((8, 8), base_nc=1)",
    "training": "import scalenet_gp.training, scalenet_gp.inference, scalenet_gp.networks",
    "nodes": "import scalenet_gp.nodes",
    "pipelines": "import scalenet_gp.pipelines.training, scalenet_gp.pipelines.prediction",
}

# Runs the steps one after the other. After each it lists the modules that are imported, and the late packages that a
# file of ours was the one to import, whether or not they had been imported before.
PROGRAM = """
import builtins, json, sys

late, steps, plain, ours = json.loads(sys.argv[1]), json.loads(sys.argv[2]), builtins.__import__, set()

def watch(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    found = next((package for package in late if f"{name}.".startswith(f"{package}.")), None)
    if found and importer.startswith("scalenet_gp."):
        ours.add(f"{importer} imports {found}")
    return plain(name, globals, locals, fromlist, level)

builtins.__import__ = watch
for step, statement in steps.items():
    exec(statement)
    print(json.dumps([step, sorted(sys.modules), sorted(ours)]))
"""


@pytest.fixture(scope="module")
def imported():
    """The modules imported by each step of a process, and the late packages that our files have imported."""
    arguments = [json.dumps(LATE), json.dumps(STEPS)]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {step: (set(modules), ours) for step, modules, ours in map(json.loads, lines)}


def test_the_package_itself_imports_next_to_nothing(imported):
    modules, _ = imported["package"]
    assert "torch" not in modules
    assert {name for name in modules if name.startswith("scalenet_gp.")} == {"scalenet_gp._version"}


@pytest.mark.parametrize("step", ["network", "training"])
def test_networks_and_training_import_torch_and_nothing_heavy_besides(imported, step):
    modules, _ = imported[step]
    assert "torch" in modules
    assert not modules & {*HEAVY, *LATE}


@pytest.mark.parametrize("step", ["nodes", "pipelines"])
def test_no_room_imports_a_heavy_package_before_it_is_used(imported, step):
    modules, ours = imported[step]
    assert "gunpowder" in modules
    assert not ours
    assert not modules & {"numba", "torch.utils.tensorboard"}


def test_names_are_found_and_listed():
    for name in scalenet_gp.__all__:
        assert getattr(scalenet_gp, name) is not None
    assert set(scalenet_gp.__all__) <= set(dir(scalenet_gp))
    with pytest.raises(AttributeError, match="has no attribute 'build_vnet'"):
        scalenet_gp.build_vnet  # noqa: B018
