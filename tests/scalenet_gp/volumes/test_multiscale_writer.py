import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes.multiscale_writer import MultiscaleWriter
from scalenet_gp.volumes.storage import open_array
from scalenet_gp.volumes.stored_array import StoredArray
from tests.scalenet_gp.volumes.ome_zarr_files import position_ramps

SPACE = {"voxel_size": (50, "4.6", "4.6"), "corner": (-25, "586.5", "1/8"), "shape": (6, 40, 33)}


def blocks(shape, block):
    for begin in itertools.product(*(range(0, n, b) for n, b in zip(shape, block, strict=True))):
        yield begin, tuple(slice(b, b + s) for b, s in zip(begin, block, strict=True))


def write(path, data, block=(5, 16, 20), **options):
    with MultiscaleWriter(path, dtype=data.dtype, chunks=(4, 8, 16), **{**SPACE, **options}) as writer:
        for begin, box in blocks(writer.layout.shape, block):
            writer.write(begin, data[(..., *box)])


def read_all(path):
    volume = MultiscaleImage.open(path)
    world = volume.world()
    sizes = [world.size(level.voxel_size) for level in volume.levels]
    return volume, world, [volume.read(volume.roi(size, world), size, world) for size in sizes]


def halved(data, factor):
    """Mean of whole blocks of the trailing axes, in float."""
    data = data[(..., *(slice(n // f * f) for n, f in zip(data.shape[-3:], factor, strict=True)))]
    z, y, x = (n // f for n, f in zip(data.shape[-3:], factor, strict=True))
    return data.reshape(*data.shape[:-3], z, factor[0], y, factor[1], x, factor[2]).mean((-5, -3, -1))


def test_a_round_trip_is_exact_and_every_level_is_in_its_place(tmp_path):
    path = tmp_path / "deep" / "v"
    ramps = position_ramps(SPACE["shape"], (50, 4.6, 4.6), (-25, 586.5, 0.125))
    write(path, ramps, channels=("z", "y", "x"), levels=5)
    volume, _, levels = read_all(path)
    assert [level.shape for level in volume.levels] == [(6, 40, 33), (6, 20, 16), (6, 10, 8), (6, 5, 4), (3, 2, 2)]
    assert [level.voxel_size[0] for level in volume.levels] == [50, 50, 50, 50, 100]
    assert volume.levels[4].voxel_size == (100, Fraction("73.6"), Fraction("73.6"))
    assert {level.begin for level in volume.levels} == {(-25, Fraction("586.5"), Fraction(1, 8))}
    np.testing.assert_array_equal(levels[0], ramps)
    for level, data in zip(volume.levels, levels, strict=True):
        centres = position_ramps(level.shape, tuple(map(float, level.voxel_size)), (-25, 586.5, 0.125))
        np.testing.assert_allclose(data, centres, rtol=1e-12)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["v"]


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    voxel_size=st.tuples(*[st.sampled_from(["4", "4.6", "8", "50", "1.25"])] * 3),
    corner=st.tuples(*[st.fractions(-1000, 1000, max_denominator=1).map(lambda f: f / 8)] * 3),
)
def test_what_is_written_is_read_back(tmp_path_factory, seed, shape, voxel_size, corner):
    data = np.random.default_rng(seed).integers(0, 255, shape, np.uint8)
    path = tmp_path_factory.mktemp("round") / "v"
    write(path, data, block=(7, 8, 9), shape=shape, voxel_size=voxel_size, corner=corner)
    volume, _, levels = read_all(path)
    assert volume.levels[0].begin == corner
    assert volume.levels[0].voxel_size == tuple(map(Fraction, voxel_size))
    np.testing.assert_array_equal(levels[0][0], data)


def test_raw_levels_are_means_and_label_levels_majorities(tmp_path):
    data = np.random.default_rng(0).integers(0, 3, SPACE["shape"], np.uint8) * 100
    write(tmp_path / "raw", data, levels=3)
    expected = data
    for level in read_all(tmp_path / "raw")[2][1:]:
        expected = np.rint(halved(expected, (1, 2, 2)))
        np.testing.assert_array_equal(level[0], expected)
    write(tmp_path / "labels", data, levels=2, labels=True)
    volume, world, (_, stored) = read_all(tmp_path / "labels")
    size = world.size(volume.levels[1].voxel_size)
    write(tmp_path / "single", data, labels=True)
    made = MultiscaleImage.open(tmp_path / "single").read(volume.roi(size, world), size, world, labels=True)
    np.testing.assert_array_equal(stored, made)
    assert set(np.unique(stored)) == {0, 100, 200}


def test_an_axis_of_one_voxel_stays_and_the_others_go_on(tmp_path):
    write(tmp_path / "v", np.zeros((1, 8, 8), np.uint8), shape=(1, 8, 8), voxel_size=(4, 4, 4), levels=4)
    assert [level.shape for level in MultiscaleImage.open(tmp_path / "v").levels] == [(1, n, n) for n in (8, 4, 2, 1)]
    with pytest.raises(ValueError, match=r"levels=5, but shape \(1, 8, 8\) can only have 4"):
        MultiscaleWriter(tmp_path / "w", dtype="u1", **{**SPACE, "shape": (1, 8, 8), "levels": 5})


def test_the_metadata_is_what_viewers_expect(tmp_path):
    data = np.zeros((2, *SPACE["shape"]), np.uint8)
    write(tmp_path / "v", data, channels=("mito", "glia"), levels=2, attributes={"made_by": {"step": 7}})
    attributes = json.loads((tmp_path / "v" / ".zattrs").read_text())
    (multiscale,) = attributes["multiscales"]
    assert (multiscale["version"], multiscale["name"]) == ("0.4", "v")
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "z", "y", "x"]
    assert multiscale["axes"][1] == {"name": "z", "type": "space", "unit": "nanometer"}
    assert multiscale["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1.0, 50.0, 9.2, 9.2]},
        {"type": "translation", "translation": [0.0, 0.0, 591.1, 4.725]},
    ]
    assert [channel["label"] for channel in attributes["omero"]["channels"]] == ["mito", "glia"]
    assert attributes["omero"]["channels"][0]["window"] == {"min": 0, "start": 0, "end": 255, "max": 255}
    assert attributes["made_by"] == {"step": 7}
    stored = json.loads((tmp_path / "v" / "s1" / ".zarray").read_text())
    assert (stored["zarr_format"], stored["dimension_separator"], stored["chunks"]) == (2, "/", [1, 4, 8, 16])
    assert (stored["compressor"]["id"], stored["compressor"]["cname"]) == ("blosc", "zstd")


def test_two_dimensions_and_default_chunks(tmp_path):
    data = np.random.default_rng(0).random((600, 20)).astype(np.float32)
    space = {"voxel_size": (8, 8), "corner": (0, 0), "shape": data.shape}
    with MultiscaleWriter(tmp_path / "v", dtype=data.dtype, levels=2, **space) as writer:
        writer.write((0, 0), data)
    assert open_array(tmp_path / "v" / "s0").chunks == (512, 20)
    np.testing.assert_array_equal(read_all(tmp_path / "v")[2][0][0], data)


def test_voxels_never_written_are_zero(tmp_path):
    with MultiscaleWriter(tmp_path / "v", dtype="u2", **SPACE) as writer:
        writer.write((1, 2, 3), np.full((1, 1, 1), 9, np.uint8))
    _, _, (data,) = read_all(tmp_path / "v")
    assert (data.dtype, data.sum(), data[0, 1, 2, 3]) == (np.uint16, 9, 9)


def test_an_exception_leaves_nothing(tmp_path):
    def fail():
        with MultiscaleWriter(tmp_path / "v", dtype="u1", **SPACE) as writer:
            writer.write((0, 0, 0), np.ones((1, 1, 1), np.uint8))
            assert not (tmp_path / "v").exists()
            assert (tmp_path / "v.partial" / "s0").exists()
            raise KeyError("the network failed")

    with pytest.raises(KeyError, match="the network failed"):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_failure_while_the_levels_are_made_leaves_nothing(tmp_path):
    writer = MultiscaleWriter(tmp_path / "v", dtype="u1", levels=2, chunks=(2, 8, 8), **SPACE).start()
    writer.write((0, 0, 0), np.random.default_rng(0).integers(0, 255, SPACE["shape"], np.uint8))
    chunk = tmp_path / "v.partial" / "s0" / "1" / "2" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(OSError, match=r"s0: voxels \[.*\] cannot be read: .*blosc"):
        writer.finish()
    assert not list(tmp_path.iterdir())


def test_levels_are_made_one_chunk_at_a_time(tmp_path, monkeypatch):
    sizes = []
    start = StoredArray.start

    def spy(array, box):
        sizes.append(tuple(part.stop - part.start for part in box))
        return start(array, box)

    monkeypatch.setattr(StoredArray, "start", spy)
    write(tmp_path / "v", np.zeros(SPACE["shape"], np.uint8), levels=2)
    assert max(map(np.prod, sizes)) <= 4 * 8 * 16 * 4
    assert sum(map(np.prod, sizes)) == 6 * 40 * 32


def test_what_exists_is_not_touched(tmp_path):
    (tmp_path / "v").mkdir()
    with pytest.raises(FileExistsError, match=r"v exists; choose another path or remove it"):
        MultiscaleWriter(tmp_path / "v", dtype="u1", **SPACE)
    (tmp_path / "w.partial").mkdir()
    with pytest.raises(FileExistsError, match=r"w.partial exists: an unfinished volume"):
        MultiscaleWriter(tmp_path / "w", dtype="u1", **SPACE)
    first, second = (MultiscaleWriter(tmp_path / "x", dtype="u1", **SPACE) for _ in range(2))
    first.start()
    with pytest.raises(FileExistsError, match=r"x.partial exists"):
        second.start()
    second.discard()
    assert (tmp_path / "x.partial" / "s0").exists()
    (tmp_path / "x").mkdir()
    with pytest.raises(FileExistsError, match=r"x exists; it was made while this volume was written"):
        first.finish()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["v", "w.partial", "x"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (6, 0, 3)}, r"shape \(6, 0, 3\) has to be"),
        ({"shape": (6,)}, r"shape \(6,\) has to be 2 or 3"),
        ({"shape": (6, 4.5, 3)}, r"shape \(6, 4.5, 3\) has to be"),
        ({"voxel_size": (8, 8)}, "have to have 3 axes"),
        ({"voxel_size": (8, 8, 0)}, "has to be positive"),
        ({"corner": (8, 8)}, "have to have 3 axes"),
        ({"corner": (0, 0, "1/3")}, r"s0: a length of 79/30 nm cannot be stored exactly"),
        ({"dtype": "c8"}, "dtype complex64 has to be"),
        ({"levels": 0}, "levels=0 has to be at least 1"),
        ({"chunks": (8, 8)}, r"chunks \(8, 8\) have to be"),
        ({"channels": ("a", "a")}, r"channel names \('a', 'a'\) have to differ"),
        ({"attributes": {"multiscales": []}}, "'multiscales' is written by the format"),
        ({"attributes": {"now": Fraction(1)}}, "the attributes are not JSON"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        MultiscaleWriter(tmp_path / "v", **{"dtype": "u1", **SPACE, **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("begin", "data", "message"),
    [
        ((0, 0, 30), np.zeros((2, 6, 8, 8), "u1"), r"from voxel \(0, 0, 30\) to \(6, 8, 38\) reaches out of"),
        ((-1, 0, 0), np.zeros((2, 6, 8, 8), "u1"), "reaches out of"),
        ((0, 0, 0), np.zeros((6, 8, 8), "u1"), r"shape \(6, 8, 8\) at \(0, 0, 0\) does not go into .*\(2, 6, 40, 33\)"),
        ((0, 0, 0), np.zeros((3, 6, 8, 8), "u1"), "does not go into"),
        ((0, 0), np.zeros((2, 6, 8, 8), "u1"), "does not go into"),
        ((0, 0, 0), np.zeros((2, 6, 8, 8), "u2"), "a block of uint16 does not fit into a volume of uint8"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(tmp_path, begin, data, message):
    with (
        pytest.raises(ValueError, match=message),
        MultiscaleWriter(tmp_path / "v", dtype="u1", channels="ab", **SPACE) as writer,
    ):
        writer.write(begin, data)
    assert not list(tmp_path.iterdir())


def test_a_writer_is_open_only_between_start_and_finish(tmp_path):
    writer = MultiscaleWriter(tmp_path / "v", dtype="u1", **SPACE)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the writer is not open"):
            writer.write((0, 0, 0), np.zeros((1, 1, 1), "u1"))
        with pytest.raises(RuntimeError, match="nothing to finish"):
            writer.finish()
        if not writer.path.exists():
            writer.start().finish()
    writer.discard()
    assert writer.path.exists()
