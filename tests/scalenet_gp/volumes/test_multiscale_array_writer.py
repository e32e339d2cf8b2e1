"""Volumes written block by block: what is stored, where it lies, and what processes, kills and full disks do to it."""

import itertools
import json
import multiprocessing
import os
import pickle
import re
import resource
import signal
import time
from fractions import Fraction

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v04.image import Image

from scalenet_gp.volumes.image_layout import ImageLayout, default_levels
from scalenet_gp.volumes.multiscale_array_writer import MultiscaleArrayWriter, StoredValues, create_image
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes.stored_array import UnwritableDataError

SPACE = {"voxel_size": (8, 8, 8), "corner": (0, 0, 0)}
SHAPE, CHUNKS, CLASSES = (20, 33, 40), (8, 16, 16), ("mito", "er", "glia")


def created(path, shape=SHAPE, **options):
    layout = ImageLayout(**{**SPACE, "shape": shape, "channels": CLASSES, "chunks": CHUNKS, **options})
    create_image(path, layout)
    return MultiscaleArrayWriter.open(path)


def boxes(shape=SHAPE, chunks=CHUNKS):
    for begin in itertools.product(*(range(0, n, c) for n, c in zip(shape, chunks, strict=True))):
        yield begin, tuple(slice(b, min(b + c, n)) for b, c, n in zip(begin, chunks, shape, strict=True))


def probabilities(seed=0, shape=SHAPE, channels=3):
    return np.random.default_rng(seed).random((channels, *shape), dtype=np.float32)


def stored(volume, level=0):
    """The data that zarr-python reads."""
    return zarr.open_array(str(volume.path / f"s{level}"), mode="r")[:]


def coarsen_all(volume):
    for number, level in enumerate(volume.levels[1:], start=1):
        volume.coarsen(number, (0,) * len(level.shape), level.shape)


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# ---- what is stored


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["uint8", "uint16", "float16", "float32"]),
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    chunks=st.tuples(*[st.integers(5, 9)] * 3),
)
def test_fractions_come_back_within_half_a_step(tmp_path_factory, seed, dtype, shape, chunks):
    values = probabilities(seed, shape, 2)
    values[0, 0, 0, 0], values[1, -1, -1, -1] = 0, 1
    path = tmp_path_factory.mktemp("round") / "v"
    volume = created(path, shape, channels=("a", "b"), stored=dtype, chunks=chunks)
    for begin, box in boxes(shape, chunks):
        volume.write(begin, values[(slice(None), *box)])
    scale = json.loads((path / ".zattrs").read_text())["scalenet_gp"]["values"]["scale"]
    found = stored(volume).astype(np.float64) * scale
    step = {"uint8": 1 / 255, "uint16": 1 / 65535, "float16": 2.0**-11, "float32": 0}[dtype]
    assert abs(found - values).max() <= step / 2 + 1e-7  # float32 computes
    assert (found[0, 0, 0, 0], found[1, -1, -1, -1]) == (0, 1)
    np.testing.assert_array_equal(MultiscaleImage.open(path)._arrays[0][:], stored(volume))


def test_fractions_out_of_range_are_clipped_and_halves_go_to_the_even_number(tmp_path):
    volume = created(tmp_path / "v", (1, 1, 6), channels=(), stored="uint8", levels=1)
    volume.write((0, 0, 0), np.array([[[-0.5, -np.inf, 1.5, np.inf, 0.5, 2 / 255]]], np.float32))
    assert stored(volume).ravel().tolist() == [0, 0, 255, 255, 128, 2]


def test_not_a_number_is_refused_by_integers_and_said_where(tmp_path):
    values = probabilities()
    values[1, 2, 3, 4] = np.nan
    volume = created(tmp_path / "v", stored="uint8")
    with pytest.raises(ValueError, match=r"v: the block from voxel \(0, 0, 0\): not a number at \(1, 2, 3, 4\), which"):
        volume.write((0, 0, 0), values)
    assert not stored(volume).any()
    floats = created(tmp_path / "w", stored="float16")
    floats.write((0, 0, 0), values)
    assert np.isnan(stored(floats)[1, 2, 3, 4])


def test_quantities_are_stored_as_they_are_or_refused(tmp_path):
    volume = created(tmp_path / "v", channels=(), kind="quantities", stored="float16", levels=1)
    volume.write((0, 0, 0), np.full(SHAPE, 6e4, np.float32))
    assert (stored(volume) == 6e4).all()
    with pytest.raises(ValueError, match=r"70000\.0 at \(0, 0, 0\) is out of the range of float16"):
        volume.write((0, 0, 0), np.full(SHAPE, 7e4, np.float32))
    numbers = created(tmp_path / "w", channels=(), kind="quantities", stored="uint8", levels=1)
    with pytest.raises(ValueError, match="a block of float32 does not fit into a volume of uint8 quantities"):
        numbers.write((0, 0, 0), np.ones(SHAPE, np.float32))
    with pytest.raises(ValueError, match="a block of uint8 does not fit into a volume of uint8 fractions"):
        created(tmp_path / "x", stored="uint8").write((0, 0, 0), np.ones((3, *SHAPE), np.uint8))


def test_zeros_take_no_file_and_take_away_the_one_there_was(tmp_path):
    volume = created(tmp_path / "v", stored="uint8")
    before = files(volume.path)
    volume.write((0, 0, 0), np.full((3, *CHUNKS), 1e-3, np.float32))
    assert files(volume.path) == before
    volume.write((0, 0, 0), np.ones((3, *CHUNKS), np.float32))
    assert len(files(volume.path)) == len(before) + 3
    volume.write((0, 0, 0), np.zeros((3, *CHUNKS), np.float32))
    assert files(volume.path) == before


# ---- the pyramid


@settings(deadline=None, max_examples=20)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    voxel_size=st.tuples(*[st.sampled_from(["4", "4.6", "8", "50", "1.25"])] * 3),
    corner=st.tuples(*[st.integers(-8000, 8000).map(lambda eighths: Fraction(eighths, 8))] * 3),
)
def test_every_level_lies_where_the_voxels_lie_that_it_is_made_of(tmp_path_factory, shape, voxel_size, corner):
    """A coarse voxel's centre, by the OME metadata, is the mean of the centres of the fine voxels in it."""
    levels = default_levels(voxel_size, shape)
    path = tmp_path_factory.mktemp("place") / "v"
    volume = created(path, shape, channels=(), voxel_size=voxel_size, corner=corner, levels=max(levels, 1))
    sizes = [float(size) for size in voxel_size]
    centres = [float(c) + v * (np.arange(n) + 0.5) for n, v, c in zip(shape, sizes, corner, strict=True)]
    for dataset in json.loads((path / ".zattrs").read_text())["multiscales"][0]["datasets"]:
        scale, shift = (
            t[kind] for t, kind in zip(dataset["coordinateTransformations"], ("scale", "translation"), strict=True)
        )
        count = zarr.open_array(str(path / dataset["path"]), mode="r").shape
        for axis, (n, s, t) in enumerate(zip(count, scale, shift, strict=True)):
            factor = round(s / sizes[axis])
            assert n == shape[axis] // factor
            expected = centres[axis][: n * factor].reshape(n, factor).mean(axis=1)
            np.testing.assert_allclose(t + s * np.arange(n), expected, rtol=1e-9, atol=1e-6)
    assert max(volume.levels[-1].shape) <= 128


def test_levels_are_means_of_the_whole(tmp_path):
    shape = (16, 32, 24)
    values = probabilities(3, shape)
    exact = created(tmp_path / "v", shape, levels=4, chunks=(4, 8, 8))
    bytes_ = created(tmp_path / "w", shape, levels=4, chunks=(4, 8, 8), stored="uint8")
    for volume in (exact, bytes_):
        volume.write((0, 0, 0), values)
        coarsen_all(volume)
    for level in range(1, 4):
        f = 2**level
        whole = values.reshape(3, *(n for s in shape for n in (s // f, f))).mean(axis=(2, 4, 6), dtype=np.float64)
        np.testing.assert_allclose(stored(exact, level), whole, rtol=1e-6)
        # half a step for each rounding
        assert abs(stored(bytes_, level) / 255 - whole).max() <= (level + 1) / 2 / 255 + 1e-9


def test_boxes_of_a_level_are_made_one_by_one(tmp_path):
    values = probabilities(4)
    whole = created(tmp_path / "v", levels=2, stored="uint8")
    parts = created(tmp_path / "w", levels=2, stored="uint8")
    whole.write((0, 0, 0), values)
    parts.write((0, 0, 0), values)
    coarsen_all(whole)
    for begin, box in boxes(parts.levels[1].shape, (3, 16, 5)):  # across chunks, too
        parts.coarsen(1, begin, [part.stop - part.start for part in box])
    assert files(whole.path / "s1") == files(parts.path / "s1")


def test_labels_are_not_averaged(tmp_path):
    volume = created(tmp_path / "v", (4, 4, 4), channels=(), stored="uint8", kind="labels", levels=2)
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[:2, :2, :2].flat[:5] = 9
    volume.write((0, 0, 0), labels)
    coarsen_all(volume)
    assert set(np.unique(stored(volume, 1))) == {0, 9}
    assert StoredValues.of("v", json.loads((volume.path / ".zattrs").read_text())).kind == "labels"


@pytest.mark.parametrize(
    ("voxel_size", "shape", "levels"),
    [
        ((8, 8, 8), (128, 128, 128), 1),
        ((8, 8, 8), (129, 1, 1), 2),
        ((8, 8, 8), (1024, 1000, 600), 4),
        ((50, 4, 4), (40, 2048, 2048), 5),
        ((4, 4), (519, 100), 4),
    ],
)
def test_levels_go_on_until_128_voxels(voxel_size, shape, levels):
    assert default_levels(voxel_size, shape) == levels
    pyramid = ImageLayout(voxel_size, (0,) * len(shape), shape, levels=levels).pyramid
    assert max(pyramid[-1].shape) <= 128
    assert levels == 1 or max(pyramid[-2].shape) > 128


# ---- the file


def test_a_volume_is_whole_from_the_beginning(tmp_path):
    layout = ImageLayout(**SPACE, shape=SHAPE, channels=CLASSES, stored="uint8", levels=3, chunks=CHUNKS)
    create_image(tmp_path / "deep" / "v", layout, {"network": "abc"})
    volume = MultiscaleImage.open(tmp_path / "deep" / "v")
    assert [level.shape for level in volume.levels] == [(20, 33, 40), (10, 16, 20), (5, 8, 10)]
    assert not volume.read(volume.roi((8, 8, 8), volume.world()), (8, 8, 8), volume.world()).any()
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["v"]
    assert json.loads((tmp_path / "deep" / "v" / ".zattrs").read_text())["network"] == "abc"
    opened = MultiscaleArrayWriter.open(tmp_path / "deep" / "v")
    assert opened.layout == layout
    assert opened.layout.chunks == CHUNKS
    with pytest.raises(FileExistsError, match=r"deep/v exists"):
        create_image(tmp_path / "deep" / "v", layout)


def test_a_failure_to_create_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr("scalenet_gp.volumes.multiscale_array_writer.create_array", fail)
    with pytest.raises(OSError, match="no space"):
        created(tmp_path / "v")
    assert not list(tmp_path.iterdir())


def test_viewers_are_told_names_colors_and_ranges(tmp_path):
    windows = {}
    for dtype in ("uint8", "float32"):
        volume = created(tmp_path / dtype, stored=dtype)
        channels = json.loads((volume.path / ".zattrs").read_text())["omero"]["channels"]
        assert [channel["label"] for channel in channels] == list(CLASSES)
        colors = [channel["color"] for channel in channels]
        assert len(set(colors)) == 3
        assert all(re.fullmatch("[0-9A-F]{6}", color) for color in colors)
        windows[dtype] = channels[0]["window"]
    assert windows["uint8"] == {"min": 0, "start": 0, "end": 255, "max": 255}
    assert windows["float32"] == {"min": 0, "start": 0, "end": 1, "max": 1}


@pytest.mark.parametrize("channels", [CLASSES, ()])
def test_another_package_reads_it(tmp_path, channels):
    volume = created(tmp_path / "v", channels=channels, stored="uint8", levels=3, corner=(-25, "586.5", "1/8"))
    found = Image.from_zarr(zarr.open_group(str(volume.path), mode="r"))
    (multiscale,) = found.attributes.multiscales
    assert [axis.name for axis in multiscale.axes] == [*(["c"] if channels else []), "z", "y", "x"]
    assert [dataset.path for dataset in multiscale.datasets] == ["s0", "s1", "s2"]
    scale, translation = multiscale.datasets[1].coordinateTransformations
    assert (scale.scale[-3:], translation.translation[-3:]) == ([16.0, 16.0, 16.0], [-17.0, 594.5, 8.125])
    if channels:
        assert [channel.color for channel in found.attributes.omero.channels] == ["1F77B4", "FF7F0E", "2CA02C"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "probabilities"}, "kind='probabilities' has to be one of fractions, quantities, labels"),
        ({"stored": "int8"}, "dtype int8 has to be unsigned integer or float, to store fractions"),
        ({"stored": "bool"}, "dtype bool has to be unsigned"),
        ({"levels": 0}, "levels=0 has to be at least 1"),
        ({"levels": 99}, r"levels=99, but shape \(20, 33, 40\) can only have 6"),
    ],
)
def test_layouts_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ImageLayout(**{**SPACE, "shape": SHAPE, **options})


def test_what_is_no_such_volume_is_not_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"v: no such volume"):
        MultiscaleArrayWriter.open(tmp_path / "v")
    volume = created(tmp_path / "v")
    file = volume.path / ".zattrs"
    attributes = json.loads(file.read_text())
    file.write_text(json.dumps(attributes | {"scalenet_gp": {"values": {"kind": "colors"}}}))
    with pytest.raises(ValueError, match=r"v: malformed attributes scalenet_gp.values: kind is .*: it has to be"):
        MultiscaleArrayWriter.open(volume.path)
    del attributes["scalenet_gp"]
    file.write_text(json.dumps(attributes))
    with pytest.raises(ValueError, match=r"v: no volume that this package made"):
        MultiscaleArrayWriter.open(volume.path)


def test_boxes_outside_are_refused(tmp_path):
    volume = created(tmp_path / "v", levels=2)
    for begin in ((13, 0, 0), (-1, 0, 0)):
        with pytest.raises(ValueError, match=r"reaches out of the volume's \(20, 33, 40\)$"):
            volume.write(begin, np.zeros((3, *CHUNKS), np.float32))
    with pytest.raises(ValueError, match=r"to \(3, 17, 3\) reaches out of the volume's \(10, 16, 20\) at level 1"):
        volume.coarsen(1, (2, 2, 2), (1, 15, 1))
    for level in (0, 2):
        with pytest.raises(ValueError, match=f"level {level} is not made of another: 1 to 1 are"):
            volume.coarsen(level, (0, 0, 0), (1, 1, 1))


# ---- many processes, kills, and full disks


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have this module imported, and no threads of tensorstore."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def write_some(volume, values, remainder, of):
    for number, (begin, box) in enumerate(boxes()):
        if number % of == remainder:
            volume.write(begin, values[(slice(None), *box)])


def test_several_processes_store_what_one_does(tmp_path, processes):
    values, count = probabilities(5), 3
    alone, together = (created(tmp_path / name, stored="uint8", levels=2) for name in ("alone", "together"))
    write_some(alone, values, 0, 1)
    with processes.Pool(count) as pool:  # the volume is sent to them
        pool.starmap(write_some, [(together, values, remainder, count) for remainder in range(count)])
    assert files(alone.path / "s0") == files(together.path / "s0")
    assert files(alone.path / "s0").keys() > {".zarray"}
    coarsen_all(pickle.loads(pickle.dumps(together)))
    coarsen_all(alone)
    assert files(alone.path / "s1") == files(together.path / "s1")


def fill_chunks_in_part(volume, first):
    for begin in range(first, SHAPE[2], 2):
        volume.write((0, 0, begin), np.full((3, *SHAPE[:2], 1), 1 / 255 + first / 255, np.float32))


def test_processes_that_share_chunks_lose_nothing(tmp_path, processes):
    volume = created(tmp_path / "v", stored="uint8")
    with processes.Pool(2) as pool:
        pool.starmap(fill_chunks_in_part, [(volume, 0), (volume, 1)])
    found = stored(volume)
    assert (found[..., ::2] == 1).all()
    assert (found[..., 1::2] == 2).all()


def write_for_ever(volume, possible, begun):
    for turn in itertools.cycle(possible):
        volume.write((0, 0, 0), turn)
        begun.set()


def test_a_kill_leaves_every_chunk_old_or_new(tmp_path, processes):
    volume = created(tmp_path / "v", (32, 32, 64), stored="float32", chunks=(32, 32, 32))
    noise = np.random.default_rng(0).random((3, 32, 32, 64), dtype=np.float32) / 2
    possible = [noise, noise + np.float32(0.5)]
    for attempt in range(6):
        begun = processes.Event()
        writer = processes.Process(target=write_for_ever, args=(volume, possible, begun))
        writer.start()
        assert begun.wait(120)
        time.sleep(0.013 * attempt)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        found = MultiscaleImage.open(volume.path)._arrays[0][:]
        for channel, box in itertools.product(range(3), (slice(0, 32), slice(32, 64))):
            assert any(np.array_equal(found[channel, ..., box], whole[channel, ..., box]) for whole in possible)
    volume.write((0, 0, 0), noise / 2)  # what the dead held is free
    np.testing.assert_array_equal(stored(volume), noise / 2)
    chunks = {name for name in files(volume.path / "s0") if not name.startswith(".z")}  # no locks are left
    assert chunks == {f"{c}/0/0/{x}" for c in range(3) for x in range(2)}


def fill_the_disk(volume, heard):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # stands for a disk: no file may grow beyond
    try:
        volume.write((0, 16, 0), probabilities(0, (8, 16, 16)))
    except OSError as error:
        heard.send((type(error), str(error)))


def test_a_full_disk_is_an_error_that_names_the_place(tmp_path, processes):
    volume = created(tmp_path / "v")
    hear, tell = processes.Pipe(duplex=False)
    writer = processes.Process(target=fill_the_disk, args=(volume, tell))
    writer.start()
    writer.join(120)
    assert hear.poll()
    kind, said = hear.recv()
    assert kind is UnwritableDataError
    assert said.startswith(f"{volume.path / 's0'}: voxels [0:3, 0:8, 16:32, 0:16] cannot be written: ")
    assert "File too large" in said
    assert not stored(volume).any()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    volume = created(tmp_path / "v")
    (volume.path / "s0" / "1").write_text("in the way of a folder")
    with pytest.raises(UnwritableDataError, match=r"v/s0: voxels \[0:3, 0:8, 0:16, 0:16\] cannot be written: "):
        volume.write((0, 0, 0), np.ones((3, *CHUNKS), np.float32))
