"""The demo volume: what a class needs to be told apart lies beyond 400 nm, and within reach of a ScaleNet."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from scalenet_gp.pipelines.demo.demo_volume import (
    CELL_KINDS,
    CLASSES,
    MARGIN,
    ORGANELLES,
    lay_out_tissue,
    make_demo_volume,
    nearest_seeds,
    record,
    write_demo_volume,
)
from scalenet_gp.pipelines.demo.textures import interpolate
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes.storage import group_attributes, open_array

SHAPE = (80, 152, 152)  # 1 x 2 x 2 cells
VOXEL = 32


@pytest.fixture(scope="module")
def volume():
    return make_demo_volume(3, SHAPE, VOXEL)


@pytest.fixture(scope="module")
def tissue():
    return lay_out_tissue(np.random.default_rng(5), SHAPE, VOXEL)


def test_the_same_seed_gives_the_same_volume_and_another_seed_another():
    one, again, other = (make_demo_volume(seed, (40, 76, 76), 64) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.raw, again.raw)
    assert (one.raw != other.raw).mean() > 0.5
    for name in CLASSES:
        np.testing.assert_array_equal(one.labels[name], again.labels[name])
        assert (one.labels[name] != other.labels[name]).any()


def test_classes_are_masks_and_no_voxel_is_of_two_organelles_or_two_kinds_of_cell(volume):
    assert tuple(volume.labels) == CLASSES == ORGANELLES + CELL_KINDS
    assert volume.raw.shape == SHAPE
    assert volume.raw.dtype == np.uint8
    for mask in volume.labels.values():
        assert mask.shape == SHAPE
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
    assert sum(volume.labels[name] for name in ORGANELLES).max() == 1
    # every voxel lies in a membrane or in a cell of one kind
    assert (sum(volume.labels[name] for name in (*CELL_KINDS, "cell_membrane")) == 1).all()


def test_mitochondria_lie_in_cells_of_their_kind_and_each_cell_has_one_nucleus(volume, tissue):
    for kind in CELL_KINDS:
        assert volume.labels[kind][volume.labels[f"mito_{kind}"] == 1].all()
    nucleus = tissue.nucleus_depth >= 0
    assert all((nucleus & (tissue.cell == cell)).any() for cell in range(len(tissue.is_glia)))
    assert not (nucleus & tissue.membrane).any()


def test_within_the_margin_of_a_mitochondrion_nothing_tells_its_kind(tissue):
    """The same tissue with every neuron a glia and the reverse: only masks swap, and what lies beyond the margin."""
    volume = record(tissue, np.random.default_rng(6))
    swapped = record(replace(tissue, is_glia=~tissue.is_glia), np.random.default_rng(6))
    np.testing.assert_array_equal(volume.labels["mito_neuron"], swapped.labels["mito_glia"])
    np.testing.assert_array_equal(volume.labels["mito_glia"], swapped.labels["mito_neuron"])
    np.testing.assert_array_equal(volume.labels["neuron"], swapped.labels["glia"])
    np.testing.assert_array_equal(volume.labels["glia"], swapped.labels["neuron"])
    for name in ("cell_membrane", "nucleus"):
        np.testing.assert_array_equal(volume.labels[name], swapped.labels[name])

    differs = volume.raw != swapped.raw
    assert differs[volume.labels["nucleus"] == 1].mean() > 0.3
    mitochondria = (volume.labels["mito_neuron"] | volume.labels["mito_glia"]) == 1
    assert distance_transform_edt(~differs, sampling=VOXEL)[mitochondria].min() > MARGIN


def test_the_nucleus_that_tells_is_within_sight_of_a_network(tissue):
    """All of it lies within 2.1 µm along each axis, the least sight of a U-Net of 256 nm with one downsampling."""
    nucleus = tissue.nucleus_depth >= 0
    of_cell = [np.argwhere(nucleus & (tissue.cell == cell)) * VOXEL for cell in range(len(tissue.is_glia))]
    for mitochondrion in tissue.mitochondria:
        places = of_cell[tissue.cell[tuple((mitochondrion.centre // VOXEL).astype(int))]]
        assert np.abs(places - mitochondrion.centre).max() < 2100


def test_the_nearest_seed_and_the_plane_to_the_next_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    seeds, place = rng.uniform(0, 100, (7, 3)), rng.uniform(0, 100, (3, 2, 3, 4)).astype(np.float32)
    cell, wall = nearest_seeds(place, seeds)
    for where in np.ndindex(2, 3, 4):
        away = np.linalg.norm(seeds - place[:, *where], axis=1)
        own, other = np.argsort(away)[:2]
        normal = (seeds[other] - seeds[own]) / np.linalg.norm(seeds[other] - seeds[own])
        assert cell[where] == own
        assert wall[where] == pytest.approx(
            (seeds[own] + seeds[other]) / 2 @ normal - place[:, *where] @ normal, abs=0.1
        )


def test_a_linear_field_is_interpolated_exactly_between_the_outermost_voxels():
    z, y, x = np.ogrid[:3, :4, :5]
    fine = interpolate((z + 10.0 * y - 3 * x).astype(np.float32))
    z, y, x = ((grid - 0.5) / 2 for grid in np.ogrid[:6, :8, :10])
    np.testing.assert_allclose(fine[1:-1, 1:-1, 1:-1], (z + 10 * y - 3 * x)[1:-1, 1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_every_layer_of_cells_along_x_has_both_kinds(seed):
    volume = make_demo_volume(seed, (40, 76, 76), 64)
    for half in (np.s_[..., :38], np.s_[..., 38:]):
        for name in ("mito_neuron", "mito_glia"):
            assert volume.labels[name][half].sum() > 125  # a few of them


def test_cells_keep_their_size_when_voxels_are_coarser():
    volume = make_demo_volume(0, (40, 76, 76), 64)
    assert 0.01 < volume.labels["nucleus"].mean() < 0.08
    assert volume.labels["mito_neuron"].any()
    assert volume.labels["mito_glia"].any()


@pytest.mark.parametrize(
    ("shape", "voxel_size", "message"),
    [
        ((80, 80, 80), 32, r"\(63, 63, 126\) voxels would"),
        ((10, 300, 300), 32, "cell of each kind"),
        ((200, 200), 32, "cell of each kind"),
        (SHAPE, 128, "from 1 to 95 nm"),
        (SHAPE, 0, "from 1 to 95 nm"),
    ],
)
def test_a_volume_that_cannot_show_the_classes_is_refused(shape, voxel_size, message):
    with pytest.raises(ValueError, match=message):
        make_demo_volume(0, shape, voxel_size)


def test_the_written_container_has_the_layout_of_cellmap(tmp_path, volume):
    told = []
    path = tmp_path / "new" / "demo.zarr"
    write_demo_volume(path, 3, SHAPE, VOXEL, told.append)
    assert told == ["made", "wrote fibsem-uint8", *(f"wrote {name}" for name in CLASSES)]
    crop = path / "recon-1" / "labels" / "groundtruth" / "crop1"
    assert group_attributes(crop) == {"classes": list(CLASSES)}
    arrays = {path / "recon-1" / "em" / "fibsem-uint8": volume.raw}
    arrays |= {crop / name: mask for name, mask in volume.labels.items()}
    for place, voxels in arrays.items():
        levels = MultiscaleImage.open(place).levels
        assert [tuple(level.voxel_size) for level in levels] == [(size,) * 3 for size in (32, 64, 128, 256)]
        assert [tuple(level.begin) for level in levels] == [(0, 0, 0)] * 4
        np.testing.assert_array_equal(open_array(place / levels[0].path)[:], voxels)
    assert set(np.unique(open_array(crop / "nucleus" / "s3")[:])) == {0, 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["demo.zarr"]
    with pytest.raises(FileExistsError, match=r"demo\.zarr exists"):
        write_demo_volume(path, 3, SHAPE, VOXEL)


def test_what_is_broken_off_leaves_nothing(tmp_path):
    def stop(step):
        if step == "wrote nucleus":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_volume(tmp_path / "demo.zarr", 3, (40, 76, 76), 64, stop)
    assert list(tmp_path.iterdir()) == []


def test_the_part_of_the_default_volume_that_is_held_out_has_forty_mitochondria_of_each_kind():
    tissue = lay_out_tissue(np.random.default_rng(0).spawn(2)[0], (160, 256, 320), VOXEL)
    held_out = [mitochondrion for mitochondrion in tissue.mitochondria if mitochondrion.centre[2] > 8192]
    cells = [tissue.cell[tuple((mitochondrion.centre // VOXEL).astype(int))] for mitochondrion in held_out]
    kinds = np.bincount(tissue.is_glia[cells], minlength=2)
    assert kinds.min() >= 40
