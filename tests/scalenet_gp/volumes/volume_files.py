"""Zarr 2, zarr 3 and N5 files for tests, byte by byte: nothing here shares code with the reader."""

import itertools
import json
from pathlib import Path

import numpy as np

from tests.scalenet_gp.volumes.ome_zarr_files import position_ramps

SHAPE = (4, 6, 8)
VOXEL = (50.0, 4.6, 5.24)
CORNER = (-25.0, 586.5, 0.25)


def ramps(factor=1, channels=True):
    """Every voxel's content is the position of its centre, along the three axes, or along x."""
    content = position_ramps([n // factor for n in SHAPE], [v * factor for v in VOXEL], CORNER)
    return content if channels else content[2]


def centre(factor=1):
    """The centre of the first voxel."""
    return [c + v * factor / 2 for c, v in zip(CORNER, VOXEL, strict=True)]


def write_json(folder, name, content):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


def write_n5(path, array, attributes=None, block=(3, 4, 5)):
    """``array`` is (..., z, y, x); on disk are axes x, y, z, ..., and big-endian blocks without padding."""
    block = (2,) * (array.ndim - len(block)) + block[-array.ndim :]
    own = {
        "dimensions": array.shape[::-1],
        "blockSize": block[::-1],
        "dataType": array.dtype.name,
        "compression": {"type": "raw"},
    }
    write_json(path, "attributes.json", own | (attributes or {}))
    for index, voxels in _chunks(array, block):
        header = np.array([0, array.ndim], ">u2").tobytes() + np.array(voxels.shape[::-1], ">u4").tobytes()
        _write(path, index[::-1], header + voxels.astype(voxels.dtype.newbyteorder(">")).tobytes())
    return path


def write_zarr2(path, array, attributes=None, chunk=3):
    """Chunks not compressed, padded to their full size, named 0.0.0; axes in C order."""
    metadata = {"zarr_format": 2, "shape": array.shape, "chunks": [chunk] * array.ndim, "dtype": array.dtype.str}
    write_json(path, ".zarray", metadata | {"compressor": None, "filters": None, "fill_value": 0, "order": "C"})
    if attributes is not None:
        write_json(path, ".zattrs", attributes)
    for index, voxels in _chunks(array, [chunk] * array.ndim):
        (Path(path) / ".".join(map(str, index))).write_bytes(_padded(voxels, chunk).tobytes())
    return path


def write_zarr3(path, array, attributes=None, chunk=3):
    """Chunks not compressed, padded to their full size, little-endian."""
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": array.shape,
        "data_type": array.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk] * array.ndim}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": attributes or {},
    }
    write_json(path, "zarr.json", metadata)
    for index, voxels in _chunks(array, [chunk] * array.ndim):
        _write(path, ("c", *index), _padded(voxels, chunk).tobytes())
    return path


def multiscale(scales, translations, axes="czyx", unit="nanometer"):
    """An OME-Zarr image; the axes before z, y, x are neither scaled nor shifted."""
    kinds = {"c": "channel", "t": "time"}
    datasets = []
    for i, (scale, translation) in enumerate(zip(scales, translations, strict=True)):
        leading = len(axes) - len(scale)
        transformations = [
            {"type": "scale", "scale": [1.0] * leading + list(scale)},
            {"type": "translation", "translation": [0.0] * leading + list(translation)},
        ]
        datasets.append({"path": f"s{i}", "coordinateTransformations": transformations})
    space = {"type": "space"} | ({"unit": unit} if unit else {})
    entries = [{"name": axis, "type": kinds[axis]} if axis in kinds else {"name": axis} | space for axis in axes]
    return {"name": "test", "axes": entries, "datasets": datasets}


def transform(factor=1, **changes):
    """COSEM's, of the ramps."""
    return {
        "axes": ["z", "y", "x"],
        "units": ["nm"] * 3,
        "scale": [v * factor for v in VOXEL],
        "translate": centre(factor),
    } | changes


def _chunks(array, chunk):
    for index in itertools.product(*(range(-(-n // c)) for n, c in zip(array.shape, chunk, strict=True))):
        yield index, array[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk, strict=True))]


def _padded(voxels, chunk):
    return np.pad(voxels, [(0, chunk - n) for n in voxels.shape])


def _write(path, keys, content):
    file = Path(path, *map(str, keys))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
