"""Start-up: heavy packages are imported only when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import scalenet_gp

HEAVY = ("daisy", "gunpowder", "matplotlib", "numba", "onnx", "scipy", "skimage", "tensorstore", "zarr")


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_package_itself_imports_next_to_nothing():
    modules = imported_by("import scalenet_gp")
    assert "torch" not in modules
    assert {name for name in modules if name.startswith("scalenet_gp.")} == {"scalenet_gp._version"}


def test_a_network_imports_torch_and_nothing_heavy_besides():
    modules = imported_by("import scalenet_gp; scalenet_gp.build_unet((8, 8), base_nc=1)")
    assert "torch" in modules
    assert not modules & {*HEAVY, "torch.utils.tensorboard"}


def test_names_are_found_and_listed():
    for name in scalenet_gp.__all__:
        assert getattr(scalenet_gp, name) is not None
    assert set(scalenet_gp.__all__) <= set(dir(scalenet_gp))
    with pytest.raises(AttributeError, match="has no attribute 'build_vnet'"):
        scalenet_gp.build_vnet  # noqa: B018
