import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp.volumes.reduction import block_majority, block_mean, known_majority


def blockwise(data, factor, function):
    """The obvious loop over the blocks of a (channel, z, y, x) array."""
    shape = (data.shape[0], *(n // f for n, f in zip(data.shape[1:], factor, strict=True)))
    result = np.empty(shape, data.dtype)
    for channel, *voxel in itertools.product(*map(range, shape)):
        block = tuple(slice(i * f, (i + 1) * f) for i, f in zip(voxel, factor, strict=True))
        result[(channel, *voxel)] = function(data[(channel, *block)].ravel())
    return result


@given(
    seed=st.integers(0, 2**32 - 1),
    factor=st.tuples(*[st.integers(1, 4)] * 3),
    blocks=st.tuples(*[st.integers(1, 3)] * 3),
    kinds=st.integers(1, 6),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint64, np.int64]),
)
def test_majority_is_the_mode(seed, factor, blocks, kinds, dtype):
    rng = np.random.default_rng(seed)
    labels = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, kinds, dtype, endpoint=True)
    data = rng.choice(labels, (2, *np.multiply(factor, blocks)))
    np.testing.assert_array_equal(
        block_majority(data, factor), blockwise(data, factor, lambda block: scipy.stats.mode(block).mode)
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    factor=st.tuples(*[st.integers(1, 4)] * 3),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint32]),
)
def test_integer_mean_is_the_exact_mean_rounded_half_to_even(seed, factor, dtype):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 4, (2, *np.multiply(factor, 2))).astype(dtype) + np.array(np.iinfo(dtype).max - 3, dtype)

    def exact_mean(block):
        low, rest = divmod(sum(map(int, block)), block.size)
        return low + (2 * rest > block.size or (2 * rest == block.size and low % 2 == 1))

    np.testing.assert_array_equal(block_mean(data, factor), blockwise(data, factor, exact_mean))


@pytest.mark.parametrize("dtype", ["uint64", "int64", ">u8"])
def test_the_mean_of_the_largest_integers_is_in_range(dtype):
    limits = np.iinfo(dtype)
    for value in (limits.min, 0, limits.max):
        mean = block_mean(np.full((2, 4, 4), value, dtype), (2, 2, 2))
        assert mean.dtype == dtype
        assert set(mean.flat) == {value}


@given(
    seed=st.integers(0, 2**32 - 1),
    factor=st.tuples(*[st.integers(1, 4)] * 3),
    blocks=st.tuples(*[st.integers(1, 3)] * 3),
    share=st.sampled_from([0.0, 0.4, 0.5, 0.6, 1.0]),
)
def test_majority_of_what_is_known(seed, factor, blocks, share):
    rng = np.random.default_rng(seed)
    known = rng.random(np.multiply(factor, blocks)) < share
    present = known & (rng.random(known.shape) < 0.5)
    target, mask = known_majority(present, known, factor)
    assert target.dtype == mask.dtype == np.uint8
    votes = np.where(known, np.where(present, 1, -1), 0)[np.newaxis]
    half_known = blockwise(votes, factor, lambda block: 2 * sum(vote != 0 for vote in block) >= len(block))[0]
    majority = blockwise(votes, factor, lambda block: sum(block) > 0)[0]
    np.testing.assert_array_equal(mask, half_known)
    np.testing.assert_array_equal(target, half_known & majority)


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ("pppp", (1, 1)),
        ("ppaa", (0, 1)),  # a tie is absent
        ("ppau", (1, 1)),
        ("pauu", (0, 1)),  # a tie among those known
        ("ppuu", (1, 1)),  # half is enough
        ("puuu", (0, 0)),
        ("uuuu", (0, 0)),
    ],
)
def test_ties_are_absent_and_half_of_a_block_is_enough(votes, expected):
    voxels = np.array([*votes]).reshape(2, 2)
    assert tuple(array.item() for array in known_majority(voxels == "p", voxels != "u", (2, 2))) == expected


def test_halves_go_to_the_even_neighbour():
    data = np.array([[0, 1, 1, 2, 2, 3]], np.uint8)
    assert block_mean(data, (1, 2)).tolist() == [[0, 2, 2]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_mean_stays_float(dtype):
    data = np.random.default_rng(0).random((1, 4, 6, 6)).astype(dtype)
    result = block_mean(data, (2, 3, 1))
    assert result.dtype == dtype
    expected = blockwise(data.astype(np.float64), (2, 3, 1), np.mean)
    np.testing.assert_allclose(result, expected, rtol=max(np.finfo(dtype).eps, 2 * np.finfo(np.float64).eps))


def test_a_block_of_one_voxel_changes_nothing():
    data = np.array([[[2**63 + 1, 2**53 + 1]]], np.uint64)
    np.testing.assert_array_equal(block_mean(data, (1, 1)), data)


@pytest.mark.parametrize(
    "reduce", [block_mean, block_majority, lambda data, factor: known_majority(data, data, factor)]
)
def test_parts_of_blocks_are_refused(reduce):
    with pytest.raises(ValueError, match=r"shape \(1, 4, 5\) is not made of whole blocks of \(2, 2\)"):
        reduce(np.zeros((1, 4, 5)), (2, 2))
