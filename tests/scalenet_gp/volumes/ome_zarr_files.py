"""OME-Zarr 0.4 files for tests, with metadata written by hand: nothing here shares code with the reader's."""

import json
from pathlib import Path

import numpy as np

from scalenet_gp.volumes.array_creation import create_array

VNC = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "vnc.zarr"


def write_multiscale(path, arrays, scales, translations=None, *, axes="zyx", unit="nanometer", chunk=8, group=None):
    """A pyramid of ``arrays`` named s0, s1, ...; no ``translations`` means that none are stored."""
    path = Path(path)
    path.mkdir(parents=True)
    leading = [1.0] * (len(axes) - len(scales[0]))
    datasets = []
    for i, (array, scale) in enumerate(zip(arrays, scales, strict=True)):
        create_array(path / f"s{i}", array.shape, (chunk,) * array.ndim, array.dtype)[...] = array
        transformations = [{"type": "scale", "scale": leading + list(scale)}]
        if translations is not None:
            shift = [0.0 for _ in leading] + list(translations[i])
            transformations.append({"type": "translation", "translation": shift})
        datasets.append({"path": f"s{i}", "coordinateTransformations": transformations})
    entries = [
        {"name": "c", "type": "channel"} if axis == "c" else {"name": axis, "type": "space", "unit": unit}
        for axis in axes
    ]
    multiscale = {"version": "0.4", "name": path.name, "axes": entries, "datasets": datasets}
    if group is not None:
        multiscale["coordinateTransformations"] = group
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps({"multiscales": [multiscale]}))
    return path


def edit_metadata(path, edit):
    """Apply ``edit`` to the first multiscale of the stored attributes, in place."""
    file = Path(path) / ".zattrs"
    attributes = json.loads(file.read_text())
    edit(attributes["multiscales"][0])
    file.write_text(json.dumps(attributes))


def position_ramps(shape, voxel_size, corner):
    """(axis, z, y, x): the physical position of every voxel's centre, one channel per axis."""
    centres = [c + v * (np.arange(n) + 0.5) for n, v, c in zip(shape, voxel_size, corner, strict=True)]
    return np.stack(np.meshgrid(*centres, indexing="ij"))
