"""The samplers alone: the locations that they draw, how often, and what they refuse."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.samplers import voxel_index
from scalenet_gp.nodes.samplers.mask_sampler import MaskSampler
from scalenet_gp.nodes.samplers.sampler import Axis, Sample, Sampler, UniformSampler
from scalenet_gp.nodes.samplers.voxel_index import LabelArray, VoxelGrid
from scalenet_gp.nodes.samplers.weighted_samplers import ClassSampler, StratifiedSampler
from scalenet_gp.volumes.class_volume import ClassVolume
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from tests.scalenet_gp.volumes.ome_zarr_files import write_multiscale

OPENING = (Axis(64, 8, 8, 0), Axis(48, 8, 8, 0))


def draws(sampler: Sampler, count: int, opening: Sequence[Axis] = OPENING, seed: int = 0) -> list[Sample]:
    generator = np.random.default_rng(seed)
    return [sampler.draw(generator, opening) for _ in range(count)]


def assert_frequencies(counts: Counter, shares: dict) -> None:
    """The counts are of exactly these outcomes, and a chi-square test sees no other shares behind them."""
    assert set(counts) == {name for name, share in shares.items() if share > 0}
    names = [name for name, share in shares.items() if share > 0]
    expected = np.array([shares[name] for name in names]) * sum(counts.values())
    assert expected.min() > 5
    assert len(names) == 1 or chisquare([counts[name] for name in names], expected).pvalue > 1e-3


def block(shape: Sequence[int], *corners: tuple[Sequence[int], Sequence[int]]) -> np.ndarray:
    """Zeros, with boxes numbered from 1."""
    data = np.zeros(shape, np.uint8)
    for number, (begin, end) in enumerate(corners, 1):
        data[tuple(slice(b, e) for b, e in zip(begin, end, strict=True))] = number
    return data


# UniformSampler


@st.composite
def situations(draw: st.DrawFn) -> tuple[Axis, int, int, int]:
    """One axis, and begin, length and overhang of a region."""
    voxel = draw(st.integers(1, 4))
    step = voxel * draw(st.integers(1, 3))
    low = draw(st.none() | st.integers(-30, 10))
    high = draw(st.none() | st.integers(0, 30))
    axis = Axis(voxel * draw(st.integers(1, 6)), voxel, step, draw(st.integers(-20, 20)), low, high)
    return axis, draw(st.integers(-20, 20)), draw(st.integers(1, 25)), draw(st.integers(0, 5))


def by_hand(axis: Axis, begin: int, length: int, overhang: int) -> set[int]:
    """The places along one axis, found by trying all."""
    inside = [
        v
        for v in range(begin - overhang, begin + length + overhang)
        if v % axis.voxel_size == 0 and v + axis.voxel_size <= begin + length + overhang
    ]
    if not inside:
        return set()
    first, last = inside[0], inside[-1] + axis.voxel_size
    return {
        b
        for b in range(-200, 200)
        if (b - axis.offset) % axis.step == 0
        and (axis.low is None or b >= axis.low)
        and (axis.high is None or b <= axis.high)
        and ((first <= b and b + axis.length <= last) or (b <= first and last <= b + axis.length))
    }


@given(situations(), situations())
@settings(max_examples=150, deadline=None)
def test_every_place_on_the_lattice_inside_the_region_is_drawn_and_no_other(
    rows: tuple[Axis, int, int, int], columns: tuple[Axis, int, int, int]
) -> None:
    expected = set(itertools.product(by_hand(*rows), by_hand(*columns)))
    assume(len(expected) <= 40)
    opening = (rows[0], columns[0])
    overhang = (rows[3], columns[3])
    sampler = UniformSampler(Roi((rows[1], columns[1]), (rows[2], columns[2])), overhang)
    if not expected:
        with pytest.raises(ValueError, match=r"holds no whole voxel|has no location"):
            draws(sampler, 1, opening)
        return
    assert {tuple(place.begin) for place in draws(sampler, 30 * len(expected), opening)} == expected


def test_uniform_places_are_equally_likely() -> None:
    sampler = UniformSampler(Roi((0, 0), (96, 72)))
    expected = list(itertools.product(range(0, 33, 8), range(0, 25, 8)))
    counts = Counter(tuple(place.begin) for place in draws(sampler, 2000))
    assert_frequencies(counts, dict.fromkeys(expected, 1 / len(expected)))


def test_a_region_smaller_than_the_sample_lies_inside_it() -> None:
    sampler = UniformSampler(Roi((16, 24), (24, 16)))
    counts = Counter(tuple(place.begin) for place in draws(sampler, 3000))
    expected = list(itertools.product(range(-24, 17, 8), range(-8, 25, 8)))
    assert_frequencies(counts, dict.fromkeys(expected, 1 / len(expected)))


def test_of_several_regions_one_is_drawn_by_its_volume() -> None:
    sampler = UniformSampler([Roi((0, 0), (64, 48)), Roi((800, 0), (128, 96)), Roi((0, 800), (8, 8))])
    found = draws(sampler, 5000)
    volumes = np.array([64 * 48, 128 * 96, 64])
    shares = dict(enumerate(volumes / volumes.sum()))
    assert_frequencies(Counter(place.info["region"] for place in found), shares)
    assert {tuple(place.begin) for place in found if place.info["region"] == 0} == {(0, 0)}


def test_without_a_region_places_are_what_the_arrays_offer() -> None:
    opening = (Axis(64, 8, 16, 4, -20, 30, "RAW", "RAW"),)
    assert {place.begin[0] for place in draws(UniformSampler(), 200, opening)} == {-12, 4, 20}
    with pytest.raises(ValueError, match="no array is bounded along axis 0"):
        draws(UniformSampler(), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "no regions"),
        ((Roi((0, 0), (0, 8)),), "not empty"),
        ((Roi((None, None), (None, None)),), "bounded"),
        (([Roi((0, 0), (8, 8)), Roi((0,), (8,))],), "of 2 axes"),
        ((Roi((0, 0), (8, 8)), -1), "at least 0"),
        ((Roi((0, 0), (8, 8)), (1, 1, 1)), "one length of at least 0 per axis"),
        ((None, 8), "none is given"),
    ],
)
def test_uniform_refuses(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UniformSampler(*arguments)


def test_a_region_without_a_place_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="has 3 axes, the sample has 2"):
        draws(UniformSampler(Roi((0, 0, 0), (64, 64, 64))), 1)
    with pytest.raises(ValueError, match=r"no whole voxel of 8 along axis 1"):
        draws(UniformSampler(Roi((0, 1), (64, 14))), 1)
    bounded = (Axis(64, 8, 8, 0, 128, 256, "RAW", "RAW"), OPENING[1])
    with pytest.raises(ValueError, match=r"128 or later \(RAW\) and at 64 or earlier \(the region\): 64 world units"):
        draws(UniformSampler(Roi((0, 0), (128, 64))), 1, bounded)
    coarse = (Axis(64, 8, 128, 0), OPENING[1])
    with pytest.raises(ValueError, match=r"no location 0 \+ n \* 128; with a DeformAugment .* every multiple of 8"):
        draws(UniformSampler(Roi((8, 0), (80, 64))), 1, coarse)


# MaskSampler


def mask() -> tuple[LabelArray, set[tuple[int, int]]]:
    """A mask in memory, and the world corners of its voxels."""
    data = np.random.default_rng(3).random((6, 5)) < 0.4
    corners = {(16 * z - 96, 8 * x + 40) for z, x in np.argwhere(data).tolist()}
    return LabelArray(data, (16, 8), (-96, 40)), corners


def test_every_voxel_of_a_mask_is_equally_likely() -> None:
    labels, corners = mask()
    counts = Counter(tuple(place.info["voxel"]) for place in draws(MaskSampler(labels), 2000))
    assert_frequencies(counts, dict.fromkeys(corners, 1 / len(corners)))


def test_the_voxel_lies_uniformly_in_the_central_half() -> None:
    labels, _ = mask()
    found = draws(MaskSampler(labels), 2000)
    offsets = Counter(tuple(np.subtract(place.info["voxel"], place.begin).tolist()) for place in found)
    # 64 × 48 samples: the central halves are [16, 48) and [12, 36); voxels of 16 × 8
    expected = list(itertools.product((16, 24, 32), (16, 24)))
    assert_frequencies(offsets, dict.fromkeys(expected, 1 / len(expected)))


@given(
    length=st.integers(1, 40),
    size=st.integers(1, 12),
    step=st.integers(1, 50),
    offset=st.integers(-30, 30),
    corner=st.integers(-40, 40),
    bounds=st.tuples(st.none() | st.integers(-60, 0), st.none() | st.integers(0, 60)),
)
@settings(max_examples=300, deadline=None)
def test_the_sample_holds_the_voxel_as_near_to_its_centre_as_lattice_and_bounds_allow(
    length: int, size: int, step: int, offset: int, corner: int, bounds: tuple[int | None, int | None]
) -> None:
    axis = Axis(length, 1, step, offset, *bounds, "RAW", "RAW")
    sampler = MaskSampler(LabelArray(np.ones(1), (size,), (corner,)))
    allowed = [
        b
        for b in range(-200, 200)
        if (b - offset) % step == 0
        and (bounds[0] is None or b >= bounds[0])
        and (bounds[1] is None or b <= bounds[1])
        and b <= corner
        and corner + size <= b + length
    ]
    if not allowed:
        with pytest.raises(ValueError, match=r"smaller than a voxel|none can lie in a sample"):
            draws(sampler, 1, (axis,))
        return
    central = {b for b in allowed if b + length / 4 <= corner and corner + size <= b + 3 * length / 4}
    distances = {b: abs(b + length / 2 - corner - size / 2) for b in allowed}
    nearest = {b for b in allowed if distances[b] == min(distances.values())}
    found = {place.begin[0] for place in draws(sampler, 10, (axis,))}
    assert found <= (central or nearest)


def test_voxels_that_no_sample_can_hold_are_passed_over() -> None:
    sampler = MaskSampler(LabelArray(np.ones(100), (8,), (0,)))
    found = draws(sampler, 3000, (Axis(64, 8, 8, 0, 80, 160, "RAW", "RAW"),))
    # samples from 80 to 160 + 64
    counts = Counter(place.info["voxel"][0] for place in found)
    assert_frequencies(counts, dict.fromkeys(range(80, 224, 8), 1 / 18))
    assert all(0 <= place.info["voxel"][0] - place.begin[0] <= 56 for place in found)


def test_a_mask_that_no_sample_can_hold_says_what_is_missing() -> None:
    sampler = MaskSampler(LabelArray(np.ones(4), (8,), (0,)))
    with pytest.raises(ValueError, match=r"80 or later \(RAW\) .*\(to hold it\): .* world units are missing"):
        draws(sampler, 1, (Axis(64, 8, 8, 0, 80, 160, "RAW", "RAW"),))
    with pytest.raises(ValueError, match="is smaller than a voxel"):
        draws(sampler, 1, (Axis(4, 4, 4, 0),))
    with pytest.raises(ValueError, match="1 axes, the sample has 2"):
        draws(sampler, 1)


def test_a_mask_needs_a_voxel() -> None:
    sampler = MaskSampler(LabelArray(block((4, 4), ((0, 0), (1, 1))), (8, 8), (0, 0)), within=Roi((8, 8), (16, 16)))
    for refused in (sampler.load, lambda: draws(sampler, 1)):
        with pytest.raises(ValueError, match="no voxel to lay a sample on"):
            refused()
    with pytest.raises(ValueError, match="no whole voxel"):
        MaskSampler(LabelArray(np.ones((4, 4)), (8, 8), (0, 0)), within=Roi((2, 2), (7, 7)))
    with pytest.raises(ValueError, match="it cannot give"):
        MaskSampler(LabelArray(np.ones((4, 4)), (8, 8), (0, 0)), voxel_size=(16, 16))
    with pytest.raises(ValueError, match="has 1 axes"):
        MaskSampler(LabelArray(np.ones((4, 4)), (8, 8), (0, 0)), within=Roi((0,), (7,)))
    with pytest.raises(ValueError, match="both need 2 entries"):
        LabelArray(np.ones((4, 4)), (8, 8, 8), (0, 0))
    with pytest.raises(ValueError, match="without a label volume"):
        MaskSampler(ClassVolume(None))


def test_several_masks_are_united_and_those_without_a_voxel_do_not_matter() -> None:
    one, two, none = (np.zeros((4, 6), np.uint8) for _ in range(3))
    one[0, :3], two[:, 2] = 1, 1
    labels = [
        LabelArray(one, (8, 8), (0, 0)),
        LabelArray(two[:, 1:], (8, 8), (0, 8)),  # another box
        LabelArray(none, (8, 8), (0, 0)),
        LabelArray(np.ones((2, 2)), (8, 8), (800, 0)),  # outside
    ]
    within = Roi((0, 0), (32, 48))
    sampler = MaskSampler(labels, within=within)
    axes = (Axis(8, 8, 8, 0), Axis(8, 8, 8, 0))
    counts = Counter(tuple(place.info["voxel"]) for place in draws(sampler, 3000, axes))
    corners = [tuple(corner) for corner in (np.argwhere(one | two) * 8).tolist()]
    assert_frequencies(counts, dict.fromkeys(corners, 1 / len(corners)))
    with pytest.raises(ValueError, match=r"no voxel .* an array of shape \(4, 6\) .* or an array of shape \(4, 6\)"):
        MaskSampler([labels[2], labels[2]]).load()
    with pytest.raises(ValueError, match="no whole voxel"):
        MaskSampler([labels[3]], within=within)
    with pytest.raises(ValueError, match="at least one mask"):
        MaskSampler([])


def test_masks_of_other_voxel_sizes_are_searched_at_a_common_one(tmp_path: Path) -> None:
    scales = [(8, 12), (8, 8)]
    volumes = []
    for number, scale in enumerate(scales):
        data = np.zeros((4, 48 // scale[1]), np.uint8)
        data[number, :4] = 1
        centre = [scale[0] / 2, scale[1] / 2]
        volumes.append(
            MultiscaleImage.open(write_multiscale(tmp_path / str(number), [data], [scale], [centre], axes="yx"))
        )
    index = MaskSampler(volumes).voxels
    assert index.voxel_size == (8, 24)
    assert {tuple(corner) for corner in index.draw(np.random.default_rng(0), 50).tolist()} == {(0, 0), (0, 24), (8, 0)}


# volumes on disk

SIZE = (8, 4, 4)
CORNER = (16, 40, -8)


def pyramid(path: Path) -> tuple[MultiscaleImage, np.ndarray]:
    """Labels 0 to 3 at 8 × 4 × 4 nm and at twice that, the corner of the first voxel at ``CORNER``."""
    fine = np.random.default_rng(5).integers(0, 4, (6, 8, 10)).astype(np.uint8)
    coarse = fine[::2, ::2, ::2]
    scales = [SIZE, tuple(2 * s for s in SIZE)]
    centres = [[c + s / 2 for c, s in zip(CORNER, scale, strict=True)] for scale in scales]
    return MultiscaleImage.open(write_multiscale(path / "labels", [fine, coarse], scales, centres)), fine


def corners_of(voxels: np.ndarray, size: Sequence[int]) -> set[tuple[int, ...]]:
    return {tuple(corner) for corner in (np.argwhere(voxels) * size + CORNER).tolist()}


def corners_in(grid: VoxelGrid) -> set[tuple[int, ...]]:
    """All voxels of an index, by drawing them."""
    index = grid.index()
    drawn = index.draw(np.random.default_rng(0), 40 * len(index))
    found = {tuple(corner) for corner in drawn.tolist()}
    assert len(found) == len(index)
    return found


@pytest.mark.parametrize("at_once", [256, 3, 1])
def test_a_volume_is_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(voxel_index, "_BLOCK", at_once)
    volume, fine = pyramid(tmp_path)
    assert corners_in(VoxelGrid.of(volume, World())) == corners_of(fine > 0, SIZE)
    assert corners_in(VoxelGrid.of(ClassVolume(volume, present=2), None)) == corners_of(fine == 2, SIZE)
    within = Roi((17, 40, -8), (30, 20, 40))
    inside = np.zeros_like(fine)
    inside[1:3, 0:5, :] = fine[1:3, 0:5, :]
    assert corners_in(VoxelGrid.of(volume, None, within=within)) == corners_of(inside > 0, SIZE)
    in_memory = LabelArray(fine, SIZE, CORNER)
    assert corners_in(VoxelGrid.of(in_memory, None, within=within)) == corners_of(inside > 0, SIZE)


def test_the_finest_level_that_is_small_enough_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, fine = pyramid(tmp_path)
    assert VoxelGrid.of(volume, None).voxel_size == Coordinate(SIZE)
    monkeypatch.setattr(voxel_index, "_MOST_VOXELS", fine.size - 1)
    coarse = VoxelGrid.of(volume, None)
    assert coarse.voxel_size == Coordinate(SIZE) * 2
    assert corners_in(coarse) == corners_of(fine[::2, ::2, ::2] > 0, [2 * s for s in SIZE])
    assert VoxelGrid.of(volume, None, SIZE).voxel_size == Coordinate(SIZE)
    monkeypatch.setattr(voxel_index, "_MOST_VOXELS", 3)
    with pytest.raises(ValueError, match=r"no level can be searched with at most 3 voxels \(.*480 voxels.*60 voxels"):
        VoxelGrid.of(volume, None)


def test_a_voxel_size_that_is_not_stored_is_made_by_majority(tmp_path: Path) -> None:
    volume, fine = pyramid(tmp_path)
    size = (8, 8, 4)
    pairs = (fine > 0).reshape(6, 4, 2, 10)
    assert corners_in(VoxelGrid.of(volume, None, size)) == corners_of(pairs.all(axis=2), size)


def test_a_volume_with_channels_is_refused(tmp_path: Path) -> None:
    data = np.ones((2, 4, 4), np.uint8)
    path = write_multiscale(tmp_path / "two", [data], [(8, 8)], [(4, 4)], axes="cyx")
    with pytest.raises(ValueError, match="has one channel"):
        MaskSampler(MultiscaleImage.open(path))


# ClassSampler

CLASSES = {
    "mito": LabelArray(block((8, 8), ((0, 0), (2, 2))), (8, 8), (0, 0)),
    "er": LabelArray(block((8, 8), ((5, 5), (8, 8))), (8, 8), (400, 0)),
    "none": LabelArray(np.zeros((8, 8)), (8, 8), (0, 0)),
}
ELSEWHERE = UniformSampler(Roi((2000, 2000), (96, 96)))


@pytest.mark.parametrize(
    "shares", [{"mito": 0.3, "er": 0.1}, {"mito": 0.7, "er": 0.3}, {"er": 0.2, "none": 0.0}, {"mito": 1.0}, {}]
)
def test_classes_come_in_their_shares(shares: dict[str, float]) -> None:
    sampler = ClassSampler(CLASSES, shares, ELSEWHERE)
    found = draws(sampler, 2000)
    assert_frequencies(Counter(place.info["class"] for place in found), {**shares, None: 1 - sum(shares.values())})
    for place in found:
        name = place.info["class"]
        if name is None:
            assert place.begin[0] >= 2000
        else:
            voxel = np.subtract(place.info["voxel"], CLASSES[name].begin) // 8
            assert CLASSES[name].data[tuple(voxel)]


def test_shares_of_classes_that_no_sample_can_hold_go_elsewhere() -> None:
    shares = {"mito": 0.3, "none": 0.3, "er": 0.2}
    opening = (Axis(64, 8, 8, 0, 3000, 3016, "RAW", "RAW"), OPENING[1])
    elsewhere = UniformSampler(Roi((3000, 2000), (96, 96)))
    sampler = ClassSampler(CLASSES, shares, elsewhere, absent_elsewhere=True)
    assert_frequencies(Counter(place.info["class"] for place in draws(sampler, 50, opening)), {None: 1})
    found = Counter(
        place.info["class"] for place in draws(ClassSampler(CLASSES, shares, ELSEWHERE, absent_elsewhere=True), 2000)
    )
    assert_frequencies(found, {"mito": 0.3, "er": 0.2, None: 0.5})


def corners_of_class(labels: LabelArray) -> set[tuple[int, ...]]:
    return {tuple(corner) for corner in (np.argwhere(labels.data) * labels.voxel_size + labels.begin).tolist()}


def test_a_class_may_unite_several_of_which_one_is_absent() -> None:
    united = {"any": [CLASSES["none"], CLASSES["er"], CLASSES["mito"]]}
    found = draws(ClassSampler(united, {"any": 1}), 200)
    assert {place.info["class"] for place in found} == {"any"}
    voxels = {tuple(place.info["voxel"]) for place in found}
    assert all(voxels & corners_of_class(CLASSES[name]) for name in ("er", "mito"))
    assert voxels <= corners_of_class(CLASSES["er"]) | corners_of_class(CLASSES["mito"])


@pytest.mark.parametrize(
    ("shares", "otherwise", "message"),
    [
        ({"mito": -0.1}, ELSEWHERE, "'mito' is -0.1"),
        ({"mito": float("nan")}, ELSEWHERE, "'mito' is nan"),
        ({"mito": 0.7, "er": 0.4}, ELSEWHERE, "sum to 1.1"),
        ({"golgi": 0.1}, ELSEWHERE, "'golgi', which is none of mito, er, none"),
        ({"mito": 0.5}, None, "sum to 0.5; give otherwise= a sampler for the rest"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares: dict[str, float], otherwise: Sampler | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassSampler(CLASSES, shares, otherwise)


def test_a_class_without_a_voxel_is_refused_by_name() -> None:
    sampler = ClassSampler(CLASSES, {"mito": 0.5, "none": 0.1}, ELSEWHERE)
    with pytest.raises(ValueError, match="class 'none': no voxel to lay a sample on"):
        sampler.load()
    with pytest.raises(ValueError, match=r"class 'er': .* no whole voxel"):
        ClassSampler(CLASSES, {"er": 1}, within=Roi((0, 0), (64, 64)))


# StratifiedSampler


def test_strata_come_by_their_weights() -> None:
    strata = {
        "dense": Roi((0, 0), (64, 48)),
        "artefact": [Roi((1000, 0), (8, 8)), Roi((2000, 0), (8, 8))],
        "rest": ELSEWHERE,
        "never": ELSEWHERE,
    }
    weights = {"dense": 3, "artefact": 1, "rest": 4, "never": 0}
    found = draws(StratifiedSampler(strata, weights), 2000)
    shares = {name: weight / 8 for name, weight in weights.items()}
    assert_frequencies(Counter(place.info["stratum"] for place in found), shares)
    assert {place.info["region"] for place in found if place.info["stratum"] == "artefact"} == {0, 1}


def map_of_strata(path: Path | None) -> tuple[MultiscaleImage | LabelArray, np.ndarray]:
    data = block((8, 8), ((0, 0), (3, 8)), ((3, 0), (4, 1)), ((4, 0), (8, 8)))
    if path is None:
        return LabelArray(data, (16, 16), (0, 0)), data
    return MultiscaleImage.open(write_multiscale(path / "map", [data], [(16, 16)], [(8, 8)], axes="yx")), data


@pytest.mark.parametrize("on_disk", [False, True])
def test_strata_of_a_map(tmp_path: Path, on_disk: bool) -> None:
    volume, data = map_of_strata(tmp_path if on_disk else None)
    names = {0: "outside", 1: "dense", 2: "edge", 3: "sparse"}
    weights = {"outside": 1, "dense": 2, "edge": 2, "sparse": 0}
    sampler = StratifiedSampler.of_map(volume, names, weights)
    found = draws(sampler, 1500)
    assert_frequencies(Counter(place.info["stratum"] for place in found), {name: w / 5 for name, w in weights.items()})
    for place in found:
        assert names[data[tuple(np.array(place.info["voxel"]) // 16)]] == place.info["stratum"]


def test_strata_that_cannot_be_are_refused() -> None:
    strata = {"dense": Roi((0, 0), (64, 48)), "sparse": ELSEWHERE}
    with pytest.raises(ValueError, match="no weights for sparse; write 0"):
        StratifiedSampler(strata, {"dense": 1})
    with pytest.raises(ValueError, match="'edge', which is none of dense, sparse"):
        StratifiedSampler(strata, {"dense": 1, "sparse": 1, "edge": 1})
    with pytest.raises(ValueError, match="'dense' is -1"):
        StratifiedSampler(strata, {"dense": -1, "sparse": 1})
    with pytest.raises(ValueError, match="all 0"):
        StratifiedSampler(strata, {"dense": 0, "sparse": 0})
    with pytest.raises(ValueError, match="stratum 'dense': no regions"):
        StratifiedSampler({"dense": []}, {"dense": 1})
    volume, _ = map_of_strata(None)
    with pytest.raises(ValueError, match="one for two values"):
        StratifiedSampler.of_map(volume, {1: "dense", 2: "dense"}, {"dense": 1})
    absent = StratifiedSampler.of_map(volume, {1: "dense", 9: "artefact"}, {"dense": 1, "artefact": 1})
    with pytest.raises(ValueError, match="stratum 'artefact': no voxel to lay a sample on"):
        absent.load()
    StratifiedSampler.of_map(volume, {1: "dense", 9: "artefact"}, {"dense": 1, "artefact": 0}).load()


def test_a_class_within_a_stratum_records_both() -> None:
    nested = StratifiedSampler({"dense": ClassSampler(CLASSES, {"mito": 0.5}, ELSEWHERE)}, {"dense": 1})
    found = draws(nested, 50)
    assert {(place.info["stratum"], place.info["class"]) for place in found} == {("dense", "mito"), ("dense", None)}


@pytest.mark.parametrize("loaded", [False, True])
def test_strategies_go_into_other_processes(tmp_path: Path, loaded: bool) -> None:
    volume, _ = map_of_strata(tmp_path)
    strata = {
        "classes": ClassSampler(CLASSES, {"mito": 0.5}, ELSEWHERE),
        "map": StratifiedSampler.of_map(volume, {1: "dense"}, {"dense": 1}),
        "regions": [Roi((0, 0), (64, 48)), Roi((64, 48), (64, 48))],
    }
    sampler = StratifiedSampler(strata, dict.fromkeys(strata, 1))
    if loaded:
        sampler.load()
    assert draws(pickle.loads(pickle.dumps(sampler)), 50) == draws(sampler, 50)
