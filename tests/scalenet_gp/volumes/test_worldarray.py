"""The placement rules that CellMap's tools share, as the cases of worldarray's source archive state them.

The environment variable SCALENET_GP_WORLDARRAY names the archive (``pip download --no-binary worldarray --no-deps
worldarray``) or the folder that it was unpacked into.
"""

import json
import os
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts

from scalenet_gp.volumes import MultiscaleImage
from tests.scalenet_gp.volumes.volume_files import write_json, write_n5, write_zarr2, write_zarr3

CASES = "tests/fixtures/metadata.json"
SOURCE = os.environ.get("SCALENET_GP_WORLDARRAY", "")
WRITERS = {"zarr2": write_zarr2, "zarr3": write_zarr3, "n5": write_n5}


def read_cases():
    if not SOURCE:
        return []
    if Path(SOURCE).is_dir():
        return json.loads(Path(SOURCE, CASES).read_text())["cases"]
    with tarfile.open(SOURCE) as archive:
        (name,) = (name for name in archive.getnames() if name.endswith(CASES))
        return json.load(archive.extractfile(name))["cases"]


def build(folder, case):
    """Write the volume of a case, and return the path to open."""
    data = np.arange(np.prod(case["shape"])).reshape(case["shape"]).astype(case.get("dtype", "uint16"))
    if case["format"] == "precomputed":
        scale = {"key": "s0", "size": data.shape[::-1], "chunk_size": data.shape[::-1], "encoding": "raw"}
        specification = {
            "driver": "neuroglancer_precomputed",
            "kvstore": f"file://{folder}/",
            "multiscale_metadata": {"type": "image", "data_type": data.dtype.name, "num_channels": 1},
            "scale_metadata": scale | {key: case[key] for key in ("resolution", "voxel_offset")},
        }
        ts.open(specification, create=True).result().write(data.T[..., np.newaxis]).result()
        return folder / "s0", data
    attributes = case.get("group_attrs") or {}
    if case["format"] == "zarr2":
        write_json(folder, ".zgroup", {"zarr_format": 2})
        write_json(folder, ".zattrs", attributes)
    elif case["format"] == "zarr3":
        write_json(folder, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})
    else:
        write_json(folder, "attributes.json", {"n5": "2.5.0"} | attributes)
    path = folder / case.get("array", "s0")
    WRITERS[case["format"]](path, data, case.get("attrs"))
    if case.get("dimension_names"):
        array = json.loads((path / "zarr.json").read_text())
        write_json(path, "zarr.json", array | {"dimension_names": case["dimension_names"]})
    return path, data


@pytest.mark.skipif(not SOURCE, reason="SCALENET_GP_WORLDARRAY does not name the source archive of worldarray")
@pytest.mark.parametrize("case", read_cases(), ids=lambda case: case["name"])
def test_no_case_is_read_otherwise(tmp_path, case):
    path, data = build(tmp_path / "v", case)
    expected = case["expect"]
    units = expected["units"][-3:]
    options = {} if all(units) else {"unit": "nanometer"}
    if set(expected["voxel_size"]) == {1} and not any(units):  # there it is 1 of no unit, as nothing says it
        with pytest.raises(
            ValueError, match=r"(no voxel size|an 'offset' belongs to).* state it in nm, for example voxel_size="
        ):
            MultiscaleImage.open(path)
        options = {"voxel_size": (1, 1, 1)}
    volume = MultiscaleImage.open(path, **options)
    nm = [{"": 1, "nm": 1, "nanometer": 1, "um": 1000, "micrometer": 1000}[unit] for unit in units]
    size, position = (
        tuple(Fraction(str(value)) * unit for value, unit in zip(expected[key][-3:], nm, strict=True))
        for key in ("voxel_size", "translation")
    )
    (level,) = volume.levels
    assert level.voxel_size == size
    assert tuple(b + v / 2 for b, v in zip(level.begin, level.voxel_size, strict=True)) == position
    world = volume.world()
    voxel = world.size(level.voxel_size)
    read = volume.read(volume.roi(voxel, world), voxel, world)
    np.testing.assert_array_equal(read, data if data.ndim == 4 else data[np.newaxis])
