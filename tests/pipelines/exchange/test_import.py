"""Volumes that other programs' libraries wrote come out of an import to the bit, at their place and size."""

import json
import os
import shutil
from fractions import Fraction
from importlib.util import find_spec

import h5py
import mrcfile
import nibabel
import numpy as np
import pytest
import tensorstore as ts
import tifffile
from scipy.stats import mode

from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError, Workers, block_shape
from scalenet_gp.pipelines.exchange import import_volume
from scalenet_gp.volumes import MultiscaleImage, StoredValues, create_group, group_attributes, open_array
from tests.pipelines.exchange import files
from tests.pipelines.exchange.files import cremi, ids, raw

SIZE = (40, Fraction("4.6"), 5)
ZERO, AWAY = (0, 0, 0), (80, 46, 50)
CENTRED = tuple(-size / Fraction(2) for size in SIZE)

STATED = {
    "ImageJ": (files.imagej_tiff, "a.tif", np.uint16, ZERO),
    "OME-TIFF": (files.ome_tiff, "a.ome.tif", np.float32, ZERO),
    "CREMI": (files.cremi, "a.h5", np.uint8, AWAY),
    "ilastik": (files.element_size, "a.hdf5", np.uint64, ZERO),
    "MRC": (files.mrc, "a.mrc", np.int16, ZERO),
    "NIfTI": (files.nifti, "a.nii", np.uint16, CENTRED),
    "NIfTI, packed": (files.nifti, "a.nii.gz", np.float32, CENTRED),
    "N5": (files.n5, "a.n5", np.uint8, AWAY),
    "precomputed": (files.precomputed, "a", np.uint64, AWAY),
}
NOT_STATED = {
    "TIFF": (files.plain_tiff, "a.tif", np.int8),
    "tiles": (files.tiled_tiff, "a.tif", np.uint16),
    "strips": (files.striped_tiff, "a.tif", np.uint8),
    "big-endian": (files.big_endian_tiff, "a.btf", np.uint32),
    "TIFF slices": (files.tiff_slices, "slices", np.float32),
    "PNG slices": (files.png_slices, "slices", np.uint16),
    "zarr": (files.plain_zarr, "a.zarr", np.int32),
}
SMALL = Workers(memory=6 * 64**3)  # blocks of one chunk


def read(path, level=0):
    return open_array(path / f"s{level}")[:]


@pytest.mark.parametrize(("write", "name", "dtype", "corner"), STATED.values(), ids=STATED.keys())
def test_what_a_file_states_is_kept(tmp_path, write, name, dtype, corner):
    source = write(tmp_path / name, raw(dtype))
    made = import_volume(source, tmp_path / "out.zarr")
    level = MultiscaleImage.open(made).levels[0]
    assert (level.voxel_size, level.begin) == (SIZE, corner)
    np.testing.assert_array_equal(read(made), raw(dtype), strict=True)
    assert group_attributes(made)["imported_from"] == str(source)


@pytest.mark.parametrize(("write", "name", "dtype"), NOT_STATED.values(), ids=NOT_STATED.keys())
def test_what_a_file_does_not_state_is_asked_for(tmp_path, write, name, dtype):
    source = write(tmp_path / name, raw(dtype))
    with pytest.raises(ValueError, match=r"no voxel size.*--voxel-size"):
        import_volume(source, tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    made = import_volume(
        source,
        tmp_path / "out.zarr",
        voxel_size=("0.04", "0.0046", "0.005"),
        unit="um",
        corner=("0.08", "0.046", "0.05"),
    )
    level = MultiscaleImage.open(made).levels[0]
    assert (level.voxel_size, level.begin) == (SIZE, AWAY)
    np.testing.assert_array_equal(read(made), raw(dtype), strict=True)


@pytest.mark.parametrize("labels", [False, True])
def test_the_pyramid_is_the_mean_or_the_most_frequent_label(tmp_path, labels):
    array = ids() if labels else raw(np.float32)
    made = import_volume(
        cremi(tmp_path / "a.h5", array), tmp_path / "out.zarr", labels=labels, levels=3, workers=Workers(memory=2**22)
    )
    assert StoredValues.of(made, group_attributes(made)).kind == ("labels" if labels else "quantities")
    expected = array
    for index, factor in enumerate(((1, 2, 2), (1, 2, 2)), start=1):
        z, y, x = (n // f * f for n, f in zip(expected.shape, factor, strict=True))
        blocks = (
            expected[:z, :y, :x].reshape(z, y // 2, 2, x // 2, 2).transpose(0, 1, 3, 2, 4).reshape(z, y // 2, x // 2, 4)
        )
        expected = mode(blocks, axis=-1).mode if labels else blocks.mean(-1, dtype=np.float64).astype(np.float32)
        np.testing.assert_array_equal(read(made, index), expected, strict=True)


@pytest.mark.parametrize("memory", [6 * 64**3, 2**30])
def test_the_blocks_change_nothing(tmp_path, memory):
    array = raw(shape=(70, 140, 66))
    made = import_volume(
        files.striped_tiff(tmp_path / "a.tif", array),
        tmp_path / "out.zarr",
        voxel_size=[8],
        levels=4,
        workers=Workers(memory=memory),
    )
    expected = array
    for level in range(1, 4):
        even = expected[tuple(slice(n // 2 * 2) for n in expected.shape)]
        z, y, x = (n // 2 for n in even.shape)
        means = even.reshape(z, 2, y, 2, x, 2).mean((1, 3, 5), dtype=np.float64)
        expected = np.rint(means).astype(np.uint8)
        np.testing.assert_array_equal(read(made, level), expected)


def test_channels_and_axes_of_any_order(tmp_path):
    array = raw(shape=(3, 20, 30, 40))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = array.transpose(3, 2, 1, 0)
        file["b"] = array[0]
    with pytest.raises(ValueError, match=r"a.h5: choose a dataset with --dataset; there are a \(40, 30, 20, 3\), b \("):
        import_volume(tmp_path / "a.h5", tmp_path / "out.zarr")
    made = import_volume(tmp_path / "a.h5", tmp_path / "out.zarr", dataset="a", axes="xyzc", voxel_size=[8])
    assert MultiscaleImage.open(made).channels == 3
    np.testing.assert_array_equal(read(made), array)
    tifffile.imwrite(tmp_path / "a.tif", array.transpose(1, 0, 2, 3), ome=True, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(read(import_volume(tmp_path / "a.tif", tmp_path / "b.zarr", voxel_size=[8])), array)
    with pytest.raises(ValueError, match=r"with the axes z, y; state with --axes which is which"):
        import_volume(tmp_path / "a.h5" / "b", tmp_path / "c.zarr", axes="zy", voxel_size=[8])


@pytest.mark.parametrize(("version", "driver", "file"), [("0.4", "zarr", ".zgroup"), ("0.5", "zarr3", "zarr.json")])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.float16, bool])
def test_either_version_of_ome_zarr_is_written(tmp_path, version, driver, file, dtype):
    array = raw(shape=(2, 20, 70, 66)).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as source:
        source["a"] = array
    made = import_volume(
        tmp_path / "a.h5", tmp_path / "new" / "v.zarr" / "em" / "raw", voxel_size=SIZE, levels=2, ome_zarr=version
    )
    assert [(folder / file).exists() for folder in list(made.parents)[:3]] == [True, True, False]
    specification = {"driver": driver, "kvstore": f"file://{made}/s0/"}
    np.testing.assert_array_equal(ts.open(specification).result().read().result(), array, strict=True)
    volume = MultiscaleImage.open(made)
    assert [level.voxel_size for level in volume.levels] == [SIZE, (40, Fraction("9.2"), 10)]
    assert MultiscaleImage.open(made / "s1").levels[0].begin == ZERO
    content = json.loads((made / (".zattrs" if version == "0.4" else "zarr.json")).read_text())
    ome = content if version == "0.4" else content["attributes"]["ome"]
    assert (ome if version == "0.5" else ome["multiscales"][0])["version"] == version
    assert [path.name for path in made.parent.iterdir() if path.is_dir()] == ["raw"]


def test_groups_above_stay_as_they_are(tmp_path):
    create_group(tmp_path / "v.zarr", {"mine": 1})
    source = files.plain_tiff(tmp_path / "a.tif", raw())
    import_volume(source, tmp_path / "v.zarr" / "raw", voxel_size=SIZE)
    assert group_attributes(tmp_path / "v.zarr") == {"mine": 1}


def test_a_picture_has_two_axes(tmp_path):
    picture = raw()[0]
    made = import_volume(files.plain_tiff(tmp_path / "a.tif", picture), tmp_path / "out.zarr", voxel_size=(4, 5))
    np.testing.assert_array_equal(read(made), picture)
    assert MultiscaleImage.open(made).levels[0].voxel_size == (4, 5)


def test_contradictions_are_refused(tmp_path):
    source = cremi(tmp_path / "a.h5", raw())
    with pytest.raises(
        ValueError, match=r"the attribute resolution says voxels of 40 × 4.6 × 5 nm .*--voxel-size 8 × 8"
    ):
        import_volume(source, tmp_path / "out.zarr", voxel_size=[8])
    with pytest.raises(ValueError, match=r"the first voxel begins at 80 × 46 × 50 nm .*--corner 0 × 0 × 0 nm; leave"):
        import_volume(source, tmp_path / "out.zarr", corner=(0, 0, 0))
    with pytest.raises(ValueError, match=r"resolution has the unit 'nanometer', and unit='micrometer' contradicts it"):
        import_volume(source, tmp_path / "out.zarr", unit="micrometer")
    with pytest.raises(ValueError, match=r"--voxel-size has 2 numbers, and .* has the axes z, y, x"):
        import_volume(source, tmp_path / "out.zarr", voxel_size=(8, 8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    same = import_volume(source, tmp_path / "same.zarr", voxel_size=("0.04", "0.0046", "0.005"), unit="um")
    assert MultiscaleImage.open(same).levels[0].voxel_size == SIZE
    wrong = import_volume(source, tmp_path / "wrong.zarr", voxel_size=[8], ignore_metadata=True)
    assert (MultiscaleImage.open(wrong).levels[0].voxel_size, MultiscaleImage.open(wrong).levels[0].begin) == (
        (8,) * 3,
        ZERO,
    )


def broken(path):
    path.write_bytes(b"nothing of the kind")
    return path


def gap(path):
    files.png_slices(path, raw())
    (path / "slice_9.png").unlink()
    return path


def unlike(path):
    files.tiff_slices(path, raw())
    tifffile.imwrite(path / "slice_24.tif", raw()[0, 1:])
    return path


def mixed(path):
    files.tiff_slices(path, raw())
    (path / "slice_9.tif").rename(path / "slice_9.png")
    return path


def colors(path):
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    return path


def mirrored(path):
    nibabel.save(nibabel.Nifti1Image(raw(), np.diag([-1, 1, 1, 1])), path)
    return path


def scaled(path):
    image = nibabel.Nifti1Image(raw(np.float32), np.eye(4))
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, path)
    return path


def turned(path):
    files.mrc(path, raw(np.int16))
    with mrcfile.open(path, "r+") as file:
        file.header.mapc, file.header.maps = 3, 1
    return path


@pytest.mark.parametrize(
    ("write", "name", "fault"),
    [
        (broken, "a.tif", r"a.tif: not readable as TIFF: not a TIFF file"),
        (broken, "a.h5", r"a.h5: not readable as HDF5"),
        (broken, "a.mrc", r"a.mrc: not readable as MRC"),
        (broken, "a.nii", r"a.nii: not readable as NIfTI"),
        (broken, "a.docx", r"a.docx: a file of unknown format; names end in .tif, .*or it is a folder"),
        (broken, "a.png", r"a.png: a single picture; name the folder"),
        (gap, "a", r"a: slice_10.png follows slice_8.png, and the other numbers go up by 1"),
        (unlike, "a", r"slice_24.tif: a slice of shape \(69, 66\) and uint8; the first has \(70, 66\)"),
        (mixed, "a", r"a: slices of several kinds, .png, .tif; leave one kind"),
        (colors, "a.tif", r"a.tif: pictures with colors, YXS \(8, 8, 3\); convert"),
        (mirrored, "a.nii", r"a.nii: its header turns or mirrors the axes: \[\[-1.*--ignore-metadata"),
        (scaled, "a.nii", r"a.nii: its header scales the stored numbers by .*--ignore-metadata"),
        (turned, "a.mrc", r"a.mrc: its header lists the axes as \(3, 2, 1\)"),
        (lambda path: path, "a.h5", r"a.h5: no such file"),
        (lambda path: path, "a.zarr", r"a.zarr: no such multiscale group"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, write, name, fault):
    source = write(tmp_path / name)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises((ValueError, OSError), match=fault):
        import_volume(source, tmp_path / "out.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs is installed, which knows LZW")
def test_a_missing_codec_is_told_of_at_once(tmp_path):
    source = files.striped_tiff(tmp_path / "a.tif", raw())
    with tifffile.TiffFile(source, mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(5)
    with pytest.raises(ValueError, match=r"a.tif: not readable as TIFF: .*LZW.* requires the 'imagecodecs' package"):
        import_volume(source, tmp_path / "out.zarr", voxel_size=[8])
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_picture_of_nifti_has_two_axes(tmp_path):
    picture = raw(np.int16)[0]
    made = import_volume(files.nifti_picture(tmp_path / "a.nii", picture), tmp_path / "out.zarr")
    np.testing.assert_array_equal(read(made), picture)
    assert MultiscaleImage.open(made).levels[0].voxel_size == SIZE[1:]


def test_bytes_of_imod_are_unsigned(tmp_path):
    array = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(array.view(np.int8))
    with (tmp_path / "a.mrc").open("r+b") as file:
        file.seek(152)
        file.write(np.array([1146047817, 0], "<i4").tobytes())
    np.testing.assert_array_equal(read(import_volume(tmp_path / "a.mrc", tmp_path / "b.zarr", voxel_size=[8])), array)


def test_an_import_resumes_where_it_ended(tmp_path, monkeypatch):
    array = raw(shape=(64, 64, 200))
    source = files.plain_tiff(tmp_path / "a.tif", array)
    from scalenet_gp.exchange import VolumeFile

    whole, done = VolumeFile.read, []

    def fails(self, begin, end):
        if begin[2] == 128:
            raise OSError("the disk is gone")
        if tuple(end) != (1, 1, 1):  # the first voxel is read before all else
            done.append(tuple(begin))
        return whole(self, begin, end)

    monkeypatch.setattr(VolumeFile, "read", fails)
    with pytest.raises(UnfinishedBlocksError, match=r"voxels \(0, 0, 128\) to \(64, 64, 192\).*the disk is gone"):
        import_volume(source, tmp_path / "out.zarr", voxel_size=[8], workers=SMALL)
    assert not (tmp_path / "out.zarr").exists()
    monkeypatch.setattr(VolumeFile, "read", whole)
    with pytest.raises(
        ValueError, match=r"out.zarr.partial is unfinished work of another kind, there and here: voxel_size"
    ):
        import_volume(source, tmp_path / "out.zarr", voxel_size=[9], workers=SMALL)
    first, done[:] = set(done), []

    def counts(self, begin, end):
        if tuple(end) != (1, 1, 1):
            done.append(tuple(begin))
        return whole(self, begin, end)

    monkeypatch.setattr(VolumeFile, "read", counts)
    made = import_volume(source, tmp_path / "out.zarr", voxel_size=[8])
    assert not first & set(done)
    np.testing.assert_array_equal(read(made), array)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "out.zarr"]


def test_a_source_that_changed_is_not_resumed(tmp_path, monkeypatch):
    source = files.plain_tiff(tmp_path / "a.tif", raw())
    from scalenet_gp.exchange import VolumeFile

    whole = VolumeFile.read

    def fails(self, begin, end):
        if tuple(end) == (1, 1, 1):  # the first voxel is read before all else
            return whole(self, begin, end)
        raise OSError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(VolumeFile, "read", fails)
        with pytest.raises(UnfinishedBlocksError):
            import_volume(source, tmp_path / "out.zarr", voxel_size=[8])
    os.utime(source, ns=(1, 1))
    with pytest.raises(ValueError, match=r"of another kind, there and here: fingerprint"):
        import_volume(source, tmp_path / "out.zarr", voxel_size=[8])
    shutil.rmtree(tmp_path / "out.zarr.partial")
    import_volume(source, tmp_path / "out.zarr", voxel_size=[8])


def test_blocks_hold_whole_pieces_where_memory_allows():
    assert block_shape((1000, 2000, 3000), (1, 2000, 3000), (64, 64, 64), 1, 2**33) == (128, 2048, 3008)
    assert block_shape((1000, 2000, 3000), (1, 2000, 3000), (64, 64, 64), 1, 2**29) == (64, 256, 3008)
    assert block_shape((1000, 1000, 1000), (16, 16, 16), (64, 64, 64), 1, 2**33) == (256, 256, 256)
    assert block_shape((10, 70, 70), (10, 70, 70), (10, 64, 64), 1, 2**33) == (10, 128, 128)
    with pytest.raises(
        ValueError, match=r"0.000977 GiB of memory is too little for a chunk of \(64, 64, 64\) voxels.*0.00146"
    ):
        block_shape((1000, 1000, 1000), (1, 1, 1), (64, 64, 64), 1, 2**20)


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_workers_import_the_same(tmp_path):
    array = raw(shape=(130, 130, 130))
    source = files.tiled_tiff(tmp_path / "a.tif", array)
    workers = Workers(count=2, memory=6 * 64**3)
    made = import_volume(source, tmp_path / "out.zarr", voxel_size=[8], levels=3, workers=workers)
    alone = import_volume(source, tmp_path / "alone.zarr", voxel_size=[8], levels=3)
    for level in range(3):
        np.testing.assert_array_equal(read(made, level), read(alone, level))
    assert json.loads((made / ".zattrs").read_text())["imported_from"] == str(source)
