import numpy as np
import pytest
from gunpowder import ArrayKey, Coordinate, PipelineRequestError, PipelineSetupError, Roi, build
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.targets.affinities import Affinities
from tests.nodes.targets.derived_arrays import Held, provided

LABELS, MASK, AFFINITIES, AFFINITIES_MASK = map(ArrayKey, ("AFF_L", "AFF_M", "AFF", "AFF_AM"))
BIG = np.array([0, 1, 1 + 2**32, 2**31, 2**63, 2**64 - 1], np.uint64)


def double_loop(labels, known, offsets):
    """Affinities and mask of whole arrays: the obvious loop. What lies outside is not known."""
    same, both = np.zeros((2, len(offsets), *labels.shape), np.uint8)
    for edge, offset in enumerate(offsets):
        for voxel in np.ndindex(labels.shape):
            other = tuple(np.add(voxel, offset))
            if all(0 <= i < n for i, n in zip(other, labels.shape, strict=True)) and known[voxel] and known[other]:
                both[(edge, *voxel)] = 1
                same[(edge, *voxel)] = labels[voxel] == labels[other] != 0
    return same, both


def geometry(dims):
    return st.tuples(
        st.lists(st.tuples(*[st.integers(-3, 3)] * dims).filter(any), min_size=1, max_size=4),
        st.tuples(*[st.integers(1, 5)] * dims),
        st.tuples(*[st.sampled_from([8, 23, 50])] * dims),
        st.tuples(*[st.integers(-2, 2)] * dims),
    )


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), drawn=st.sampled_from([2, 3]).flatmap(geometry), channel=st.booleans())
def test_affinities_are_those_of_a_double_loop_up_to_the_edge(seed, drawn, channel):
    offsets, shape, voxel_size, begin = drawn
    rng = np.random.default_rng(seed)
    labels = rng.choice(BIG[: rng.integers(1, 7)], shape)
    known = (rng.random(shape) < 0.8).astype(np.uint8)
    expected = double_loop(labels, known, offsets)
    if channel:
        labels, known = labels[None], known[None]
    begin = Coordinate(begin) * Coordinate(voxel_size)
    source = Held({LABELS: labels, MASK: known}, voxel_size, begin, unbounded=True)
    node = Affinities(LABELS, AFFINITIES, offsets, mask=MASK, affinities_mask=AFFINITIES_MASK)
    roi = Roi(begin, Coordinate(voxel_size) * Coordinate(shape))
    data = provided(source + node, AFF=roi, AFF_AM=roi)
    np.testing.assert_array_equal(data["AFF"], expected[0])
    np.testing.assert_array_equal(data["AFF_AM"], expected[1])


def test_it_asks_for_what_the_offsets_need_and_parts_agree_with_the_whole():
    labels = np.random.default_rng(0).integers(0, 3, (12, 10, 11)).astype(np.uint64)
    offsets = [(-1, 0, 0), (0, -4, 2), (3, 0, 0)]
    source = Held({LABELS: labels}, (50, 8, 8))
    node = Affinities(LABELS, AFFINITIES, offsets, affinities_mask=AFFINITIES_MASK)
    with build(source + node) as pipeline:
        room = pipeline.spec[AFFINITIES].roi
    assert room == Roi((50, 32, 0), (400, 48, 72))
    whole = provided(source + node, AFF=room, AFF_AM=room)
    assert whole["AFF_AM"].all()
    part = provided(source + node, AFF=Roi((150, 40, 16), (100, 24, 40)), AFF_AM=Roi((100, 32, 0), (50, 8, 8)))
    assert source.asked[-1][LABELS].roi == Roi((50, 0, 0), (350, 64, 72))
    np.testing.assert_array_equal(part["AFF"], whole["AFF"][:, 2:4, 1:4, 2:7])
    np.testing.assert_array_equal(part["AFF_AM"], whole["AFF_AM"][:, 1:2, :1, :1])


def test_labels_may_be_asked_for_further_than_affinities():
    labels = np.random.default_rng(1).integers(0, 3, (1, 9, 9)).astype(np.int64)
    source = Held({LABELS: labels}, (8, 8))
    data = provided(
        source + Affinities(LABELS, AFFINITIES, [(1, 0)]), AFF_L=Roi((0, 0), (72, 72)), AFF=Roi((16, 24), (24, 8))
    )
    np.testing.assert_array_equal(data["AFF_L"], labels)
    np.testing.assert_array_equal(data["AFF"], double_loop(labels[0], labels[0] > -1, [(1, 0)])[0][:, 2:5, 3:4])


def test_a_label_can_say_that_nobody_has_looked():
    labels = np.array([[1, 1, 255, 255, 0, 0, 2]], np.uint8)
    node = Affinities(LABELS, AFFINITIES, [(0, 1)], affinities_mask=AFFINITIES_MASK, unknown=255)
    roi = Roi((0, 0), (8, 48))
    data = provided(Held({LABELS: labels}, (8, 8)) + node, AFF=roi, AFF_AM=roi)
    assert data["AFF"].tolist() == [[[1, 0, 0, 0, 0, 0]]]
    assert data["AFF_AM"].tolist() == [[[1, 0, 0, 0, 1, 1]]]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((LABELS, AFFINITIES, []), {}, r"offsets=\(\) have to be one or more"),
        ((LABELS, AFFINITIES, [(0, 1), (0, 0, 1)]), {}, "the same number of axes"),
        ((LABELS, AFFINITIES, [(0, 0.5)]), {}, "whole numbers of voxels"),
        ((LABELS, AFFINITIES, [(0, float("inf"))]), {}, "inf is not a finite length"),
        ((LABELS, AFFINITIES), {}, "has either offsets in voxels or offsets_nm"),
        ((LABELS, AFFINITIES, [(0, 1)]), {"offsets_nm": [(0, 8)]}, "has either offsets in voxels or offsets_nm"),
        ((LABELS, AFFINITIES), {"offsets_nm": [(0, 8)]}, "needs the world that the pipeline counts in"),
        ((LABELS, AFFINITIES, [1, 0, 0]), {}, r"offsets=\(1, 0, 0\) have to be offsets, each with one length per axis"),
        ((LABELS, AFFINITIES, [()]), {}, "the same number of axes"),
        ((LABELS, AFFINITIES, [(0, 0, 1), (0, 0, 0)]), {}, "pairs each voxel with itself"),
        ((LABELS, LABELS, [(0, 1)]), {}, "an array of its own for each of AFF_L"),
        ((LABELS, AFFINITIES, [(0, 1)]), {"affinities_mask": AFFINITIES}, "an array of its own"),
    ],
)
def test_arguments_are_checked(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        Affinities(*arguments, **options)


def test_what_does_not_fit_is_refused_when_the_pipeline_is_built():
    source = Held({LABELS: np.zeros((4, 4), np.uint8)}, (8, 8))
    for node, message in (
        (Affinities(LABELS, AFFINITIES, [(0, 0, 1)]), "the offsets have 3 axes, AFF_L has 2"),
        (Affinities(LABELS, AFFINITIES, [(0, 1)], mask=MASK), "reads AFF_M, which no node upstream provides"),
    ):
        with pytest.raises(PipelineSetupError) as error:
            provided(source + node, AFF=Roi((0, 0), (8, 8)))
        assert message in str(error.value.__cause__)


def test_offsets_in_nanometres_are_those_in_voxels_of_every_size():
    labels = np.random.default_rng(2).integers(0, 3, (4, 12, 12)).astype(np.uint64)
    world = World("1/5")
    for size, voxels in (((250, 23, 46), [(1, 0, 0), (0, -4, 2)]), ((50, 46, 23), [(5, 0, 0), (0, -2, 4)])):
        source = Held({LABELS: labels}, size, unbounded=True)
        roi = Roi((0, 0, 0), Coordinate(size) * Coordinate(labels.shape))
        nm = [(50, 0, 0), (0, -18.4, "18.4")]
        asked = [
            provided(source + Affinities(LABELS, AFFINITIES, **given), AFF=roi)["AFF"]
            for given in ({"offsets_nm": nm, "world": world}, {"offsets": voxels})
        ]
        np.testing.assert_array_equal(*asked)
    node = Affinities(LABELS, AFFINITIES, offsets_nm=[(50, 0, 11.5)], world=world)
    with pytest.raises(PipelineSetupError) as error:
        provided(Held({LABELS: labels}, (250, 23, 46)) + node, AFF=Roi((0, 0, 0), (250, 23, 46)))
    message = str(error.value.__cause__)
    assert "the offset (50, 0, 11.5) nm is not a whole number of voxels of 50 × 4.6 × 9.2 nm" in message
    assert "the nearest is (50, 0, 9.2) nm" in message


def test_labels_of_several_channels_are_refused():
    source = Held({LABELS: np.zeros((2, 4, 4), np.uint8)}, (8, 8))
    with pytest.raises(PipelineRequestError, match="the labels AFF_L have 2 channels"):
        provided(source + Affinities(LABELS, AFFINITIES, [(0, 1)]), AFF=Roi((0, 0), (8, 8)))


def test_without_a_mask_the_padding_counts_as_annotated():
    source = Held({LABELS: np.ones((2, 3), np.uint8)}, (8, 8), unbounded=True)
    node = Affinities(LABELS, AFFINITIES, np.array([[0.0, 1.0]]), affinities_mask=AFFINITIES_MASK)
    data = provided(source + node, AFF=Roi((0, 0), (16, 24)), AFF_AM=Roi((0, 0), (16, 24)))
    assert data["AFF"].tolist() == [[[1, 1, 0], [1, 1, 0]]]
    assert data["AFF_AM"].all()
