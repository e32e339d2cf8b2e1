"""The volume of neurites: each is connected, they touch, membranes part them, and brightness alone does not tell."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from scipy.spatial import cKDTree

from scalenet_gp.metrics import ContingencyTable, adapted_rand
from scalenet_gp.pipelines.demo.growth import APART, GRID, grow_neurites
from scalenet_gp.pipelines.demo.neurite_volume import (
    HELD_OUT,
    NEAREST,
    SMALLEST,
    divide,
    make_neurite_volume,
    nearest_tubes,
    number_pieces,
    write_neurite_volume,
)
from scalenet_gp.pipelines.demo.recording import RAW
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes.storage import open_array

SHAPE = (48, 56, 80)
VOXEL = 16


@pytest.fixture(scope="module")
def neurites():
    return grow_neurites(np.random.default_rng(2), [n * VOXEL for n in SHAPE])


@pytest.fixture(scope="module")
def volume():
    return make_neurite_volume(3, SHAPE, VOXEL)


def test_the_same_seed_gives_the_same_volume_and_another_seed_another(volume):
    again, other = (make_neurite_volume(seed, SHAPE, VOXEL) for seed in (3, 4))
    np.testing.assert_array_equal(volume.raw, again.raw)
    np.testing.assert_array_equal(volume.neurites, again.neurites)
    assert (volume.raw != other.raw).mean() > 0.5
    assert (volume.neurites != other.neurites).mean() > 0.5


def test_tubes_keep_apart_and_fill_the_box(neurites):
    surfaces = []
    for own in np.unique(neurites.numbers):
        mine = neurites.numbers == own
        tree = cKDTree(neurites.positions[~mine])
        for position, radius in zip(neurites.positions[mine], neurites.radii[mine], strict=True):
            near = tree.query_ball_point(position, radius + 600)
            away = np.linalg.norm(neurites.positions[~mine][near] - position, axis=1) - neurites.radii[~mine][near]
            surfaces.append(away.min(initial=np.inf) - radius)
    assert min(surfaces) > APART - GRID / 2  # distances are interpolated between points of a grid
    assert np.median(surfaces) < 2 * APART


def test_a_branch_goes_on_from_ball_to_ball(neurites):
    steps = np.linalg.norm(np.diff(neurites.positions, axis=0), axis=1)
    np.testing.assert_allclose(steps[~neurites.begins[1:]], 48)
    # every neurite has a first ball, and more branches than the two that leave it
    assert neurites.begins.sum() > 3 * len(np.unique(neurites.numbers))
    np.testing.assert_allclose(np.linalg.norm(neurites.directions, axis=1), 1)


def test_every_neurite_is_connected_within_the_volume_or_beyond_its_faces(neurites):
    number, wall = divide(neurites, np.random.default_rng(0), SHAPE, VOXEL)
    assert number.min() > 0
    assert wall.min() >= 0
    faces = np.ones(SHAPE, bool)
    faces[1:-1, 1:-1, 1:-1] = False
    several = 0
    for own in np.unique(number):
        pieces = label(number == own)[0]
        sizes = np.bincount(pieces.ravel())[1:]
        large = np.flatnonzero(sizes >= SMALLEST) + 1
        several += len(large) > 1
        assert len(large) <= 1 or set(large) <= set(pieces[faces])
    assert several < len(np.unique(number)) / 2


def test_the_nearest_tube_and_the_nearest_of_another_neurite_are_those_of_brute_force(neurites):
    grid = 32
    place = np.stack(np.broadcast_arrays(*[(line + 0.5) * grid for line in np.ogrid[:3, :4, :5]])).astype(np.float32)
    number, nearest, other = nearest_tubes(neurites, place, grid)
    for where in np.ndindex(3, 4, 5):
        away = np.linalg.norm(neurites.positions - place[:, *where], axis=1) - neurites.radii
        best = np.argmin(away)
        assert number[where] == neurites.numbers[best] + 1
        assert nearest[where] == pytest.approx(away[best], abs=0.1)
        apart = away[neurites.numbers != neurites.numbers[best]].min()
        assert other[where] == pytest.approx(min(apart, NEAREST), abs=0.1)


def test_neurites_touch_with_a_membrane_between_them(volume):
    """No voxel of a neurite is beside one of another, and most neurites have several neighbours across a membrane."""
    ids = volume.neurites.astype(int)
    pairs = set()
    for axis in range(3):
        line = np.moveaxis(ids, axis, 0)
        one, other = line[:-1], line[1:]
        assert (one == other)[(one > 0) & (other > 0)].all()
        one, other = line[:-5], line[5:]  # 80 nm
        found = (one != other) & (one > 0) & (other > 0)
        pairs |= set(zip(one[found].tolist(), other[found].tolist(), strict=True))
    present = np.unique(ids)[1:]
    assert len({frozenset(pair) for pair in pairs}) > 2 * len(present)
    assert {number for pair in pairs for number in pair} >= set(present[np.bincount(ids.ravel())[present] > 500])
    assert 0.1 < (ids == 0).mean() < 0.4


def test_no_threshold_of_the_brightness_finds_the_neurites(volume):
    """Membranes are darker, but some are as bright as cytoplasm, and organelles are as dark as membranes."""
    smooth = gaussian_filter(volume.raw.astype(np.float32), 1)
    inside, membrane = smooth[volume.neurites > 0], smooth[volume.neurites == 0]
    assert membrane.mean() < inside.mean() - 15
    for threshold in np.percentile(smooth, range(10, 70, 5)):
        table = ContingencyTable()
        table.update(volume.neurites, number_pieces((smooth > threshold).astype(np.uint8)))
        assert adapted_rand(table).error > 0.4


def test_pieces_are_numbered_and_small_ones_are_left_out():
    ids = np.zeros((4, 8, 30), np.uint16)
    ids[..., :10], ids[..., 11:21] = 9, 9
    ids[0, 0, 22:] = 4
    pieces = number_pieces(ids)
    assert np.unique(pieces).tolist() == [0, 1, 2]
    assert np.unique(pieces[..., :10]).tolist() == [1]
    assert np.unique(pieces[..., 11:21]).tolist() == [2]
    assert not pieces[0, 0, 22:].any()


@pytest.mark.parametrize(
    ("shape", "voxel_size", "message"),
    [
        ((80, 80, 10), 16, r"\(22, 22, 22\) voxels would"),
        ((80, 80), 16, "does not hold"),
        (SHAPE, 32, "from 1 to 24 nm"),
    ],
)
def test_a_volume_that_cannot_show_neurites_is_refused(shape, voxel_size, message):
    with pytest.raises(ValueError, match=message):
        make_neurite_volume(0, shape, voxel_size)


def test_the_written_crops_cover_the_volume_and_every_number_is_one_piece(tmp_path, volume):
    told = []
    path = tmp_path / "neurites.zarr"
    write_neurite_volume(path, 3, SHAPE, VOXEL, told.append)
    assert told == ["made", "wrote fibsem-uint8", "wrote neurites", "wrote neurites"]
    np.testing.assert_array_equal(open_array(path / RAW / "s0")[:], volume.raw)
    crops = [path / HELD_OUT.replace("crop2", name) for name in ("crop1", "crop2")]
    begins = [MultiscaleImage.open(crop).levels for crop in crops]
    assert [[tuple(level.begin) for level in levels] for levels in begins] == [
        [(0, 0, 0)] * 4,
        [(0, 0, 48 * VOXEL)] * 4,
    ]
    for crop, part in zip(crops, np.split(volume.neurites, [48], axis=2), strict=True):
        ids = open_array(crop / "s0")[:]
        assert (ids > 0)[part > 0].mean() > 0.99
        assert not ids[part == 0].any()
        numbers = np.unique(ids)
        np.testing.assert_array_equal(numbers, np.arange(len(numbers)))
        assert all(label(ids == number)[1] == 1 for number in numbers[1:])
