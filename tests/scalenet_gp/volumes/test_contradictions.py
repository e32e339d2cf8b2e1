"""Metadata that contradict each other, or the files beside them, are refused when a volume is opened."""

import json

import numpy as np
import pytest

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.volumes import MultiscaleImage, MultiscaleWriter


@pytest.fixture
def volume(tmp_path):
    data = np.arange(16**3, dtype=np.uint8).reshape(16, 16, 16)
    layout = {"voxel_size": (8,) * 3, "corner": (0,) * 3, "shape": data.shape, "dtype": data.dtype, "chunks": (8,) * 3}
    with MultiscaleWriter(tmp_path / "v", **layout) as writer:
        writer.write((0, 0, 0), data)
    return tmp_path / "v"


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_chunks_with_other_names_than_the_metadata_say_would_be_read_as_empty(volume):
    edit(volume / "s0" / ".zarray", dimension_separator=".")
    with pytest.raises(VolumeFormatError, match=r"s0: .* dimension_separator says that '\.' is between .* it is '/'"):
        MultiscaleImage.open(volume)
    flat = volume / "s0"
    for chunk in [path for path in flat.rglob("*") if path.is_file() and path.name.isdecimal()]:
        chunk.rename(flat / ".".join(chunk.relative_to(flat).parts))
    opened = MultiscaleImage.open(volume)  # folders without chunks are left
    assert opened.levels[0].shape == (16, 16, 16)
    for folder in [path for path in flat.iterdir() if path.is_dir()]:
        for below in folder.iterdir():
            below.rmdir()
        folder.rmdir()
    edit(volume / "s0" / ".zarray", dimension_separator="/")
    with pytest.raises(VolumeFormatError, match=r"dimension_separator says that '/' is between .* it is '\.'"):
        MultiscaleImage.open(volume)


def test_chunks_of_zarr_3_have_the_names_that_it_says(tmp_path):
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [8, 8, 8],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 8, 8]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes"}],
        "fill_value": 0,
        "attributes": {"resolution": [8, 8, 8]},
    }
    (tmp_path / "zarr.json").write_text(json.dumps(array))
    (tmp_path / "c" / "0" / "0").mkdir(parents=True)
    (tmp_path / "c" / "0" / "0" / "0").write_bytes(bytes(512))
    assert MultiscaleImage.open(tmp_path).levels[0].shape == (8, 8, 8)
    for encoding in ({"name": "default", "configuration": {"separator": "."}}, {"name": "v2"}):
        edit(tmp_path / "zarr.json", chunk_key_encoding=encoding)
        if encoding["name"] == "v2":  # names that say nothing of chunks are ignored
            assert MultiscaleImage.open(tmp_path).levels[0].shape == (8, 8, 8)
        else:
            with pytest.raises(VolumeFormatError, match=r"chunk_key_encoding says that '\.' is between"):
                MultiscaleImage.open(tmp_path)


def test_metadata_of_n5_beside_those_of_zarr_agree(volume):
    attributes = volume / "attributes.json"
    for size, fits in ((8, True), (4, False)):
        resolution = {"dimensions": [size] * 3, "unit": "nm"}
        attributes.write_text(json.dumps({"pixelResolution": resolution, "downsamplingFactors": [[1, 1, 1]]}))
        if fits:
            assert MultiscaleImage.open(volume).levels[0].voxel_size == (8, 8, 8)
        else:
            with pytest.raises(VolumeFormatError, match=r"say voxels of 8 × 8 × 8 nm, and pixelResolution"):
                MultiscaleImage.open(volume)


def test_an_array_without_voxels_is_none(volume):
    edit(volume / "s0" / ".zarray", shape=[16, 16, 0])
    with pytest.raises(VolumeFormatError, match=r"s0 has no voxels: its shape is \(16, 16, 0\)"):
        MultiscaleImage.open(volume)


def test_a_label_selects_where_all_channels_are_named(tmp_path):
    data = np.zeros((2, 8, 8, 8), np.uint8)
    layout = {"voxel_size": (8,) * 3, "corner": (0,) * 3, "shape": (8,) * 3, "dtype": data.dtype, "chunks": (8,) * 3}
    with MultiscaleWriter(tmp_path / "v", channels=("a", "b"), **layout) as writer:
        writer.write((0, 0, 0), data)
    assert MultiscaleImage.open(tmp_path / "v", select={"c": "b"}).channels == 1
    attributes = json.loads((tmp_path / "v" / ".zattrs").read_text())
    attributes["omero"]["channels"].pop(0)
    (tmp_path / "v" / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(VolumeFormatError, match=r"axis c has 2 entries, and its metadata name 1, b: select"):
        MultiscaleImage.open(tmp_path / "v", select={"c": "b"})
    assert MultiscaleImage.open(tmp_path / "v", select={"c": 1}).channels == 1
