import numpy as np
import pytest
from gunpowder import ArrayKey, PipelineRequestError, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.nodes.targets.class_weights import ClassWeights
from tests.nodes.targets.derived_arrays import Held, provided

TARGET, MASK, WEIGHTS = map(ArrayKey, ("CW_T", "CW_M", "CW"))
EVERYWHERE = Roi((0, 0, 0), (40, 48, 32))


def weights(target, mask, **options):
    source = Held({TARGET: target, MASK: mask}, (8, 8, 8))
    data = provided(source + ClassWeights(TARGET, WEIGHTS, mask=MASK, **options), CW=EVERYWHERE)["CW"]
    assert data.dtype == np.float32
    assert data.shape == target.shape
    return data


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    present=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    known=st.sampled_from([0.0, 0.5, 1.0]),
    shared=st.booleans(),
)
def test_weights_are_those_of_a_loop_over_the_channels(seed, present, known, shared):
    rng = np.random.default_rng(seed)
    target = (rng.random((3, 5, 6, 4)) < present).astype(np.uint8)
    mask = (rng.random((1 if shared else 3, 5, 6, 4)) < known).astype(np.uint8)
    data = weights(target, mask, least=0.1)
    assert np.isfinite(data).all()
    for channel in range(3):
        inside = mask[0 if shared else channel] > 0
        values = target[channel][inside]
        share = min(max(values.mean() if values.size else 0, 0.1), 0.9)
        np.testing.assert_allclose(data[channel][inside], np.where(values, 0.5 / share, 0.5 / (1 - share)), rtol=1e-6)
        assert not data[channel][~inside].any()


def test_both_sides_weigh_the_same_and_a_voxel_one_on_average():
    rng = np.random.default_rng(0)
    target = (rng.random((2, 5, 6, 4)) < np.array([0.2, 0.7]).reshape(2, 1, 1, 1)).astype(np.uint8)
    mask = (rng.random(target.shape) < 0.8).astype(np.uint8)
    data = weights(target, mask)
    for channel in range(2):
        sides = [data[channel][(target[channel] == side) & (mask[channel] == 1)].sum(dtype=float) for side in (0, 1)]
        np.testing.assert_allclose(sides, mask[channel].sum() / 2, rtol=1e-6)


def test_what_is_not_there_gets_no_infinite_weight():
    nothing, everything = np.zeros((1, 5, 6, 4), np.uint8), np.ones((1, 5, 6, 4), np.uint8)
    np.testing.assert_allclose(weights(nothing, everything), 0.5 / 0.95)
    np.testing.assert_allclose(weights(everything, everything), 0.5 / 0.95)
    assert not weights(everything, nothing).any()


def test_shares_of_a_data_set_are_taken_for_every_sample():
    target = np.zeros((3, 5, 6, 4), np.uint8)
    target[:, 0] = 1
    data = weights(target, np.ones_like(target), shares=[0.25, 0.001, 1], least=0.01)
    assert [np.unique(channel).tolist() for channel in data] == [
        pytest.approx(sorted((0.5 / 0.75, 0.5 / 0.25))),
        pytest.approx(sorted((0.5 / 0.99, 0.5 / 0.01))),
        pytest.approx(sorted((0.5 / 0.01, 0.5 / 0.99))),
    ]


def test_without_a_mask_everything_is_known_and_only_what_is_asked_for_counts():
    target = np.zeros((4, 4), np.uint8)
    target[0] = 1
    source = Held({TARGET: target}, (8, 8))
    data = provided(source + ClassWeights(TARGET, WEIGHTS), CW=Roi((0, 0), (16, 32)), CW_T=Roi((0, 0), (32, 32)))
    np.testing.assert_array_equal(data["CW"], np.ones((1, 2, 4)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"least": 0}, "least=0 has to lie above 0"),
        ({"least": 0.6}, "least=0.6"),
        ({"shares": [0.5, 1.1]}, r"shares=\(0.5, 1.1\) have to lie between"),
        ({"shares": [float("nan")]}, "have to lie between"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        ClassWeights(TARGET, WEIGHTS, **options)


def test_there_is_one_share_for_every_channel():
    target = np.zeros((2, 5, 6, 4), np.uint8)
    with pytest.raises(PipelineRequestError, match="CW_T has 2 channels, but 3 shares are given"):
        weights(target, target, shares=[0.1, 0.2, 0.3])


def test_tiles_agree_with_the_whole_only_with_shares():
    target = np.zeros((1, 4, 4), np.uint8)
    target[0, 0, :2] = 1
    source = Held({TARGET: target}, (8, 8))
    whole, part = Roi((0, 0), (32, 32)), Roi((0, 0), (16, 16))
    agree = {}
    for shares in (None, [0.25]):
        large, small = (
            provided(source + ClassWeights(TARGET, WEIGHTS, shares=shares), CW=roi)["CW"] for roi in (whole, part)
        )
        agree[shares is None] = np.array_equal(large[:, :2, :2], small)
    assert agree == {True: False, False: True}


def test_where_a_share_is_clipped_the_rarer_side_weighs_less():
    target = np.zeros((1, 5, 6, 4), np.uint8)
    target[0, 0, 0, 0] = 1
    data = weights(target, np.ones_like(target), least=0.1)
    assert data[target == 1].sum() == pytest.approx(5)
    assert data[target == 0].sum() == pytest.approx(119 / 1.8)
    assert data.mean() < 1
