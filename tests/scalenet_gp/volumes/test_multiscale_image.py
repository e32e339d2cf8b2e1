import itertools
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.geometry.world import World
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes.stored_array import UnreadableDataError
from tests.scalenet_gp.volumes.ome_zarr_files import VNC, position_ramps, write_multiscale

VOXEL = (50.0, 4.5, 4.5)
CORNER = (-25.0, 582.75, 0.25)
SHAPE = (4, 12, 16)


def centres(corner, voxel_size):
    return [c + v / 2 for c, v in zip(corner, voxel_size, strict=True)]


@pytest.fixture(scope="module")
def ramps(tmp_path_factory):
    """Channel a of every voxel holds the physical position of its centre along axis a; s1 is halved in y and x."""
    coarse, half = (50.0, 9.0, 9.0), (4, 6, 8)
    path = write_multiscale(
        tmp_path_factory.mktemp("ramps") / "v",
        [position_ramps(SHAPE, VOXEL, CORNER), position_ramps(half, coarse, CORNER)],
        [VOXEL, coarse],
        [centres(CORNER, VOXEL), centres(CORNER, coarse)],
        axes="czyx",
    )
    return MultiscaleImage.open(path)


def write_volume(path, data, voxel_size=(8.0, 8.0, 8.0), corner=(0.0, 0.0, 0.0), chunk=8):
    return MultiscaleImage.open(
        write_multiscale(path, [data], [voxel_size], [centres(corner, voxel_size)], chunk=chunk)
    )


def physical_centres(roi, voxel_size, world):
    """(axis, z, y, x), nm."""
    shape = roi.shape // voxel_size
    size, corner = world.size_in_nm(voxel_size), world.position_in_nm(roi.begin)
    return position_ramps(shape, tuple(map(float, size)), tuple(map(float, corner)))


def rois(available, voxel_size, reach=0):
    """Non-empty ROIs on the lattice, inside ``available`` grown by ``reach`` voxels."""
    low, high = available.begin // voxel_size - reach, available.end // voxel_size + reach
    axes = [
        st.tuples(st.integers(b, e), st.integers(b, e)).filter(lambda pair: pair[0] != pair[1]).map(sorted)
        for b, e in zip(low, high, strict=True)
    ]
    return st.tuples(*axes).map(
        lambda pairs: Roi(
            Coordinate(b for b, _ in pairs) * voxel_size, Coordinate(e - b for b, e in pairs) * voxel_size
        )
    )


@settings(deadline=None)
@given(st.data())
def test_every_voxel_is_where_the_world_says(ramps, data):
    factor = data.draw(st.sampled_from([(1, 1, 1), (1, 2, 2), (1, 1, 2), (2, 1, 1), (2, 3, 4), (1, 4, 4)]))
    size_nm = tuple(Fraction(v) * f for v, f in zip(VOXEL, factor, strict=True))
    world = data.draw(st.sampled_from([ramps.world(size_nm), ramps.world(size_nm, (100, 36, 36), unit="1/4")]))
    voxel_size = world.size(size_nm)
    roi = data.draw(rois(ramps.roi(voxel_size, world), voxel_size))
    np.testing.assert_allclose(
        ramps.read(roi, voxel_size, world), physical_centres(roi, voxel_size, world), rtol=0, atol=1e-9
    )


def test_made_blocks_lie_on_the_worlds_lattice_not_on_the_volumes(tmp_path):
    volume = write_volume(tmp_path / "v", position_ramps((9, 9, 9), (8,) * 3, (16,) * 3)[0], corner=(16,) * 3)
    voxel_size, world = Coordinate(24, 24, 24), World()
    roi = volume.roi(voxel_size, world)
    assert roi == Roi((24, 24, 24), (48, 48, 48))  # of 16 to 88 nm, whole blocks only
    np.testing.assert_array_equal(volume.read(roi, voxel_size, world)[0], physical_centres(roi, voxel_size, world)[0])


def test_a_stored_level_goes_before_a_made_one_and_the_coarsest_is_reduced(tmp_path):
    levels = [np.full((8 >> i,) * 3, i, np.uint8) for i in range(3)]
    scales = [(8.0 * 2**i,) * 3 for i in range(3)]
    volume = MultiscaleImage.open(write_multiscale(tmp_path / "v", levels, scales, [[s[0] / 2] * 3 for s in scales]))

    def level_used(*voxel_size):
        return int(volume.read(volume.roi(voxel_size, World()), voxel_size, World()).max())

    assert [level_used(n, n, n) for n in (8, 16, 32, 64)] == [0, 1, 2, 2]
    assert level_used(16, 16, 32) == 1
    assert level_used(24, 24, 24) == 0


def test_the_level_that_is_on_the_lattice_is_taken(tmp_path):
    scales = [(8.0,) * 3, (16.0,) * 3]
    levels = [np.zeros((8,) * 3, np.uint8), np.ones((4,) * 3, np.uint8)]
    volume = MultiscaleImage.open(write_multiscale(tmp_path / "v", levels, scales, [(12,) * 3, (16,) * 3]))  # corner 8
    size, world = (16, 16, 16), World()
    assert volume.roi(size, world) == Roi((16,) * 3, (48,) * 3)
    assert volume.read(volume.roi(size, world), size, world).max() == 0
    assert volume.read(volume.roi(size, volume.world(size)), size, volume.world(size)).min() == 1


def test_labels_are_made_by_majority_of_the_stored_voxels(tmp_path):
    data = np.random.default_rng(0).choice(np.array([0, 3, 7, 2**40], np.int64), (4, 6, 8))
    volume, size = write_volume(tmp_path / "v", data), (16, 24, 16)
    roi = volume.roi(size, World())
    labels, (stored, grid) = volume.read(roi, size, World(), labels=True), volume.start_stored(roi, size, World())
    assert labels.dtype == np.int64
    assert grid.factor == (2, 3, 2)
    assert grid.begin == (0, 0, 0)
    np.testing.assert_array_equal(stored()[0], data)
    for voxel in itertools.product(*map(range, (2, 2, 4))):
        block = data[tuple(slice(i * f, i * f + f) for i, f in zip(voxel, (2, 3, 2), strict=True))].ravel()
        assert labels[(0, *voxel)] == scipy.stats.mode(block).mode


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    data = np.random.default_rng(1).integers(0, 250, (6, 5, 1), np.uint8)
    return write_volume(tmp_path_factory.mktemp("noise") / "v", data, corner=(16.0, -8.0, 0.0)), data


@settings(deadline=None)
@given(st.data())
def test_padding_is_numpys_wherever_it_is_asked_for(noise, data):
    volume, voxels = noise
    voxel_size, world = Coordinate(8, 8, 8), World()
    roi = data.draw(rois(volume.roi(voxel_size, world), voxel_size, reach=25))
    everywhere = tuple(
        slice(b - first + 25, e - first + 25)
        for b, e, first in zip(roi.begin // 8, roi.end // 8, (2, -1, 0), strict=True)
    )
    np.testing.assert_array_equal(
        volume.read(roi, voxel_size, world, padding="reflect")[0], np.pad(voxels, 25, mode="symmetric")[everywhere]
    )
    np.testing.assert_array_equal(
        volume.read(roi, voxel_size, world, padding="constant", fill_value=255)[0],
        np.pad(voxels, 25, constant_values=255)[everywhere],
    )
    np.testing.assert_array_equal(volume.valid(roi, voxel_size, world)[0], np.pad(np.ones_like(voxels), 25)[everywhere])


@pytest.mark.parametrize("padding", ["constant", "reflect"])
def test_padding_of_made_levels_pads_the_made_voxels(noise, padding):
    volume, voxels = noise
    roi = Roi((-48, -80, -40), (128, 144, 64))
    blocks = voxels[:, 1:, :].reshape(3, 2, 2, 2, 1).mean((1, 3))  # y begins at -8, between two voxels of 16
    mode = "symmetric" if padding == "reflect" else padding
    made = np.pad(np.rint(blocks), ((4, 1), (5, 2), (5, 2)), mode=mode)
    np.testing.assert_array_equal(volume.read(roi, (16, 16, 8), World(), padding=padding)[0], made)
    inside = np.pad(np.ones((3, 2, 1)), ((4, 1), (5, 2), (5, 2)))
    np.testing.assert_array_equal(volume.valid(roi, (16, 16, 8), World())[0], inside)


def test_scales_stay_aligned_in_the_mirror(tmp_path):
    data = np.random.default_rng(2).integers(0, 60, (8, 8, 8), np.uint8) * 4
    volume = write_volume(tmp_path / "v", data)
    roi, world = Roi((-32, 16, 48), (64, 64, 64)), World()
    fine = volume.read(roi, (8, 8, 8), world, padding="reflect").astype(float)
    coarse = volume.read(roi, (16, 16, 16), world, padding="reflect")
    np.testing.assert_array_equal(np.rint(fine.reshape(1, 4, 2, 4, 2, 4, 2).mean((2, 4, 6))), coarse)


def test_two_dimensions(tmp_path):
    data = position_ramps((6, 8), (4, 4), (0, 0))[1]
    volume = MultiscaleImage.open(write_multiscale(tmp_path / "yx", [data], [(4.0, 4.0)], [(2.0, 2.0)], axes="yx"))
    assert volume.dims == 2
    assert volume.read(Roi((8, 16), (8, 8)), (8, 8), World()).tolist() == [[[20.0]]]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_a_volumes_world_fits_all_its_voxel_sizes(ramps, factors):
    sizes = [tuple(Fraction(v) * f for v in VOXEL) for f in factors]
    world = ramps.world(*sizes)
    for size, axis in itertools.product(sizes, range(3)):
        assert ((Fraction(CORNER[axis]) - world.origin[axis]) / size[axis]).denominator == 1
    least = np.lcm.reduce(factors)
    assert all(abs(o) <= Fraction(v) * int(least) / 2 for o, v in zip(world.origin, VOXEL, strict=True))


def test_the_origin_of_a_first_centre_at_zero_is_minus_half_a_voxel(tmp_path):
    volume = write_volume(tmp_path / "v", np.zeros((2, 2, 2)), (50.0, 4.6, 4.6), (-25.0, -2.3, -2.3))
    assert volume.world() == volume.world((50, 4.6, 4.6), (100, "36.8", 36.8)) == World("1/5", (-25, "-2.3", "-2.3"))
    assert volume.world((50, 4.6, 4.6), unit="1/10").unit == Fraction(1, 10)
    with pytest.raises(ValueError, match=r"voxel size 50 × 4.6 nm has to be 3 positive lengths"):
        volume.world((50, 4.6))


def test_a_voxel_size_that_no_level_can_give_lists_them(ramps):
    world = ramps.world(unit="1/4")
    with pytest.raises(ValueError, match=r"voxels of 50 × 6.75 × 9 nm: s0: 50 × 4.5 × 4.5 nm does not.*; s1: 50 × 9"):
        ramps.roi((200, 27, 36), world)


def test_a_corner_off_the_lattice_proposes_a_world_that_fits(ramps):
    with pytest.raises(ValueError, match=r"s0: its corner -25 × 582.75 × 0.25 nm is off the lattice") as caught:
        ramps.roi((100, 9, 9), World("1/2"))
    unit, origin = re.search(r"World\(unit='(.*)', origin=(\(.*\))\) would fit", str(caught.value)).groups()
    fitting = World(unit, re.findall(r"'([^']*)'", origin))
    assert ramps.roi((100, 9, 9), fitting).shape == (400, 108, 144)


@pytest.mark.parametrize("method", ["read", "valid", "start_stored"])
def test_a_roi_off_the_lattice_proposes_the_nearest(ramps, method):
    world = ramps.world()
    with pytest.raises(ValueError, match=re.escape(f"nearest on it is {Roi((0, 1161, 9), (100, 9, 9))}")):
        getattr(ramps, method)(Roi((10, 1160, 12), (95, 9, 9)), (100, 9, 9), world)


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        (Roi((0, 0), (8, 8)), "of 3 axes"),
        (Roi((0, 0, 0), (8, 0, 8)), "not empty"),
        (Roi((None,) * 3, (None,) * 3), "has to be bounded"),
        (Roi((-8, 0, 0), (8, 8, 8)), r"reaches out of \[0:16, 0:16, 0:16\].*padding='constant' or 'reflect'"),
    ],
)
def test_rois_that_make_no_sense_are_refused(tmp_path, roi, message):
    volume = write_volume(tmp_path / "v", np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=message):
        volume.read(roi, (8, 8, 8), World())


@pytest.mark.parametrize(
    ("voxel_size", "padding", "fill", "message"),
    [
        ((8, 8), None, 0, r"voxel size \(8, 8\) has to be 3 positive whole numbers"),
        ((8, 8.5, 8), None, 0, r"voxel size \(8, 17/2, 8\) has to be"),
        ((8, 0, 8), None, 0, "voxel size"),
        ((8, 8, 8), "mirror", 0, "padding='mirror' has to be None"),
        ((8, 8, 8), "constant", 300, "the fill value 300 does not fit uint8"),
        ((8, 8, 8), "constant", 0.5, "the fill value 0.5 does not fit uint8"),
        ((8, 8, 8), "constant", float("nan"), "the fill value nan does not fit uint8"),
        ((24, 24, 24), "reflect", 0, "has no whole voxel of 24 × 24 × 24 nm"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path, voxel_size, padding, fill, message):
    volume = write_volume(tmp_path / "v", np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=message):
        volume.read(Roi((0,) * 3, (24,) * 3), voxel_size, World(), padding=padding, fill_value=fill)


def test_a_volume_without_a_whole_voxel_has_an_empty_roi(tmp_path):
    volume = write_volume(tmp_path / "v", np.zeros((2, 2, 2), np.uint8))
    assert volume.roi((24, 24, 24), World()).empty
    assert volume.valid(Roi((0,) * 3, (24,) * 3), (24,) * 3, World()).max() == 0


@pytest.mark.parametrize("bytes_left", [0, 10, 16, 100, -1])
def test_a_truncated_chunk_is_named(tmp_path, bytes_left):
    data = np.random.default_rng(0).integers(0, 255, (16, 8, 8), np.uint8)
    volume = write_volume(tmp_path / "v", data)
    chunk = tmp_path / "v" / "s0" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:bytes_left])
    np.testing.assert_array_equal(volume.read(Roi((0, 0, 0), (64, 64, 64)), (8, 8, 8), World())[0], data[:8])
    with pytest.raises(UnreadableDataError, match=r"v/s0: voxels \[6:10, 0:8, 2:4\] cannot be read: \S+"):
        volume.read(Roi((48, 0, 16), (32, 64, 16)), (8, 8, 8), World())
    assert issubclass(UnreadableDataError, OSError)


def test_a_volume_can_be_sent_to_another_process(ramps):
    size, world = (100, 9, 9), ramps.world()
    copy = pickle.loads(pickle.dumps(ramps))
    np.testing.assert_array_equal(
        copy.read(ramps.roi(size, world), size, world), ramps.read(ramps.roi(size, world), size, world)
    )


@pytest.mark.skipif(not VNC.exists(), reason="the real data ../shared/data/vnc.zarr is absent")
class TestRealData:
    raw_path = VNC / "recon-1" / "em" / "tem-uint8"
    crop_path = VNC / "recon-1" / "labels" / "groundtruth" / "crop1"

    def test_raw_and_labels_share_a_lattice(self):
        raw = MultiscaleImage.open(self.raw_path)
        world = raw.world()
        assert world == World("1/5", (-25, "-2.3", "-2.3"))
        mito = MultiscaleImage.open(self.crop_path / "mito")
        for level in mito.levels:
            size = world.size(level.voxel_size)
            assert raw.roi(size, world) == Roi((0, 0, 0), (5000, 23552, 23552))
            # 588.8 and 441.6 nm are 128 and 96 voxels of 4.6 nm, or 2944 and 2208 units of 1/5 nm
            assert mito.roi(size, world) == Roi((0, 2944, 2208), (3500, 17664, 20608))

    def test_membranes_are_dark_where_the_labels_say(self):
        raw, membrane = MultiscaleImage.open(self.raw_path), MultiscaleImage.open(self.crop_path / "membrane")
        size, world = (250, 23, 23), raw.world()
        roi = membrane.roi(size, world)

        def contrast(shift):
            inside = membrane.read(roi, size, world, labels=True) > 0
            voxels = raw.read(roi.shift(Coordinate(shift)), size, world)
            return voxels[~inside].mean() - voxels[inside].mean()

        aligned = contrast((0, 0, 0))
        for shift in itertools.product([0], [-4 * 23, 0, 4 * 23], [-4 * 23, 0, 4 * 23]):
            assert contrast(shift) <= aligned

    @pytest.mark.parametrize("level", [1, 2, 3])
    def test_made_levels_equal_the_stored_ones(self, tmp_path, level):
        """The file's writer took the mean of whole blocks and rounded halves to even, from level to level."""
        raw = MultiscaleImage.open(self.raw_path)
        world, finer = raw.world(), raw.levels[level - 1]
        stored = raw._arrays[level - 1][:]
        one_level = write_volume(
            tmp_path / "v", stored, tuple(map(float, finer.voxel_size)), tuple(map(float, finer.begin)), chunk=256
        )
        size = world.size(raw.levels[level].voxel_size)
        roi = raw.roi(size, world)
        np.testing.assert_array_equal(one_level.read(roi, size, world), raw.read(roi, size, world))
