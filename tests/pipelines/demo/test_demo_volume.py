"""The demo volume: what a class needs to be told apart lies beyond 400 nm, and within reach of a ScaleNet."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from scalenet_gp.pipelines.demo.demo_volume import (
    CLASSES,
    MARGIN,
    lay_out_tissue,
    make_demo_volume,
    record,
    write_demo_volume,
)
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


def test_the_same_seed_gives_the_same_volume_and_another_seed_another(volume):
    again = make_demo_volume(3, SHAPE, VOXEL)
    other = make_demo_volume(4, SHAPE, VOXEL)
    np.testing.assert_array_equal(volume.raw, again.raw)
    assert (volume.raw != other.raw).mean() > 0.5
    for name in CLASSES:
        np.testing.assert_array_equal(volume.labels[name], again.labels[name])
        assert (volume.labels[name] != other.labels[name]).any()


def test_classes_are_masks_that_share_no_voxel(volume):
    assert tuple(volume.labels) == CLASSES
    assert volume.raw.shape == SHAPE
    assert volume.raw.dtype == np.uint8
    for mask in volume.labels.values():
        assert mask.shape == SHAPE
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
    assert sum(volume.labels.values()).max() == 1


def test_within_the_margin_of_a_mitochondrion_nothing_tells_its_kind(tissue):
    """The same tissue with every neuron a glia and the reverse: only masks swap, and what lies beyond the margin."""
    volume = record(tissue, np.random.default_rng(6))
    swapped = record(replace(tissue, is_glia=~tissue.is_glia), np.random.default_rng(6))
    np.testing.assert_array_equal(volume.labels["mito_neuron"], swapped.labels["mito_glia"])
    np.testing.assert_array_equal(volume.labels["mito_glia"], swapped.labels["mito_neuron"])
    for name in ("cell_membrane", "nucleus"):
        np.testing.assert_array_equal(volume.labels[name], swapped.labels[name])

    differs = volume.raw != swapped.raw
    assert differs[volume.labels["nucleus"] == 1].mean() > 0.3
    mitochondria = (volume.labels["mito_neuron"] | volume.labels["mito_glia"]) == 1
    assert distance_transform_edt(~differs, sampling=VOXEL)[mitochondria].min() > MARGIN


def test_the_nucleus_that_tells_is_within_sight_of_a_network(tissue):
    """The cube of 1.8 µm around each mitochondrion holds most of the nucleus of its cell."""
    nucleus = tissue.nucleus_depth >= 0
    of_cell = [np.argwhere(nucleus & (tissue.cell == cell)) * VOXEL for cell in range(len(tissue.is_glia))]
    seen = []
    for mitochondrion in tissue.mitochondria:
        places = of_cell[tissue.cell[tuple((mitochondrion.centre // VOXEL).astype(int))]]
        seen.append((np.abs(places - mitochondrion.centre).max(-1) < 1800).mean())
    assert min(seen) > 0.5
    assert np.mean(seen) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_every_layer_of_cells_along_x_has_both_kinds(seed):
    volume = make_demo_volume(seed, (80, 152, 152), VOXEL)
    for half in (np.s_[..., :76], np.s_[..., 76:]):
        for name in ("mito_neuron", "mito_glia"):
            assert volume.labels[name][half].sum() > 1000  # about six of them


def test_cells_keep_their_size_when_voxels_are_coarser():
    volume = make_demo_volume(0, (40, 76, 76), 64)
    assert 0.01 < volume.labels["nucleus"].mean() < 0.08
    assert volume.labels["mito_neuron"].any()
    assert volume.labels["mito_glia"].any()


@pytest.mark.parametrize(
    ("shape", "voxel_size", "message"),
    [
        ((80, 80, 80), 32, r"\(79, 79, 158\) voxels would"),
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
        assert [tuple(level.voxel_size) for level in levels] == [(32,) * 3, (64,) * 3, (128,) * 3]
        assert [tuple(level.begin) for level in levels] == [(0, 0, 0)] * 3
        np.testing.assert_array_equal(open_array(place / levels[0].path)[:], voxels)
    assert set(np.unique(open_array(crop / "nucleus" / "s2")[:])) == {0, 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["demo.zarr"]
    with pytest.raises(FileExistsError, match=r"demo\.zarr exists"):
        write_demo_volume(path, 3, SHAPE, VOXEL)


def test_what_is_broken_off_leaves_nothing(tmp_path):
    def stop(step):
        if step == "wrote nucleus":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_volume(tmp_path / "demo.zarr", 3, SHAPE, VOXEL, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_default_volume_can_be_parted_for_a_held_out_quarter():
    volume = make_demo_volume()
    last_quarter = np.s_[..., 168:]
    for name in ("mito_neuron", "mito_glia"):
        assert volume.labels[name][last_quarter].sum() > 10_000
        assert volume.labels[name].sum() > 50_000
