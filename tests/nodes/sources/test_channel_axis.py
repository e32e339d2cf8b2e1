"""Labels without a channel axis, for gunpowder's own nodes, which are compared with ours."""

import gunpowder as gp
import numpy as np
import pytest
from gunpowder import ArrayKey, ArraySpec, BatchRequest, Coordinate, Roi, build
from scipy import ndimage

from scalenet_gp.errors import ArgumentError
from scalenet_gp.nodes import Affinities, ClassTargets, DeformAugment, MultiscaleSource, SampleLocation, UniformSampler
from scalenet_gp.volumes import MultiscaleImage

RAW, LABELS, MASK, THEIRS, OURS, WEIGHTS = map(ArrayKey, ("CA_R", "CA_L", "CA_M", "CA_T", "CA_O", "CA_W"))
THEIR_MASK, OUR_MASK = map(ArrayKey, ("CA_TM", "CA_OM"))
SIZE = (16, 8, 8)
OFFSETS = [(-1, 0, 0), (0, -1, 0), (0, 0, -2)]


def instances():
    rng = np.random.default_rng(0)
    return ndimage.label(ndimage.gaussian_filter(rng.random((16, 32, 32)), 2) > 0.5)[0].astype(np.uint32)


@pytest.fixture
def labels():
    return MultiscaleImage.from_arrays([instances()], [SIZE])


def sources(labels):
    raw = MultiscaleImage.from_arrays([np.ones((1, 16, 32, 32), np.uint8)], [SIZE])
    made = MultiscaleSource(
        labels, {LABELS: SIZE}, labels=True, padding="constant", masks={LABELS: MASK}, channel_axis=False
    )
    return (MultiscaleSource(raw, {RAW: SIZE}, padding="constant"), made) + gp.MergeProvider()


def test_labels_and_masks_have_spatial_axes_only(labels):
    roi = Roi((-16, 0, 80), (64, 80, 80))
    with build(sources(labels)) as pipeline:
        batch = pipeline.request_batch(BatchRequest({key: ArraySpec(roi=roi) for key in (RAW, LABELS, MASK)}))
    assert batch[RAW].data.shape == (1, 4, 10, 10)
    expected = np.pad(instances(), ((1, 0), (0, 0), (0, 0)))[:4, :10, 10:20]
    np.testing.assert_array_equal(batch[LABELS].data, expected)
    assert batch[MASK].data.shape == (4, 10, 10)
    assert batch[MASK].data.sum() == 3 * 100


def test_a_chain_of_gunpowders_label_nodes_behind_ours(labels):
    """Deformed, placed, grown, made into affinities as ours are, and balanced."""
    chain = sources(labels) + DeformAugment((128,) * 3, (8,) * 3, rotation_axes=(1, 2), mirror_axes=(0, 1, 2))
    chain += SampleLocation(LABELS, UniformSampler(Roi((0, 0, 0), (256, 256, 256))))
    chain += gp.GrowBoundary(LABELS, MASK, steps=1, only_xy=True)
    chain += gp.AddAffinities(OFFSETS, LABELS, THEIRS, labels_mask=MASK, affinities_mask=THEIR_MASK)
    chain += Affinities(LABELS, OURS, OFFSETS, mask=MASK, affinities_mask=OUR_MASK)
    chain += gp.BalanceLabels(THEIRS, WEIGHTS, THEIR_MASK)
    roi = Roi((0, 0, 0), (128, 160, 160))
    keys = (RAW, LABELS, THEIRS, THEIR_MASK, OURS, OUR_MASK, WEIGHTS)
    with build(chain) as pipeline:
        batch = pipeline.request_batch(BatchRequest({key: ArraySpec(roi=roi) for key in keys}, random_seed=3))
    assert batch[LABELS].data.shape == (8, 20, 20)
    assert batch[RAW].data.shape == (1, 8, 20, 20)
    assert 0 < batch[THEIRS].data.mean() < 1
    np.testing.assert_array_equal(batch[THEIR_MASK].data, batch[OUR_MASK].data)
    known = batch[OUR_MASK].data > 0
    np.testing.assert_array_equal(batch[THEIRS].data[known], batch[OURS].data[known])
    assert batch[WEIGHTS].data.shape == batch[THEIRS].data.shape


def test_a_target_of_one_class_without_the_axis(labels):
    world = labels.world()
    with build(ClassTargets({"cell": labels}, {LABELS: SIZE}, {LABELS: MASK}, world, channel_axis=False)) as source:
        roi = Roi((0, 0, 0), Coordinate(SIZE) * Coordinate(16, 32, 32))
        batch = source.request_batch(BatchRequest({key: ArraySpec(roi=roi) for key in (LABELS, MASK)}))
    np.testing.assert_array_equal(batch[LABELS].data, instances() > 0)
    assert batch[MASK].data.shape == (16, 32, 32)


def test_several_channels_need_their_axis(labels):
    two = MultiscaleImage.from_arrays([np.ones((2, 4, 4, 4), np.uint8)], [SIZE], name="two")
    with pytest.raises(ArgumentError, match="two has 2 channels, so that arrays need their axis"):
        MultiscaleSource(two, {RAW: SIZE}, channel_axis=False)
    classes = {"cell": labels, "other": labels}
    message = "targets have the channels cell, other, and need their axis"
    with pytest.raises(ArgumentError, match=message):
        ClassTargets(classes, {LABELS: SIZE}, {}, labels.world(), channel_axis=False)
    with pytest.raises(ArgumentError, match="the channels background, cell, and need"):
        ClassTargets({"cell": labels}, {LABELS: SIZE}, {}, labels.world(), exclusive=True, channel_axis=False)
