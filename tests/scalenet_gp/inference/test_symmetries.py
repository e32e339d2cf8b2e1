"""Symmetries of space: a group that acts alike on points, ROIs and arrays, and keeps every lattice of a network."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp import build_scalenet, build_unet
from scalenet_gp.inference.symmetries import Symmetry, lattice_symmetries
from tests.scalenet_gp.graph.strategies import networks


def symmetries(dims: int) -> st.SearchStrategy[Symmetry]:
    return st.builds(
        Symmetry, st.permutations(range(dims)).map(tuple), st.frozensets(st.integers(0, dims - 1), max_size=dims)
    )


@st.composite
def alike(draw: st.DrawFn, count: int) -> list[Symmetry]:
    dims = draw(st.integers(2, 3))
    return [draw(symmetries(dims)) for _ in range(count)]


def matrix(symmetry: Symmetry) -> np.ndarray:
    """The action on points that the docstring of a symmetry describes, as a matrix."""
    result = np.zeros((symmetry.dims, symmetry.dims), int)
    for axis, was in enumerate(symmetry.axes):
        result[axis, was] = -1 if axis in symmetry.mirrored else 1
    return result


@given(alike(3))
def test_they_are_a_group_the_one_of_their_matrices(three):
    f, g, h = three
    one = Symmetry.identity(f.dims)
    assert (matrix(f @ g) == matrix(f) @ matrix(g)).all()
    assert (matrix(f.inverse) == np.linalg.inv(matrix(f))).all()
    assert (f @ g) @ h == f @ (g @ h)
    assert f @ one == one @ f == f
    assert f @ f.inverse == f.inverse @ f == one
    assert (f @ g).inverse == g.inverse @ f.inverse
    assert pickle.loads(pickle.dumps(f)) == f


@given(alike(2), st.data())
def test_a_voxel_lands_where_the_roi_says(two, data):
    """Each voxel of an array is marked by its centre: the turned array holds the turned centres' marks."""
    g, h = two
    size = (6,) * g.dims
    begin = Coordinate(data.draw(st.integers(-4, 4)) for _ in size) * 6
    shape = tuple(data.draw(st.integers(1, 4)) for _ in size)
    roi = Roi(begin, Coordinate(shape) * 6)
    marks = np.arange(np.prod(shape)).reshape(shape)
    mark_at = {tuple(begin[a] + 6 * i + 3 for a, i in enumerate(index)): m for index, m in np.ndenumerate(marks)}

    turned, there = g.array(marks), g.roi(roi)
    assert turned.shape == tuple(there.shape / 6)
    turn = matrix(g.inverse)
    for index, mark in np.ndenumerate(turned):
        centre = np.array([there.begin[a] + 6 * i + 3 for a, i in enumerate(index)])
        assert mark == mark_at[tuple(int(c) for c in turn @ centre)]

    batch = torch.from_numpy(np.stack([marks, -marks])[None])
    np.testing.assert_array_equal(g.tensor(batch)[0, 0].numpy(), turned)
    np.testing.assert_array_equal(g.tensor(batch)[0, 1].numpy(), -turned)
    np.testing.assert_array_equal((g @ h).array(marks), g.array(h.array(marks)))
    assert (g @ h).roi(roi) == g.roi(h.roi(roi))
    assert g.inverse.roi(there) == roi
    assert torch.equal(g.inverse.tensor(g.tensor(batch)), batch)


def test_arrays_are_views_and_so_are_tensors_where_torch_can():
    array, tensor = np.zeros((2, 3, 4, 5)), torch.zeros(1, 2, 3, 4, 5)
    assert np.shares_memory(Symmetry((0, 2, 1), frozenset({0, 1})).array(array), array)
    assert Symmetry((0, 2, 1)).tensor(tensor).data_ptr() == tensor.data_ptr()
    assert Symmetry.identity(3).tensor(tensor) is tensor


@pytest.mark.parametrize(("axes", "mirrored"), [((0, 0), ()), ((1, 2), ()), ((), ()), ((0, 1), (2,)), ((1, 0), (-1,))])
def test_what_is_no_symmetry_is_refused(axes, mirrored):
    with pytest.raises(ValueError, match="axes"):
        Symmetry(axes, frozenset(mirrored))


def test_symmetries_of_other_numbers_of_axes_do_not_follow_one_another():
    with pytest.raises(ValueError, match="2 axes"):
        Symmetry((0, 2, 1)) @ Symmetry((1, 0))


def test_it_prints_where_the_axes_come_from():
    assert str(Symmetry((0, 2, 1), frozenset({1}))) == "(0, -2, 1)"


@given(networks(linear=True))
@settings(max_examples=25)
def test_a_network_keeps_its_lattices_under_a_group(net):
    """Against brute force over all mirrors and orders: those that carry corners of voxels to corners of voxels."""
    expected = set()
    for axes in itertools.permutations(range(net.dims)):
        g = Symmetry(axes)
        boxes = [Roi((0,) * net.dims, size) for size in net.voxel_size.values()]
        if all(g.roi(box) == box for box in boxes):
            for signs in itertools.product((False, True), repeat=net.dims):
                expected.add(Symmetry(axes, frozenset(a for a, sign in enumerate(signs) if sign)))
    found = lattice_symmetries(net)
    assert found[0] == Symmetry.identity(net.dims)
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert {g @ h for g in found for h in found} == expected


@pytest.mark.parametrize(("voxel_size", "count"), [((8, 8, 8), 48), ((40, 4, 4), 16), ((40, 8, 4), 8), ((8, 8), 8)])
def test_how_many_there_are(voxel_size, count):
    assert len(lattice_symmetries(build_unet(voxel_size, base_nc=1))) == count


def test_coarse_tensors_count_too():
    """Isotropic voxels that are pooled differently along their axes."""
    net = build_unet((8, 8, 8), downsample_factors=[(1, 2, 2)], base_nc=1)
    assert {g.axes for g in lattice_symmetries(net)} == {(0, 1, 2), (0, 2, 1)}


def test_axes_are_a_choice():
    net = build_unet((40, 4, 4), base_nc=1)
    assert lattice_symmetries(net, mirror_axes=(), transpose_axes=()) == (Symmetry.identity(3),)
    mirrors = lattice_symmetries(net, mirror_axes=[2], transpose_axes=[])
    assert mirrors == (Symmetry.identity(3), Symmetry((0, 1, 2), frozenset({2})))
    in_plane = lattice_symmetries(net, mirror_axes=(1, 2))
    assert len(in_plane) == 8
    assert all(g.axes[0] == 0 and 0 not in g.mirrored for g in in_plane)
    assert len(lattice_symmetries(net, mirror_axes=(0,), transpose_axes=(0, 1, 2))) == 4  # the lattices part 0 from 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mirror_axes": (2,)}, r"axis 2 is mirrored and swapped with axis 1.*mirror_axes \(2,\)"),
        ({"mirror_axes": (3,)}, r"mirror_axes is \(3,\).*0, 1, 2"),
        ({"transpose_axes": (1, 1)}, r"transpose_axes is \(1, 1\)"),
        ({"transpose_axes": (-1,)}, "transpose_axes"),
    ],
)
def test_axes_that_make_no_group_are_refused(arguments, message):
    net = build_scalenet([{"top_resolution": (40, r, r), "base_nc": 1} for r in (16, 4)])
    with pytest.raises(ValueError, match=message):
        lattice_symmetries(net, **arguments)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "uint64", "float32"])
def test_raw_data_of_any_type_are_carried(dtype):
    data = np.random.default_rng(0).integers(0, 250, (2, 3, 4, 5)).astype(dtype)
    for axes in itertools.permutations(range(3)):
        for mirrored in (frozenset(), frozenset({1}), frozenset({0, 2}), frozenset({0, 1, 2})):
            symmetry = Symmetry(axes, mirrored)
            carried = symmetry.tensor(torch.from_numpy(data))
            assert carried.numpy().dtype == data.dtype
            np.testing.assert_array_equal(carried.numpy(), symmetry.array(data))
