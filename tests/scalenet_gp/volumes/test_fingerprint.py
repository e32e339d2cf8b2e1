"""Fingerprints: the same for a moved volume, another one for other voxels, whatever the format."""

import json
import shutil

import numpy as np
import pytest

from scalenet_gp.volumes import MultiscaleImage, MultiscaleWriter, VolumeFingerprint


def written(path, data, voxel=(8, 8, 8), chunks=(16, 16, 16)):
    with MultiscaleWriter(
        path, voxel_size=voxel, corner=(0, 0, 0), shape=data.shape, dtype=data.dtype, chunks=chunks
    ) as w:
        w.write((0, 0, 0), data)
    return VolumeFingerprint.of(MultiscaleImage.open(path))


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).integers(0, 255, (40, 40, 40), dtype=np.uint8)


def test_a_volume_that_was_moved_or_stored_in_other_chunks_is_the_same(tmp_path, data):
    first = written(tmp_path / "a", data)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    moved = VolumeFingerprint.of(MultiscaleImage.open(tmp_path / "b"))
    assert moved.path != first.path
    assert moved.differences(first) == written(tmp_path / "c", data, chunks=(32, 8, 40)).differences(first) == []


def test_differences_are_named(tmp_path, data):
    first = written(tmp_path / "a", data)
    other = data.copy()
    other[0, 0, 0] += 1
    assert first.differences(written(tmp_path / "b", other)) == ["the voxels differ"]
    assert first.differences(written(tmp_path / "c", data, (8, 4, 4))) == ["voxel size: 8 × 8 × 8 and 8 × 4 × 4"]
    assert first.differences(written(tmp_path / "d", data.astype(np.uint16)[1:])) == [
        "shape: 40 × 40 × 40 and 39 × 40 × 40",
        "dtype: uint8 and uint16",
    ]


def test_it_is_plain_values(tmp_path, data):
    made = written(tmp_path / "a", data, ("4.6", 8, 4))
    assert VolumeFingerprint.model_validate(json.loads(made.model_dump_json())) == made


def test_blocks_that_cannot_be_read_are_not_compared(tmp_path, data):
    first = written(tmp_path / "a", data)
    chunk = tmp_path / "a" / "s0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:9])
    broken = VolumeFingerprint.of(MultiscaleImage.open(tmp_path / "a"))
    assert broken.voxels[0] is None
    assert first.differences(broken) == broken.differences(first) == []
