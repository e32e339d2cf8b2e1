"""GrowBoundary against brute force, against gunpowder's, and between voxel sizes."""

from __future__ import annotations

import gunpowder as gp
import numpy as np
import pytest
from gunpowder import ArrayKey, Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.errors import ArgumentError, DataError, PipelineError
from scalenet_gp.geometry import World
from scalenet_gp.nodes import GrowBoundary
from scalenet_gp.nodes.chains import build_chain
from tests.nodes.targets.derived_arrays import Held, provided, request

FINE, COARSE, MASK = ArrayKey("GB_FINE"), ArrayKey("GB_COARSE"), ArrayKey("GB_MASK")


def cells(shape: tuple[int, ...], seed: int, count: int = 6) -> np.ndarray:
    """Touching instances, each the voxels nearest to its seed, and background."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, 1, (count, len(shape))) * shape
    distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1)[..., None, :] - seeds, axis=-1)
    labels = distance.argmin(axis=-1).astype(np.uint64) + 2**40
    return np.where(distance.min(axis=-1) < 0.5 * max(shape), labels * (labels % 3 > 0), 0)


def by_brute_force(labels: np.ndarray, known: np.ndarray, size: tuple[int, ...], width: float) -> np.ndarray:
    """Every pair of voxels."""
    places = np.argwhere(np.ones(labels.shape)) * size
    near = np.linalg.norm(places[:, None] - places, axis=-1) <= width
    flat, sure = labels.ravel(), known.ravel()
    gap = (near & (flat[:, None] != flat) & sure[:, None] & sure).any(axis=1)
    return np.where(gap, 0, flat).reshape(labels.shape)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 12, 20]), st.booleans())
def test_it_is_brute_force_also_beyond_the_request(seed: int, width: int, masked: bool) -> None:
    size, labels = (20, 8), cells((7, 14), seed)
    known = np.random.default_rng(seed).random(labels.shape) > 0.2 * masked
    labels[0, 0] = 7
    known_there = known & (labels != 7)
    world, whole = World("1/2"), Roi((0, 0), (140, 112))
    source = Held({FINE: labels, MASK: known.astype(np.uint8)}, size, unbounded=True)
    node = GrowBoundary(FINE, width / 2, world=world, mask=MASK, unknown=7)  # nm, of two world units
    found = provided(source + node, GB_FINE=whole)["GB_FINE"]
    np.testing.assert_array_equal(found, by_brute_force(labels, known_there, size, width))
    part = provided(source + node, GB_FINE=Roi((40, 24), (60, 40)))["GB_FINE"]
    np.testing.assert_array_equal(part, found[2:5, 3:8])


@pytest.mark.parametrize("axis", [(), (1,)])
def test_with_a_width_of_a_voxel_it_is_one_step_of_gunpowders(axis: tuple[int, ...]) -> None:
    labels = cells((9, 10, 11), 3)
    shape = (*axis, *labels.shape)
    source = Held({FINE: labels.reshape(shape)}, (8, 8, 8))
    inner = Roi((8, 8, 8), (56, 64, 72))
    ours = provided(source + GrowBoundary(FINE, 8, world=World()), GB_FINE=inner)["GB_FINE"]
    theirs = provided(Held({FINE: labels}, (8, 8, 8)) + gp.GrowBoundary(FINE), GB_FINE=Roi((0, 0, 0), (72, 80, 88)))
    np.testing.assert_array_equal(ours.reshape(ours.shape[-3:]), theirs["GB_FINE"][1:-1, 1:-1, 1:-1])
    assert 0 < (ours > 0).sum() < (labels[1:-1, 1:-1, 1:-1] > 0).sum()


def two_sizes(labels: np.ndarray, factor: int) -> tuple[np.ndarray, gp.BatchProvider]:
    """The most frequent label of each block (the least of them), and a source of both."""
    blocks = labels.reshape([n for length in labels.shape for n in (length // factor, factor)])
    blocks = np.moveaxis(blocks, (1, 3), (2, 3)).reshape(*(n // factor for n in labels.shape), -1)
    coarse = np.empty(blocks.shape[:-1], labels.dtype)
    for place in np.ndindex(coarse.shape):
        values, counts = np.unique(blocks[place], return_counts=True)
        coarse[place] = values[counts.argmax()]
    size = Coordinate((8, 8))
    sources = Held({FINE: labels}, size, unbounded=True), Held({COARSE: coarse}, size * factor, unbounded=True)
    return coarse, sources + gp.MergeProvider()


@pytest.mark.parametrize("width", [8, 17])
def test_edges_are_at_the_same_place_at_every_voxel_size(width: int) -> None:
    labels = cells((32, 48), 5, count=4)
    coarse, source = two_sizes(labels, 4)
    node = GrowBoundary([COARSE, FINE], width, world=World())
    found = provided(source + node, GB_FINE=Roi((32, 64), (96, 64)), GB_COARSE=Roi((0, 0), (256, 384)))
    around = np.pad(labels, 3)  # the source has background there
    fine = by_brute_force(around, np.ones(around.shape, bool), (8, 8), width)[3:-3, 3:-3]
    np.testing.assert_array_equal(found["GB_FINE"], fine[4:16, 8:16])
    kept = np.array(
        [
            [2 * (fine[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] == coarse[y, x]).sum() >= 16 for x in range(12)]
            for y in range(8)
        ]
    )
    np.testing.assert_array_equal(found["GB_COARSE"], np.where(kept, coarse, 0))
    assert (found["GB_COARSE"] != coarse).any()
    # an instance ends within a coarse voxel of where it ends in the fine array
    for label in set(np.unique(coarse).tolist()) - {0}:
        shown = np.flatnonzero((found["GB_COARSE"] == label).any(axis=0))
        there = np.flatnonzero((fine == label).any(axis=0))
        assert not len(shown) or abs(shown[0] * 4 - there[0]) <= 4
    alone = provided(source + node, GB_COARSE=Roi((64, 96), (64, 96)))["GB_COARSE"]
    np.testing.assert_array_equal(alone, found["GB_COARSE"][2:4, 3:6])


def test_bounded_labels_end_a_margin_earlier() -> None:
    node = GrowBoundary(FINE, 17, world=World())
    with build_chain(Held({FINE: cells((9, 9), 0)}, (8, 8)) + node) as chain:
        assert chain.spec[FINE].roi == Roi((16, 16), (40, 40))


@pytest.mark.parametrize(
    ("arrays", "sizes", "options", "error", "message"),
    [
        ([FINE], [(8, 8)], {"width": 4}, PipelineError, "width is 4 nm, less than a voxel of GB_FINE, 8 × 8 nm"),
        ([FINE, COARSE], [(8, 8), (12, 12)], {"width": 8}, PipelineError, "GB_COARSE has voxels of .12, 12. world"),
        ([FINE, COARSE], [(8, 8)], {"width": 8}, PipelineError, "reads GB_COARSE, which no node upstream provides"),
        ([FINE], [(8, 8)], {"width": 40}, PipelineError, "nothing is left of GB_FINE"),
        ([FINE, FINE], [(8, 8)], {"width": 8}, ArgumentError, "each once"),
        ([], [(8, 8)], {"width": 8}, ArgumentError, "one or more arrays"),
        ([FINE], [(8, 8)], {"width": 0}, ArgumentError, "has to be positive"),
    ],
)
def test_what_does_not_fit_is_refused(arrays: list, sizes: list, options: dict, error: type, message: str) -> None:
    held = [Held({key: np.ones((9, 9), np.uint8)}, size) for key, size in zip((FINE, COARSE), sizes, strict=False)]
    source = tuple(held) + gp.MergeProvider() if len(held) > 1 else held[0]
    with pytest.raises(error, match=message), build_chain(source + GrowBoundary(arrays, world=World(), **options)):
        pass


def test_labels_of_several_channels_are_refused() -> None:
    source = Held({FINE: np.ones((2, 9, 9), np.uint8)}, (8, 8))
    with (
        pytest.raises(DataError, match=r"GB_FINE has shape \(2, 5, 5\)"),
        build_chain(source + GrowBoundary(FINE, 8, world=World())) as chain,
    ):
        chain.request_batch(request(GB_FINE=Roi((16, 16), (24, 24))))
