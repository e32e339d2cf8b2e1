"""Import and export from the command line."""

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli import app
from tests.pipelines.exchange.files import plain_tiff, raw


def test_a_stack_goes_in_and_out(tmp_path):
    source = plain_tiff(tmp_path / "a.tif", raw())
    made, out = tmp_path / "a.zarr", tmp_path / "a.h5"
    options = ["--voxel-size", "40,4.6,5", "--corner", "80,46,50", "--levels", "1", "--memory", "0.01"]
    result = CliRunner().invoke(app, ["import", str(source), str(made), *options])
    assert (result.exit_code, result.stdout) == (0, f"imported OME-Zarr  {made}\n")
    result = CliRunner().invoke(app, ["export", str(made), str(out), "--labels"])
    assert (result.exit_code, result.stdout) == (0, f"exported volume  {out}\n")
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["volumes/labels/ids"][:], raw())
        assert file["volumes/labels/ids"].attrs["resolution"].tolist() == [40, 4.6, 5]


@pytest.mark.parametrize("option", ["--voxel-size", "--corner"])
def test_lengths_are_numbers(tmp_path, option):
    result = CliRunner().invoke(app, ["import", str(tmp_path / "a.tif"), str(tmp_path / "a.zarr"), option, "4,four,4"])
    assert isinstance(result.exception, ConfigError)
    assert f"{option} is a number, or one per axis (z, y, x) as 40,4,4, not '4,four,4'" in str(result.exception)
