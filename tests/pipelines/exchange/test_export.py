"""Exported volumes are read by the peers' own libraries, and come back in by an import, to the bit."""

from fractions import Fraction

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile

from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError, Workers
from scalenet_gp.pipelines.exchange import export_volume, import_volume
from scalenet_gp.volumes import MultiscaleImage, MultiscaleWriter, open_array
from tests.pipelines.exchange.files import ids, raw

SIZE, CORNER = (40, Fraction("4.6"), 5), (80, 46, 50)
SMALL = Workers(memory=2**22)


def volume(path, array, corner=CORNER, channels=(), labels=False, levels=1):
    shape = array.shape[-3:]
    layout = {"voxel_size": SIZE, "corner": corner, "shape": shape, "dtype": array.dtype, "channels": channels}
    with MultiscaleWriter(path, **layout, labels=labels, levels=levels) as writer:
        writer.write((0, 0, 0), array)
    return path


@pytest.mark.parametrize(
    ("name", "dtypes"),
    [
        ("a.tif", (np.int16, np.float32)),
        ("a.h5", (np.float16,)),
        ("a.precomputed", (np.int32,)),
    ],
)
def test_a_volume_comes_back_to_the_bit(tmp_path, name, dtypes):
    for dtype in dtypes:
        made = volume(tmp_path / f"{np.dtype(dtype)}.zarr", raw(dtype))
        out = export_volume(made, tmp_path / f"{np.dtype(dtype)}-{name}", workers=SMALL)
        corner = CORNER if name.endswith("tif") else None  # TIFF has no positions
        back = import_volume(out, tmp_path / f"{np.dtype(dtype)}-back.zarr", corner=corner)
        level = MultiscaleImage.open(back).levels[0]
        assert (level.voxel_size, level.begin) == (SIZE, CORNER)
        np.testing.assert_array_equal(open_array(back / "s0")[:], raw(dtype), strict=True)


def test_peers_read_what_is_written(tmp_path):
    array = raw(np.uint16)
    made = volume(tmp_path / "a.zarr", array, levels=2)
    with tifffile.TiffFile(export_volume(made, tmp_path / "a.tif")) as file:
        np.testing.assert_array_equal(file.asarray(), array)
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [pixels[f"PhysicalSize{axis}"] for axis in "ZYX"] == [40, 4.6, 5]
        assert {pixels[f"PhysicalSize{axis}Unit"] for axis in "ZYX"} == {"nm"}
    with h5py.File(export_volume(made, tmp_path / "a.h5")) as file:
        np.testing.assert_array_equal(file["volumes/raw"][:], array)
        assert file["volumes/raw"].attrs["resolution"].tolist() == [40, 4.6, 5]
        assert file["volumes/raw"].attrs["offset"].tolist() == [80, 46, 50]
    out = export_volume(made, tmp_path / "precomputed")
    for index in range(2):
        spec = {"driver": "neuroglancer_precomputed", "kvstore": f"file://{out}/", "scale_index": index}
        store = ts.open(spec).result()
        np.testing.assert_array_equal(store.read().result()[..., 0].T, open_array(made / f"s{index}")[:])
        assert store.domain.origin[:3] == ((10, 10, 2) if index == 0 else (5, 5, 2))
    assert [level.voxel_size for level in MultiscaleImage.open(out).levels] == [
        level.voxel_size for level in MultiscaleImage.open(made).levels
    ]


@pytest.mark.parametrize("name", ["a.h5", "a.precomputed"])
def test_ids_of_64_bits_stay_themselves(tmp_path, name):
    made = volume(tmp_path / "a.zarr", ids(), labels=True)
    back = import_volume(export_volume(made, tmp_path / name), tmp_path / "back.zarr", labels=True)
    np.testing.assert_array_equal(open_array(back / "s0")[:], ids(), strict=True)


def test_ids_go_into_tiff_if_they_fit(tmp_path):
    small = ids() - np.uint64(2**40)
    made = volume(tmp_path / "small.zarr", small, labels=True)
    np.testing.assert_array_equal(tifffile.imread(export_volume(made, tmp_path / "a.tif")), small)
    made = volume(tmp_path / "large.zarr", ids(), labels=True)
    with pytest.raises(
        UnfinishedBlocksError, match=r"1099511627780 in the block .*does not fit into the uint32 of TIFF"
    ):
        export_volume(made, tmp_path / "b.tif")
    assert not (tmp_path / "b.tif").exists()


@pytest.mark.parametrize("name", ["a.tif", "a.h5", "a.precomputed"])
def test_channels_are_exported_together_or_alone(tmp_path, name):
    array = raw(shape=(2, 20, 30, 40))
    made = volume(tmp_path / "a.zarr", array, channels=("mito", "er"))
    back = import_volume(export_volume(made, tmp_path / name), tmp_path / "back.zarr")
    np.testing.assert_array_equal(open_array(back / "s0")[:], array)
    one = import_volume(export_volume(made, tmp_path / f"er-{name}", channel="er"), tmp_path / "er.zarr")
    np.testing.assert_array_equal(open_array(one / "s0")[:], array[1])


def test_precomputed_volumes_begin_at_whole_voxels(tmp_path):
    made = volume(tmp_path / "a.zarr", raw(), corner=(20, Fraction("2.3"), Fraction("2.5")))
    with pytest.raises(ValueError, match=r"s0 begins at 20 × 2.3 × 2.5 nm, .*place it elsewhere, as at 0 × 0 × 0 nm"):
        export_volume(made, tmp_path / "precomputed")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    out = export_volume(made, tmp_path / "precomputed", corner=(0, 0, 0))
    assert MultiscaleImage.open(out).levels[0].begin == (0, 0, 0)


def test_what_cannot_be_exported_is_named(tmp_path):
    made = volume(tmp_path / "a.zarr", raw())
    with pytest.raises(ValueError, match=r"a.png: the name of the output says its format: it ends in .tif"):
        export_volume(made, tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.h5: one process at a time can write HDF5"):
        export_volume(made, tmp_path / "a.h5", workers=Workers(count=2))
    with pytest.raises(FileNotFoundError, match=r"b.zarr: no such multiscale group"):
        export_volume(tmp_path / "b.zarr", tmp_path / "a.h5")
    with pytest.raises(ValueError, match=r"no axis c to select from"):
        export_volume(made, tmp_path / "a.h5", channel="mito")
    with pytest.raises(ValueError, match=r"hold uint8, uint16, .*, not float16"):
        export_volume(volume(tmp_path / "f.zarr", raw(np.float16)), tmp_path / "f.precomputed")
    (tmp_path / "a.h5").touch()
    with pytest.raises(FileExistsError, match=r"a.h5 exists"):
        export_volume(made, tmp_path / "a.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.zarr", "f.zarr"]


@pytest.mark.parametrize(("name", "again"), [("a.tif", 1), ("a.precomputed", 1), ("a.h5", 3)])
def test_an_export_resumes(tmp_path, monkeypatch, name, again):
    made = volume(tmp_path / "a.zarr", raw(shape=(64, 64, 192)))
    whole, done = MultiscaleImage.read, []

    def fails(self, roi, *arguments):
        if len(done) == 2:
            raise OSError("gone")
        done.append(roi)
        return whole(self, roi, *arguments)

    monkeypatch.setattr(MultiscaleImage, "read", fails)
    with pytest.raises(UnfinishedBlocksError, match="gone"):
        export_volume(made, tmp_path / name, workers=Workers(memory=6 * 64**3))
    done.clear()
    monkeypatch.setattr(MultiscaleImage, "read", lambda self, roi, *a: done.append(roi) or whole(self, roi, *a))
    out = export_volume(made, tmp_path / name, workers=Workers(memory=6 * 64**3))
    assert len(done) == again
    monkeypatch.setattr(MultiscaleImage, "read", whole)
    back = import_volume(out, tmp_path / "back.zarr")
    np.testing.assert_array_equal(open_array(back / "s0")[:], raw(shape=(64, 64, 192)))
