"""Measures of objects against counting by hand and meshes of scikit-image; those of blocks are those of the whole."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import marching_cubes, mesh_surface_area

from scalenet_gp.segmentation import (
    border_faces,
    boundary_faces,
    count_overlaps,
    crossing_areas,
    crossing_steps,
    face_areas,
    mean_values,
    measure_objects,
    merge_contacts,
    merge_measures,
    merge_overlaps,
    principal_axes,
    surface_areas,
)

LARGE = 2**40


def random_ids(seed, shape=(5, 6, 7)):
    """Ids that touch one another, some beyond 2**32."""
    rng = np.random.default_rng(seed)
    return rng.choice(np.array([0, 0, 3, LARGE, LARGE + 5], np.uint64), shape)


def in_blocks(ids, values, shape):
    """Merged rows of measures and contacts of all blocks, in reverse order."""
    rows, contacts = [], []
    begins = [range(0, extent, length) for extent, length in zip(ids.shape, shape, strict=True)]
    for begin in reversed(list(itertools.product(*begins))):
        end = [min(b + length, n) for b, length, n in zip(begin, shape, ids.shape, strict=True)]
        first = [max(b - 1, 0) for b in begin]
        around = tuple(slice(f, min(e + 1, n)) for f, e, n in zip(first, end, ids.shape, strict=True))
        inner = tuple(slice(b - f, e - f) for b, e, f in zip(begin, end, first, strict=True))
        of_block = [array[tuple(map(slice, begin, end))] for array in values]
        found = measure_objects(ids[around], of_block, begin, inner)
        rows.append(found[0])
        contacts.append(found[1])
    return merge_measures(np.concatenate(rows)), merge_contacts(np.concatenate(contacts))


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(5, 6, 7), (1, 4, 9), (7, 8)]),
    st.tuples(*[st.integers(1, 9)] * 3),
)
def test_blocks_of_any_shape_have_the_rows_of_one_piece(seed, shape, block):
    ids = random_ids(seed, shape)
    rng = np.random.default_rng(seed)
    values = [rng.integers(0, 2**16, shape, np.uint16), rng.normal(0, 100, shape).astype(np.float32)]
    rows, contacts = measure_objects(ids, values)
    parts, touching = in_blocks(ids, values, block[: len(shape)])
    np.testing.assert_array_equal(parts, merge_measures(rows))
    np.testing.assert_array_equal(touching, contacts)


@pytest.mark.parametrize("shape", [(5, 6, 7), (7, 8)])
def test_measures_are_those_counted_by_hand(shape):
    ids, size = random_ids(1, shape), (5.0, 2.0, 3.0)[-len(shape) :]
    values = np.random.default_rng(2).normal(0, 50, shape)
    rows, contacts = measure_objects(ids, [ids % 1000, values])
    rows = merge_measures(rows)
    assert rows["id"].tolist() == [3, LARGE, LARGE + 5]
    ahead = crossing_steps(len(shape))
    for row in rows:
        where = np.argwhere(ids == row["id"])
        assert row["voxels"] == len(where)
        np.testing.assert_array_equal((row["begin"], row["end"]), (where.min(axis=0), where.max(axis=0) + 1))
        away = where - row["begin"]
        np.testing.assert_array_equal(row["places"], away.sum(axis=0))
        pairs = itertools.combinations_with_replacement(range(len(shape)), 2)
        assert row["products"].tolist() == [int((away[:, a] * away[:, b]).sum()) for a, b in pairs]
        border = [np.sum(where[:, axis] == 0) + np.sum(where[:, axis] == n - 1) for axis, n in enumerate(shape)]
        assert row["cut"].tolist() == border
        index = rows["id"].tolist().index(row["id"])
        assert mean_values(rows, 0)[index] == row["id"] % 1000
        assert mean_values(rows, 1)[index] == pytest.approx(values[ids == row["id"]].mean(), abs=1e-7)
    crossed = {int(i): np.zeros(len(ahead), int) for i in rows["id"]}
    touching = {}
    for place in np.ndindex(*shape):
        for number, step in enumerate(ahead):
            other = tuple(p + s for p, s in zip(place, step.tolist(), strict=True))
            if all(0 <= o < n for o, n in zip(other, shape, strict=True)) and ids[place] != ids[other]:
                pair = sorted((int(ids[place]), int(ids[other])))
                for one in filter(None, pair):
                    crossed[one][number] += 1
                if pair[0]:
                    touching.setdefault(tuple(pair), np.zeros(len(ahead), int))[number] += 1
    for row in rows:
        np.testing.assert_array_equal(row["crossings"], crossed[int(row["id"])])
    assert {(int(c["one"]), int(c["other"])): c["crossings"].tolist() for c in contacts} == {
        pair: counts.tolist() for pair, counts in touching.items()
    }
    faces = sum(n * area for n, area in zip(crossed[3][: len(shape)], face_areas(size), strict=True))
    assert boundary_faces(rows["crossings"], size)[0] == pytest.approx(faces)
    assert border_faces(rows["cut"], size)[0] == pytest.approx(rows["cut"][0] @ face_areas(size))


def ellipsoid(radii, size, shift=(0.3, 0.1, 0.2)):
    """A field that is 0 at the surface of an ellipsoid, at the centres of voxels; radii are nm."""
    grids = np.ogrid[
        tuple(slice(-math.ceil(r / v) - 2, math.ceil(r / v) + 3) for r, v in zip(radii, size, strict=True))
    ]
    parts = zip(grids, radii, size, shift, strict=True)
    return 1 - np.sqrt(sum(((grid + s) * v / r) ** 2 for grid, r, v, s in parts))


@pytest.mark.parametrize(
    ("radii", "size", "within"),
    [
        ((60, 60, 60), (4, 4, 4), 0.005),
        ((20, 20, 20), (4, 4, 4), 0.02),
        ((120, 60, 40), (4, 4, 4), 0.02),
        ((300, 300, 300), (40, 10, 10), 0.01),
    ],
)
def test_surfaces_are_those_of_meshes_of_the_exact_shape(radii, size, within):
    """The mesh is of the exact field. A mesh of the voxels themselves is larger, and their faces are by a half."""
    field = ellipsoid(radii, size)
    vertices, triangles, *_ = marching_cubes(field, 0, spacing=size)
    mesh = mesh_surface_area(vertices, triangles)
    crossings = measure_objects(field > 0)[0]["crossings"]
    assert surface_areas(crossings, size)[0] == pytest.approx(mesh, rel=within)
    vertices, triangles, *_ = marching_cubes((field > 0).astype(float), 0.5, spacing=size)
    assert mesh_surface_area(vertices, triangles) > 1.04 * mesh
    assert boundary_faces(crossings, size)[0] == pytest.approx(1.5 * mesh, rel=0.05)


def test_circles_have_their_circumference():
    y, x = np.ogrid[-40:41, -60:61]
    rows, _ = measure_objects((y * 6) ** 2 + (x * 4) ** 2 <= 200**2)
    assert surface_areas(rows["crossings"], (6, 4))[0] == pytest.approx(2 * math.pi * 200, rel=0.01)


@pytest.mark.parametrize("size", [(8, 8, 8), (16, 8, 8), (50, "4.6", "4.6"), (8, 8), (50, 4)])
def test_planes_in_all_directions_have_their_area_on_average(size):
    size = [*map(float, size)]
    normals = np.random.default_rng(0).normal(size=(200_000, len(size)))
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    areas = np.abs(normals @ (crossing_steps(len(size)) * size).T) / math.prod(size) @ crossing_areas(size)
    assert areas.mean() == pytest.approx(1, abs=3e-3)
    if len(set(size)) == 1:
        assert np.sqrt(np.mean((areas - 1) ** 2)) < 0.03


def test_a_surface_is_the_sum_of_its_contacts_and_its_free_part():
    ids = np.ones((6, 8, 9), np.uint8)
    ids[:, :, 4:], ids[:, 5:, 4:] = 2, 3
    rows, contacts = measure_objects(ids)
    assert contacts[["one", "other"]].tolist() == [(1, 2), (1, 3), (2, 3)]
    for row in rows:
        mine = (contacts["one"] == row["id"]) | (contacts["other"] == row["id"])
        np.testing.assert_array_equal(contacts["crossings"][mine].sum(axis=0), row["crossings"])
    faces = boundary_faces(contacts["crossings"], (10, 1, 1)).tolist()
    assert faces == [6 * 5 * 10, 6 * 3 * 10, 6 * 5 * 10]


def test_principal_axes_of_a_tilted_box():
    """A box of 3 x 20 x 8 voxels whose long axis lies at 45 degrees, against numpy; and lengths of a single voxel."""
    z, y, x = np.indices((9, 40, 40))
    along, across = (y + x - 39) / math.sqrt(2), (y - x) / math.sqrt(2)
    mask = (np.abs(z - 4) <= 1) & (np.abs(along) < 14) & (np.abs(across) < 5)
    size = np.array([4.0, 2.0, 2.0])
    rows = merge_measures(measure_objects(mask, begin=(1000, 2000, 3000))[0])
    lengths, directions = principal_axes(rows, size)
    where = np.argwhere(mask) * size
    moments = np.cov(where.T, bias=True) + np.diag(size**2 / 12)
    values, _ = np.linalg.eigh(moments)
    np.testing.assert_allclose(lengths[0], 2 * np.sqrt(5 * values[::-1]), rtol=1e-10)
    np.testing.assert_allclose(np.abs(directions[0] @ np.array([0, 1, 1]) / math.sqrt(2)), [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(np.diag(directions[0] @ moments @ directions[0].T), values[::-1], rtol=1e-10)
    single = principal_axes(merge_measures(measure_objects(np.ones((1, 1, 1), bool))[0]), size)
    np.testing.assert_allclose(single[0][0], math.sqrt(5 / 3) * size)


def test_moments_beyond_64_bits_are_exact():
    """Parts of an object that spans a millimetre, against Python's integers; and parts merged in two steps."""
    rng = np.random.default_rng(0)
    rows = np.repeat(measure_objects(np.ones((1, 1, 1), bool))[0], 6)
    rows["voxels"] = rng.integers(10**9, 10**10, 6)
    rows["corner"] = rng.integers(0, 200_000, (6, 3))
    rows["begin"], rows["end"] = rows["corner"], rows["corner"] + 512
    rows["places"] = rng.integers(0, 512 * 10**9, (6, 3))
    rows["products"] = rng.integers(0, 512**2 * 10**9, (6, 6))
    merged = merge_measures(rows)
    start, (row,) = merged["begin"][0].tolist(), merged
    pairs = itertools.combinations_with_replacement(range(3), 2)
    for number, (a, b) in enumerate(pairs):
        expected = 0
        for part in rows:
            n, at = int(part["voxels"]), [int(c) - s for c, s in zip(part["corner"], start, strict=True)]
            first, second = int(part["places"][a]), int(part["places"][b])
            expected += int(part["products"][number]) + at[a] * second + at[b] * first + n * at[a] * at[b]
        assert int(row["products"][number]) + int(row["wraps"][number]) * 2**64 == expected > 2**63
    halves = np.concatenate([merge_measures(rows[:3]), merge_measures(rows[3:])])
    np.testing.assert_array_equal(merge_measures(halves), merged)


def test_overlaps_are_those_counted_by_hand():
    ids, parents = random_ids(1), random_ids(2)
    whole = count_overlaps(ids, parents)
    for row in whole:
        assert row["voxels"] == np.sum((ids == row["id"]) & (parents == row["parent"]))
    assert whole["voxels"].sum() == np.sum((ids > 0) & (parents > 0))
    halves = [count_overlaps(ids[part], parents[part]) for part in (np.s_[3:], np.s_[:3])]
    np.testing.assert_array_equal(merge_overlaps(np.concatenate(halves)), whole)


def test_many_contacts():
    """More contacts than the table begins with room for."""
    ids = np.arange(1, 1001).reshape(10, 10, 10)
    _, contacts = measure_objects(ids)
    assert len(contacts) == sum(math.prod(10 - abs(along) for along in step) for step in crossing_steps(3).tolist())
    assert (contacts["crossings"].sum(axis=1) == 1).all()


def test_values_that_are_not_finite_are_refused():
    values = np.array([[1.0, math.nan]])
    assert measure_objects(np.array([[1, 0]]), [values])[0]["whole"].tolist() == [[1]]
    with pytest.raises(ValueError, match="a value of an object's voxel is not a finite number"):
        measure_objects(np.array([[1, 1]]), [values])
