"""Agglomeration and mutex watershed of fragments, against slow twins, brute force and waterz."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from waterz import agglomerate as waterz_agglomerate

from scalenet_gp.segmentation import (
    EDGE_TYPE,
    STEPS,
    AgglomerateOptions,
    MutexOptions,
    agglomerate,
    find_affinity_objects,
    join_mutex,
    mutex_levels,
    sum_edges,
    sum_rows,
)
from scalenet_gp.segmentation.kinds import cut_kinds, part_kinds

NEIGHBOURS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
OFFSETS = [*NEIGHBOURS, (3, 0, 0), (0, 3, 0), (0, 0, 3)]
SIZE = (Fraction(8),) * 3


def affinities_of(labels, offsets=OFFSETS, inside=0.9, apart=0.1):
    """The affinities of labels, (offset, z, y, x)."""
    found = np.zeros((len(offsets), *labels.shape), np.float32)
    for index, offset in enumerate(offsets):
        here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, labels.shape, strict=True))
        there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, labels.shape, strict=True))
        same = (labels[here] == labels[there]) & (labels[here] > 0)
        found[(index, *here)] = np.where(same, inside, apart)
    return found


def same_partition(one, other):
    pairs = np.unique(np.stack([np.ravel(one), np.ravel(other)]), axis=1)
    return pairs.shape[1] == len(np.unique(one)) == len(np.unique(other))


def canonical(regions):
    """Each node's region by its first node."""
    first = {}
    return [first.setdefault(region, node) for node, region in enumerate(regions)]


@st.composite
def graphs(draw, levels=1):
    """The number of nodes, and random edges between them."""
    count = draw(st.integers(2, 9))
    pairs = [pair for pair in itertools.combinations(range(count), 2) if draw(st.booleans())]
    rows = []
    for one, other in pairs:
        for level in draw(st.sets(st.integers(0, 255), min_size=1, max_size=levels)):
            pieces = draw(st.integers(1, 5))
            affinity = draw(st.integers(0, 8)) / 8 if levels == 1 else (level + 0.5) / 256
            rows.append((one, other, level, pieces, int(affinity * pieces * STEPS)))
    return count, np.array(rows, EDGE_TYPE)


def slow_agglomeration(count, edges, threshold, score):
    """Merge the best pair of regions, again and again: all affinities of every pair are looked at each time."""
    region = list(range(count))
    order = {}
    for row in edges:
        order.setdefault((int(row["one"]), int(row["other"])), len(order))
    while True:
        rows = {}
        for row in edges:
            pair = tuple(sorted((region[row["one"]], region[row["other"]])))
            rows.setdefault(pair, []).append(row)
        scored = [(score(of), pair) for pair, of in rows.items() if pair[0] != pair[1]]
        if not scored or min(scored)[0] >= threshold:
            return canonical(region)
        best = min(scored)[0]
        if sum(one == best for one, _ in scored) > 1:
            return None  # which of equal pairs comes first is another question
        one, other = min(scored)[1]
        region = [one if of == other else of for of in region]


def mean_score(rows):
    return 1 - sum(int(row["total"]) for row in rows) / sum(int(row["count"]) for row in rows) / STEPS


def median_score(rows):
    levels = np.sort(np.repeat([row["level"] for row in rows], [row["count"] for row in rows]))
    return 1 - (levels[len(levels) // 2] + 0.5) / 256


@settings(max_examples=20, deadline=None)
@given(graph=graphs(), threshold=st.integers(1, 16))
def test_regions_are_those_of_merging_the_best_pair_again_and_again(graph, threshold):
    expected = slow_agglomeration(*graph, threshold / 16, mean_score)
    if expected is not None:
        assert agglomerate(*graph, [threshold / 16])[0].tolist() == expected


@settings(max_examples=16, deadline=None)
@given(graph=graphs(levels=3), threshold=st.integers(1, 16))
def test_a_median_is_that_of_all_affinities(graph, threshold):
    expected = slow_agglomeration(*graph, threshold / 16, median_score)
    if expected is not None:
        assert agglomerate(*graph, [threshold / 16], 50)[0].tolist() == expected


def test_regions_of_all_thresholds_are_those_of_waterz(capfd):
    random = np.random.default_rng(0)
    blocks = np.arange(8**3).reshape(8, 8, 8)
    fragments = (1 + blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2)).astype(np.uint64)
    affinities = random.random((3, 32, 32, 32), np.float32)
    affinities = affinities + random.random((8, 8, 8), np.float32).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    affinities /= affinities.max()
    backward = [tuple(-step for step in offset) for offset in NEIGHBOURS]  # as waterz has them
    edges = sum_edges(fragments, affinities, backward, (0, 0, 0), [0, 0, 0])
    edges["one"] -= 1
    edges["other"] -= 1
    thresholds = [0.2, 0.4, 0.5, 0.6]
    ours = agglomerate(8**3, edges, thresholds)
    for regions, theirs in zip(
        ours, waterz_agglomerate(affinities, thresholds, fragments=fragments.copy()), strict=True
    ):
        assert same_partition(regions[fragments.astype(np.int64) - 1], theirs)
    assert len(np.unique(ours[0])) > len(np.unique(ours[1])) > len(np.unique(ours[2])) > 1
    capfd.readouterr()


@settings(max_examples=14, deadline=None)
@given(seed=st.integers(0, 10**6), reach=st.integers(1, 3), dims=st.sampled_from([2, 3]))
def test_edges_of_blocks_add_up_to_those_counted_voxel_by_voxel(seed, reach, dims):
    random = np.random.default_rng(seed)
    shape = (4, 5, 3)[:dims]
    labels = random.integers(0, 4, shape).astype(np.uint64) * np.uint64(10**12)
    offsets = [(-1,) * dims, (0,) * (dims - 1) + (reach,)]
    affinities = random.random((2, *shape), np.float32)
    counted = {}
    for place in itertools.product(*map(range, shape)):
        for index, offset in enumerate(offsets):
            there = tuple(p + o for p, o in zip(place, offset, strict=True))
            if all(0 <= p < n for p, n in zip(there, shape, strict=True)):
                one, other = sorted((int(labels[place]), int(labels[there])))
                if one and one != other:
                    values = counted.setdefault((one, other, index), [0, 0])
                    values[0] += 1
                    values[1] += round((float(affinities[(index, *place)]) - 0.25 * index) * STEPS)
    found = []
    for begin in (0, 2):  # two blocks
        first, past = max(0, begin - 1), min(shape[0], begin + 2 + reach)
        block = affinities[:, begin : begin + 2]
        corner = (begin - first, *[0] * (dims - 1))
        found.append(sum_edges(labels[first:past], block, offsets, corner, [0, 1], [0, -0.25]))
    rows = sum_rows(np.concatenate(found))
    assert {
        tuple(map(int, (row["one"], row["other"], row["level"]))): [row["count"], row["total"]] for row in rows
    } == counted


def slow_mutex(count, weighted):
    region, parted = list(range(count)), set()
    for weight, one, other in sorted(weighted, key=lambda edge: -abs(edge[0])):
        a, b = region[one], region[other]
        pairs = {frozenset((region[i], region[j])) for i, j in parted}
        if a != b and weight < 0:
            parted.add((one, other))
        elif a != b and frozenset((a, b)) not in pairs:
            region = [a if of == b else of for of in region]
    return canonical(region)


@settings(max_examples=25, deadline=None)
@given(graph=graphs(), threshold=st.integers(1, 7), long=st.integers(0, 10**6))
def test_a_mutex_keeps_apart_what_a_stronger_edge_parts(graph, threshold, long):
    count, edges = graph
    random = np.random.default_rng(long)
    edges = edges.copy()
    edges["level"] = random.integers(0, 2, len(edges))
    edges["total"] += random.integers(1, 1000, len(edges))  # no two weights are alike
    edges["total"] -= edges["level"] * edges["count"] * STEPS
    means = edges["total"] / edges["count"] / STEPS
    weights = np.where(edges["level"] == 0, means - (1 - threshold / 8), means)
    if len(np.unique(np.abs(weights))) == len(weights):
        expected = slow_mutex(count, [(w, int(r["one"]), int(r["other"])) for w, r in zip(weights, edges, strict=True)])
        assert join_mutex(count, edges, [threshold / 8])[0].tolist() == expected


@pytest.mark.parametrize("options", [AgglomerateOptions(), AgglomerateOptions(quantile=50), MutexOptions()])
@pytest.mark.parametrize("backward", [False, True])
def test_affinities_part_objects_that_touch(options, backward):
    labels = np.zeros((12, 12, 24), np.int64)
    labels[1:11, 1:11, 1:12], labels[1:11, 1:11, 12:23] = 1, 2
    offsets = [tuple(-step for step in offset) for offset in OFFSETS] if backward else OFFSETS
    (found,) = find_affinity_objects(affinities_of(labels, offsets), offsets, SIZE, options)
    np.testing.assert_array_equal(found, labels)
    flat = [offset[1:] for offset in offsets if offset[0] == 0]
    (found,) = find_affinity_objects(affinities_of(labels[5], flat), flat, SIZE[1:], options)
    np.testing.assert_array_equal(found, labels[5])


def test_fragments_are_joined_from_a_threshold_on():
    labels = np.repeat(np.arange(1, 4), 6)[None, None, :].repeat(8, 0).repeat(8, 1)
    affinities = affinities_of(labels, inside=0.95)
    affinities[2, :, :, 5], affinities[2, :, :, 11] = 0.45, 0.25
    found = find_affinity_objects(affinities, OFFSETS, SIZE, AgglomerateOptions(thresholds=[0.5, 0.6, 0.8]))
    assert [objects.max() for objects in found] == [3, 3, 2, 1]
    np.testing.assert_array_equal(found[2], np.minimum(labels, 3) - (labels > 1))


def test_biases_are_of_every_offset_or_of_their_lengths():
    assert MutexOptions().biases(OFFSETS) == pytest.approx([-0.4] * 3 + [-0.24] * 3)
    assert mutex_levels(OFFSETS, MutexOptions(bias=[-0.5] * 6))[1] == (0, 0, 0, -0.5, -0.5, -0.5)
    with pytest.raises(ValueError, match=r"bias has 2 entries, and there are 6 offsets: one for each"):
        MutexOptions(bias=[-0.5, -0.5]).biases(OFFSETS)
    with pytest.raises(ValueError, match=r"strides have 3 axes"):
        MutexOptions(strides=[[1, 1]] * 6).biases(OFFSETS)
    with pytest.raises(ValueError, match=r"none leads to the neighbour along axis 1"):
        find_affinity_objects(np.ones((1, 3, 3), np.float32), [(1, 0)], SIZE[1:], AgglomerateOptions())


@settings(max_examples=16, deadline=None)
@given(graph=graphs(), seed=st.integers(0, 10**6))
def test_no_region_has_two_kinds_and_others_stay(graph, seed):
    count, edges = graph
    random = np.random.default_rng(seed)
    regions, kinds = agglomerate(count, edges, [0.7])[0], random.integers(0, 3, count)
    ends = np.stack([edges["one"], edges["other"]], axis=1).astype(np.int64)
    weights = edges["total"] / edges["count"]
    parted = part_kinds(regions, ends, weights, kinds)
    for region in range(count):
        members = np.flatnonzero(regions == region)
        if len(set(kinds[members]) - {0}) < 2:
            assert len(set(parted[members])) <= 1
    for part in np.unique(parted):
        members = np.flatnonzero(parted == part)
        assert len(set(kinds[members]) - {0}) <= 1
        assert len(set(regions[members])) == 1


def test_an_offset_longer_than_a_thin_volume_counts_nowhere():
    """mwatershed alone ends the process there."""
    labels = np.ones((3, 8, 8), np.int64)
    labels[:, 4:] = 2
    affinities = affinities_of(labels)
    long = [*OFFSETS, (-3, 0, 0), (0, 0, 12)]
    more = np.concatenate([affinities, np.zeros((2, *labels.shape), np.float32)])
    found = find_affinity_objects(more, long, SIZE, MutexOptions())
    np.testing.assert_array_equal(found[0], find_affinity_objects(affinities, OFFSETS, SIZE, MutexOptions())[0])
    np.testing.assert_array_equal(found[0], labels)


def test_fragments_grow_to_the_border_of_objects_as_those_of_waterz_do(capfd):
    """Cells with a membrane of one voxel between them: no voxel of a cell is left to the background."""
    places = np.stack(np.indices((20, 20, 20)), axis=-1)[..., None, :]
    cells = 1 + ((places - np.random.default_rng(3).random((9, 3)) * 20) ** 2).sum(axis=-1).argmin(axis=-1)
    cells[ndimage.maximum_filter(cells, 2) != ndimage.minimum_filter(cells, 2)] = 0
    affinities = affinities_of(cells, inside=1, apart=0)
    missing = {}
    for background in (0.15, 0.5):
        found = find_affinity_objects(affinities, OFFSETS, SIZE, AgglomerateOptions(background=background))[0]
        missing[background] = int((found[cells > 0] == 0).sum())
    assert missing[0.15] == 0 < missing[0.5]
    found = find_affinity_objects(affinities, OFFSETS, SIZE, AgglomerateOptions())[0]
    backward = affinities_of(cells, [tuple(-step for step in offset) for offset in NEIGHBOURS], inside=1, apart=0)
    assert same_partition(found * (cells > 0), next(iter(waterz_agglomerate(backward, [0.3]))) * (cells > 0))
    capfd.readouterr()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(5, 6, 7), (9, 11)]))
def test_fragments_are_cut_where_they_have_two_kinds_and_nowhere_else(seed, shape):
    """Against a search of each fragment's pieces one by one."""
    random = np.random.default_rng(seed)
    labels, count = ndimage.label(random.random(shape) < 0.7)
    probabilities = random.dirichlet([0.3] * 3, shape)
    probabilities = np.moveaxis(ndimage.uniform_filter(probabilities, (*[3] * len(shape), 1)), -1, 0)
    expected, best = np.zeros(shape, np.int64), probabilities.argmax(axis=0)
    for label in range(1, count + 1):
        inside = labels == label
        sure = set(best[inside & (probabilities.max(axis=0) > 0.6)].tolist())
        for part in [inside & (best == kind) for kind in range(3)] if len(sure) > 1 else [inside]:
            pieces, _ = ndimage.label(part)
            expected[part] = pieces[part] + expected.max()
    found, number = cut_kinds(labels.astype(np.uint32), count, probabilities, 0.6)
    assert same_partition(found, expected)
    assert found.max() == number == expected.max()
    np.testing.assert_array_equal(found > 0, labels > 0)
