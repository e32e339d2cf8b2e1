"""Predictions of a class, in every form in which they lie on the disk."""

from fractions import Fraction

import numpy as np
import pytest

from scalenet_gp.errors import LatticeError, VolumeFormatError
from scalenet_gp.volumes import (
    ClassPrediction,
    CropLattice,
    ImageLayout,
    MultiscaleArrayWriter,
    MultiscaleWriter,
    create_array,
    create_image,
)

EIGHT = (Fraction(8),) * 3
LATTICE = CropLattice(EIGHT, (0, 0, 0), (2, 3, 4))
VALUES = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4)


def container(path, sizes=(8,), classes=("mito", "ecs")):
    """Write the same as predict: an output a voxel size, a channel a class, fractions in uint8; and variances."""
    for number, size in enumerate(sizes):
        shape = tuple(n * 8 // size for n in LATTICE.shape)
        for name, kind, stored in (("output", "fractions", "uint8"), ("output_variance", "quantities", "float32")):
            layout = ImageLayout((size,) * 3, (0,) * 3, shape, classes, stored, kind)
            create_image(path / f"{number}_{name}", layout)
            values = np.stack([np.full(shape, (index + number) / 4, np.float32) for index, _ in enumerate(classes)])
            MultiscaleArrayWriter.open(path / f"{number}_{name}").write((0, 0, 0), values)


def test_a_class_is_a_channel_of_the_output_of_the_nearest_voxel_size(tmp_path):
    container(tmp_path / "p.zarr", sizes=(8, 4, 2))
    found = {}
    for size in (32, 8, 6, 5, 4, 3, 1):
        prediction = ClassPrediction.find(tmp_path / "p.zarr", "ecs", (Fraction(size),) * 3)
        assert prediction.image.channels == 1
        assert prediction.scale == pytest.approx(1 / 255)
        found[size] = prediction.image.levels[0].voxel_size[0]
    assert found == {32: 8, 8: 8, 6: 8, 5: 4, 4: 4, 3: 4, 1: 2}
    assert ClassPrediction.find(tmp_path / "p.zarr", "nuc", EIGHT) is None
    assert ClassPrediction.find(tmp_path / "p.zarr" / "0_output", "nuc", EIGHT) is None
    mito = ClassPrediction.find(tmp_path / "p.zarr" / "2_output", "mito", EIGHT)
    assert np.unique(mito.read(LATTICE, 0.5)).tolist() == [1]
    assert np.unique(mito.read(LATTICE, 0.51)).tolist() == [0]
    assert ClassPrediction.find(tmp_path / "none", "mito", EIGHT) is None


def test_probabilities_are_cut_after_they_are_interpolated(tmp_path):
    layout = {"voxel_size": (8,) * 3, "corner": (0,) * 3, "shape": LATTICE.shape, "dtype": np.float32}
    with MultiscaleWriter(tmp_path / "mito", **layout) as writer:
        writer.write((0, 0, 0), VALUES)
    prediction = ClassPrediction.find(tmp_path / "mito", "mito", EIGHT)
    np.testing.assert_array_equal(prediction.read(LATTICE, 0.3), np.float32(0.3) <= VALUES)
    fine = CropLattice((8, 8, 4), (0, 0, 4), (2, 3, 6))  # every other voxel lies between two
    expected = np.stack(
        [0.75 * VALUES[..., :3] + 0.25 * VALUES[..., 1:], 0.25 * VALUES[..., :3] + 0.75 * VALUES[..., 1:]]
    )
    expected = np.moveaxis(expected, 0, -1).reshape(2, 3, 6)
    np.testing.assert_array_equal(prediction.read(fine, 0.5), expected >= 0.5)
    slabs = list(prediction.slabs(fine, 0.5, planes=1))
    np.testing.assert_array_equal(np.concatenate(slabs), prediction.read(fine, 0.5))


def test_ids_stay_what_they_are(tmp_path):
    ids = np.random.default_rng(0).integers(0, 2**40, LATTICE.shape)
    layout = {"voxel_size": (8,) * 3, "corner": (0,) * 3, "shape": LATTICE.shape, "dtype": np.int64, "labels": True}
    with MultiscaleWriter(tmp_path / "mito", **layout) as writer:
        writer.write((0, 0, 0), ids)
    prediction = ClassPrediction.find(tmp_path / "mito", "mito", EIGHT)
    assert prediction.scale is None
    np.testing.assert_array_equal(prediction.read(LATTICE, 0.5), ids)
    with pytest.raises(LatticeError, match="not covered"):
        prediction.check_covers(CropLattice(EIGHT, (80, 0, 0), (2, 3, 4)))


def test_arrays_state_their_place_as_the_challenge_has_it(tmp_path):
    array = create_array(tmp_path / "mito", LATTICE.shape, LATTICE.shape, np.dtype(np.uint16))
    array[:] = 300
    with pytest.raises(VolumeFormatError, match="no voxel size"):
        ClassPrediction.find(tmp_path / "mito", "mito", EIGHT)
    array.attrs.update({"voxel_size": [8, 8, 8], "translation": [4, 4, 4]})
    prediction = ClassPrediction.find(tmp_path / "mito", "mito", EIGHT)
    assert np.unique(prediction.read(LATTICE, 0.5)).tolist() == [300]
    assert prediction.image.levels[0].begin == (0, 0, 0)
    for attributes, message in (
        ({"voxel_size": 8}, "the attribute voxel_size has to be a list of numbers, not 8"),
        ({"voxel_size": ["a"]}, "has to be a list of numbers"),
    ):
        array.attrs.update(attributes)
        with pytest.raises(VolumeFormatError, match=message):
            ClassPrediction.find(tmp_path / "mito", "mito", EIGHT)
