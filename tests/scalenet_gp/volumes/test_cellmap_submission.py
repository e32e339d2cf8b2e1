"""The zip file of a submission, read back by plain zarr."""

import zipfile
from itertools import pairwise

import numpy as np
import pytest
import zarr

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.volumes import SubmissionWriter, extract_class, open_array, submitted_classes

ATTRIBUTES = {"voxel_size": [1.74, 2.0, 2.0], "translation": [23837.13, 7599.0, 35999.0], "shape": [70, 5, 6]}


def write(path, values, dtype=np.uint16, planes=(0, 64, 70)):
    slabs = [values[begin:end] for begin, end in pairwise(planes)]
    with SubmissionWriter(path) as writer:
        writer.add("crop557", "mito", values.shape, dtype, slabs, ATTRIBUTES)
        writer.add("crop557", "ecs", (1, 1, 1), np.uint8, [np.zeros((1, 1, 1), np.uint8)], {})


def test_plain_zarr_reads_the_same_voxels_and_attributes(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (70, 5, 6))
    write(tmp_path / "submission.zip", values)
    with zipfile.ZipFile(tmp_path / "submission.zip") as file:
        file.extractall(tmp_path / "submission.zarr")
    group = zarr.open_group(str(tmp_path / "submission.zarr"), mode="r")
    array = group["crop557/mito"]
    assert array.dtype == np.uint16
    np.testing.assert_array_equal(array[:], values)
    assert dict(array.attrs) == ATTRIBUTES
    assert group["crop557/ecs"][:].tolist() == [[[0]]]
    assert (tmp_path / "submission.zarr" / "crop557" / "mito" / ".zarray").is_file()


def test_equal_arrays_make_equal_files(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, np.arange(70 * 30).reshape(70, 5, 6))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_class_is_found_and_copied_out_of_the_file(tmp_path):
    values = np.arange(70 * 30).reshape(70, 5, 6)
    write(tmp_path / "submission.zip", values)
    found = submitted_classes(tmp_path / "submission.zip")
    assert found == {("crop557", "mito"): "crop557/mito", ("crop557", "ecs"): "crop557/ecs"}
    with extract_class(tmp_path / "submission.zip", "crop557/mito") as folder:
        np.testing.assert_array_equal(open_array(folder)[:], values)
    assert not folder.exists()
    # a folder around everything is passed over
    with (
        zipfile.ZipFile(tmp_path / "submission.zip") as plain,
        zipfile.ZipFile(tmp_path / "wrapped.zip", "w") as wrapped,
    ):
        for name in plain.namelist():
            wrapped.writestr(f"submission.zarr/{name}", plain.read(name))
    folder = submitted_classes(tmp_path / "wrapped.zip")["crop557", "mito"]
    with extract_class(tmp_path / "wrapped.zip", folder) as copy:
        np.testing.assert_array_equal(open_array(copy)[:], values)


def test_what_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "submission.zip"
    with pytest.raises(ArgumentError, match="crop557/mito: a value does not fit into uint8"):
        write(path, np.full((70, 5, 6), 256), np.uint8)
    with pytest.raises(ArgumentError, match="64 planes for an array of 70"):
        write(path, np.zeros((70, 5, 6), int), planes=(0, 64))
    path.write_bytes(b"no zip")
    with pytest.raises(VolumeFormatError, match="not a zip file"):
        submitted_classes(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        submitted_classes(tmp_path / "other.zip")
