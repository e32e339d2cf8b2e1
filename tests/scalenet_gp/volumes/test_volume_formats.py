"""Every format shows the same volume: its voxels hold the positions of their centres."""

import json
from fractions import Fraction

import gunpowder as gp
import numpy as np
import pytest
import tensorstore as ts
import zarr
from funlib.geometry import Coordinate
from funlib.persistence import Array as PersistenceArray
from funlib.persistence import prepare_ds

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.sources.multiscale_source import MultiscaleSource
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from tests.scalenet_gp.volumes.volume_files import (
    CORNER,
    SHAPE,
    VOXEL,
    centre,
    multiscale,
    ramps,
    transform,
    write_json,
    write_n5,
    write_zarr2,
    write_zarr3,
)

SCALES, CENTRES = [[v * f for v in VOXEL] for f in (1, 2)], [centre(1), centre(2)]
PIXELS = {"dimensions": VOXEL[::-1], "unit": "nm"}


def exact(lengths):
    return tuple(Fraction(str(length)) for length in lengths)


def levels(write, path, attributes=({}, {}), arrays=None):
    for i, array in enumerate(arrays or [ramps(1), ramps(2)]):
        write(path / f"s{i}", array, attributes[i])
    return path


def ome_zarr_2(path):
    write_json(path, ".zgroup", {"zarr_format": 2})
    write_json(path, ".zattrs", {"multiscales": [{"version": "0.4"} | multiscale(SCALES, CENTRES)]})
    return levels(write_zarr2, path)


def ome_zarr_3(path):
    ome = {"version": "0.5", "multiscales": [multiscale(SCALES, CENTRES)]}
    write_json(path, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})
    return levels(write_zarr3, path)


def ome_zarr_3_sharded(path):
    ome_zarr_3(path)
    codecs = [{"name": "bytes"}, {"name": "zstd"}]
    sharding = {"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 2, 2, 2], "codecs": codecs}}
    grid = {"name": "regular", "configuration": {"chunk_shape": [3, 4, 4, 4]}}
    metadata = {"chunk_grid": grid, "codecs": [sharding], "shape": ramps().shape, "data_type": "float64"}
    spec = {"driver": "zarr3", "kvstore": f"file://{path}/s0", "metadata": metadata}
    ts.open(spec, create=True, delete_existing=True).result()[...] = ramps()
    return path


def cosem(path):
    datasets = [{"path": f"s{i}", "transform": transform(f)} for i, f in enumerate((1, 2))]
    group = {
        "multiscales": [{"name": "v", "datasets": datasets}],
        "axes": ["x", "y", "z"],
        "units": ["nm"] * 3,
        "scales": [[1, 1, 1], [2, 2, 2]],
        "pixelResolution": PIXELS,
    }
    write_json(path, "attributes.json", group)
    own = [
        {"transform": transform(f), "pixelResolution": {"dimensions": [v * f for v in VOXEL[::-1]], "unit": "nm"}}
        for f in (1, 2)
    ]
    return levels(write_n5, path, own)


def cosem_arrays_alone(path):
    return levels(write_n5, path, [{"transform": transform(f)} for f in (1, 2)])


def cosem_in_order_f(path):
    own = [transform(f, order="F") for f in (1, 2)]
    for stored in own:
        stored.update({key: stored[key][::-1] for key in ("axes", "scale", "translate")})
    return levels(write_n5, path, [{"transform": stored} for stored in own])


def cosem_in_the_group(path):
    datasets = [{"path": name, "transform": transform(f)} for name, f in (("fine", 1), ("coarse", 2))]
    write_json(path, "attributes.json", {"multiscales": [{"datasets": datasets}]})
    write_n5(path / "fine", ramps(1))
    write_n5(path / "coarse", ramps(2))
    return path


def gunpowder_n5(path):
    own = [{"resolution": [v * f for v in VOXEL[::-1]], "offset": CORNER[::-1]} for f in (1, 2)]
    return levels(write_n5, path, own)


def paintera(path):
    write_json(path, "attributes.json", {"multiScale": True, "resolution": VOXEL[::-1], "offset": CORNER[::-1]})
    return levels(write_n5, path, [{}, {"downsamplingFactors": [2, 2, 2]}])


def gunpowder_zarr_2(path):
    return levels(write_zarr2, path, [{"resolution": [v * f for v in VOXEL], "offset": CORNER} for f in (1, 2)])


def funlib(write):
    def made(path):
        names = {"axis_names": ["c^", "z", "y", "x"], "types": ["channel", "space", "space", "space"]}
        own = [{"voxel_size": [v * f for v in VOXEL], "offset": CORNER, "units": ["nm"] * 3} | names for f in (1, 2)]
        return levels(write, path, own)

    return made


FORMATS = {
    "OME-Zarr 0.4": ome_zarr_2,
    "OME-Zarr 0.5": ome_zarr_3,
    "OME-Zarr 0.5, sharded": ome_zarr_3_sharded,
    "COSEM": cosem,
    "COSEM, arrays alone": cosem_arrays_alone,
    "COSEM, order F": cosem_in_order_f,
    "COSEM, group alone": cosem_in_the_group,
    "gunpowder, N5": gunpowder_n5,
    "gunpowder, zarr 2": gunpowder_zarr_2,
    "Paintera": paintera,
    "funlib, zarr 2": funlib(write_zarr2),
    "funlib, zarr 3": funlib(write_zarr3),
    "funlib, N5": funlib(write_n5),
}


def read_all(volume):
    world = volume.world()
    sizes = [world.size(level.voxel_size) for level in volume.levels]
    return [volume.read(volume.roi(size, world), size, world) for size in sizes]


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS.keys())
def test_every_format_shows_the_same_volume(tmp_path, write):
    volume = MultiscaleImage.open(write(tmp_path / "v"))
    assert (volume.channels, volume.dtype, volume.dims) == (3, np.float64, 3)
    assert [level.shape for level in volume.levels] == [SHAPE, tuple(n // 2 for n in SHAPE)]
    assert [level.voxel_size for level in volume.levels] == [exact(VOXEL), tuple(2 * v for v in exact(VOXEL))]
    assert [level.begin for level in volume.levels] == [exact(CORNER)] * 2
    for stored, expected in zip(read_all(volume), [ramps(1), ramps(2)], strict=True):
        np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS.keys())
def test_every_format_is_read_box_by_box(tmp_path, write):
    volume = MultiscaleImage.open(write(tmp_path / "v"))
    world = volume.world()
    size = world.size(VOXEL)
    roi = volume.roi(size, world)
    part = gp.Roi(roi.begin + size * Coordinate(1, 2, 3), size * Coordinate(2, 3, 4))
    np.testing.assert_array_equal(volume.read(part, size, world), ramps()[:, 1:3, 2:5, 3:7])


@pytest.mark.parametrize("write", [write_zarr2, write_zarr3, write_n5])
def test_an_array_alone_is_a_volume_of_one_level(tmp_path, write):
    order = -1 if write is write_n5 else 1
    write(tmp_path / "raw", ramps(channels=False), {"resolution": VOXEL[::order], "offset": CORNER[::order]})
    volume = MultiscaleImage.open(tmp_path / "raw")
    assert (volume.levels[0].begin, volume.channels) == (exact(CORNER), 1)
    np.testing.assert_array_equal(read_all(volume)[0][0], ramps()[2])


@pytest.mark.parametrize(
    ("group", "own"),
    [
        ({"pixelResolution": PIXELS, "scales": [[1, 1, 1], [2, 2, 2]]}, ({}, {})),
        ({"pixelResolution": PIXELS, "downsamplingFactors": [[1, 1, 1], [2, 2, 2]]}, ({}, {})),
        ({"pixelResolution": PIXELS}, ({}, {"downsamplingFactors": [2, 2, 2]})),
        ({}, ({"pixelResolution": PIXELS}, {"pixelResolution": PIXELS, "downsamplingFactors": [2, 2, 2]})),
        ({}, ({"pixelResolution": PIXELS}, {"downsamplingFactors": [2, 2, 2]})),
    ],
)
@pytest.mark.parametrize(("translation", "half"), [(None, 0), ("corner", 0), ("centre", Fraction(1, 2))])
def test_n5_without_positions_begins_at_zero(tmp_path, group, own, translation, half):
    write_json(tmp_path / "v", "attributes.json", group)
    volume = MultiscaleImage.open(levels(write_n5, tmp_path / "v", own), translation)
    assert [level.voxel_size for level in volume.levels] == [exact(VOXEL), tuple(2 * v for v in exact(VOXEL))]
    assert {level.begin for level in volume.levels} == {tuple(-half * v for v in exact(VOXEL))}


def test_a_resolution_without_an_offset_begins_at_zero(tmp_path):
    own = [{"resolution": [8, 8, 4]}, {"resolution": [16, 16, 8]}]
    volume = MultiscaleImage.open(levels(write_n5, tmp_path / "v", own))
    assert [(level.voxel_size, level.begin) for level in volume.levels] == [
        ((4, 8, 8), (0,) * 3),
        ((8, 16, 16), (0,) * 3),
    ]
    first_centre_at_zero = MultiscaleImage.open(tmp_path / "v", "centre")
    assert {level.begin for level in first_centre_at_zero.levels} == {(-2, -4, -4)}


@pytest.mark.parametrize(("unit", "factor"), [("um", 1000), ("µm", 1000), ("Å", Fraction(1, 10)), ("micron", 1000)])
def test_units_of_every_spelling(tmp_path, unit, factor):
    write_n5(tmp_path / "v", ramps(), {"transform": transform(units=[unit] * 3)})
    assert MultiscaleImage.open(tmp_path / "v").levels[0].voxel_size == tuple(v * factor for v in exact(VOXEL))


def test_a_unit_can_be_stated_where_there_is_none(tmp_path):
    write_zarr2(tmp_path / "v" / "s0", ramps())
    write_json(tmp_path / "v", ".zattrs", {"multiscales": [multiscale(SCALES[:1], CENTRES[:1], unit=None)]})
    with pytest.raises(ValueError, match=r"axis z has no unit; state .*unit='nanometer'"):
        MultiscaleImage.open(tmp_path / "v")
    assert MultiscaleImage.open(tmp_path / "v", unit="angstrom").levels[0].voxel_size[0] == 5
    write_n5(tmp_path / "n5", ramps(), {"pixelResolution": VOXEL[::-1]})
    with pytest.raises(ValueError, match=r"n5: pixelResolution has no unit"):
        MultiscaleImage.open(tmp_path / "n5")
    assert MultiscaleImage.open(tmp_path / "n5", unit="mm").levels[0].voxel_size[0] == 50 * 10**6
    with pytest.raises(ValueError, match=r"the argument unit has the unit 'furlong'; it has to be one of picometer"):
        MultiscaleImage.open(tmp_path / "n5", unit="furlong")
    write_n5(tmp_path / "n5", ramps(), {"pixelResolution": PIXELS})
    with pytest.raises(ValueError, match=r"has the unit 'nm', and unit='micrometer' contradicts it"):
        MultiscaleImage.open(tmp_path / "n5", unit="micrometer")


def write_channels(path, shape, axes, labels=()):
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    image = multiscale([(8.0,) * 3], [(4.0,) * 3], axes)
    ome = {"version": "0.5", "multiscales": [image], "omero": {"channels": [{"label": label} for label in labels]}}
    write_json(path, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})
    write_zarr3(path / "s0", data)
    return data


@pytest.mark.parametrize(
    ("select", "index"),
    [
        ({"t": 1}, (1,)),
        ({"t": 0, "c": 2}, (0, slice(2, 3))),
        ({"c": "mito", "t": 1}, (1, slice(1, 2))),
    ],
)
def test_time_and_channels_are_selected_by_name(tmp_path, select, index):
    data = write_channels(tmp_path / "v", (2, 3, 4, 5, 6), "tczyx", ("er", "mito", "er"))
    (read,) = read_all(MultiscaleImage.open(tmp_path / "v", select=select))
    np.testing.assert_array_equal(read, data[index])


def test_one_moment_need_not_be_selected(tmp_path):
    data = write_channels(tmp_path / "v", (3, 1, 4, 5, 6), "ctzyx")
    np.testing.assert_array_equal(read_all(MultiscaleImage.open(tmp_path / "v"))[0], data[:, 0])


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({}, r"axis t has 2 entries: select one, for example select=\{'t': 0\}"),
        ({"t": 2}, r"axis t has no entry 2; they are 0 to 1"),
        ({"t": -1}, r"axis t has no entry -1"),
        ({"t": 0.0}, r"axis t has no entry 0.0"),
        ({"t": "now"}, r"axis t has 0 entries labelled 'now'; it has no labels: give its index"),
        ({"t": 0, "c": "nuc"}, r"axis c has 0 entries labelled 'nuc'; the labels are er, mito, er"),
        ({"t": 0, "c": "er"}, r"axis c has 2 entries labelled 'er'"),
        ({"t": 0, "z": 1}, r"no axis z to select from; there are: t, c"),
        ({"t": 0, "a": 1}, r"no axis a to select from"),
    ],
)
def test_selections_that_are_not_there_are_refused(tmp_path, select, message):
    write_channels(tmp_path / "v", (2, 3, 4, 5, 6), "tczyx", ("er", "mito", "er"))
    with pytest.raises(ValueError, match=message):
        MultiscaleImage.open(tmp_path / "v", select=select)


def test_channels_of_plain_arrays_are_selected_by_index(tmp_path):
    volume = MultiscaleImage.open(gunpowder_n5(tmp_path / "v"), select={"c": 2})
    np.testing.assert_array_equal(read_all(volume)[0], ramps()[2:])


N5, ZARR = write_n5, write_zarr2


@pytest.mark.parametrize(
    ("write", "attributes", "message"),
    [
        (N5, {}, r"no voxel size: neither OME-Zarr metadata nor any of the attributes resolution, voxel_size"),
        (ZARR, {"pixelResolution": PIXELS}, r"no voxel size"),
        (ZARR, {"offset": [0, 0, 0]}, r"an 'offset' belongs to a 'resolution' or 'voxel_size', and there is neither"),
        (
            N5,
            {"transform": transform(), "resolution": VOXEL},
            r"transform says voxels of 50 × 4.6 × 5.24 nm \(z, y, x\), resolution of 5.24 × 4.6 × 50 nm; remove",
        ),
        (
            N5,
            {"transform": transform(), "pixelResolution": {"dimensions": [8, 8, 8], "unit": "nm"}},
            r"transform says voxels of 50 .*, pixelResolution of 8 × 8 × 8 nm",
        ),
        (
            N5,
            {"transform": transform(), "resolution": VOXEL[::-1], "offset": [0, 0, 0]},
            r"transform says that the first voxel begins at -25 × 586.5 × 0.25 nm .*, resolution at 0 × 0 × 0 nm",
        ),
        (
            ZARR,
            {"resolution": [8, 8, 8], "voxel_size": [8, 8, 4]},
            r"voxel_size says .* 8 × 8 × 4 nm .*, resolution of",
        ),
        (ZARR, {"resolution": [8, "8", 8]}, r"malformed resolution: 1 is .*: '8' should be a number"),
        (ZARR, {"resolution": 8}, r"malformed resolution: it is 8: it has to be a list"),
        (ZARR, {"resolution": [8, 0, 8]}, r"malformed resolution: 8 × 0 × 8 has to be 2 or 3 positive numbers"),
        (ZARR, {"resolution": [8]}, r"malformed resolution: 8 has to be 2 or 3"),
        (ZARR, {"resolution": [8, 8, float("nan")]}, r"'nan' is not a finite length"),
        (ZARR, {"resolution": [8, 8, 8], "offset": [0, 0]}, r"an offset of 2 axes for voxels of 3"),
        (ZARR, {"resolution": [8, 8]}, r"v has 4 dimensions and a voxel size of 2; it can have one axis of channels"),
        (ZARR, {"voxel_size": [8, 8, 8], "units": ["nm"]}, r"1 units for a voxel_size of 3 axes"),
        (ZARR, {"voxel_size": [8, 8, 8], "units": ["nm", "nm", "s"]}, r"voxel_size has the unit 's'; it has to be"),
        (ZARR, {"voxel_size": [8, 8, 8], "types": ["space"] * 3 + ["channel"]}, r"types of its axes are \['space'"),
        (
            ZARR,
            {"voxel_size": [8, 8, 8], "axis_names": ["c", "x", "y", "z"]},
            r"are c, x, y, z for voxels of 3 axes; they have to be channel, z, y, x",
        ),
        (ZARR, {"voxel_size": [8, 8, 8], "axis_names": ["z", "y", "x", "c^"]}, r"types of its axes are \['space'"),
        (ZARR, {"voxel_size": [8, 8, 8], "axis_names": ["c^", "Z", "X", "Y"]}, r"axis_names are c\^, Z, X, Y for vox"),
        (
            ZARR,
            {"voxel_size": [8, 8, 8], "axis_names": [3, "z", "y", "x"]},
            r"axes of its voxel_size: axis_names.0 is 3: ",
        ),
        (ZARR, {"voxel_size": [8, 8, 8], "axis_names": "czyx"}, r"axis_names is .*: it has to be a list"),
        (ZARR, {"voxel_size": [8, 8, 8], "units": 5}, r"units is .*: it has to be a list"),
        (ZARR, {"voxel_size": [8, 8, 8], "units": [1, 1, 1]}, r"units.0 is .*: it has to be a valid string"),
        (ZARR, {"voxel_size": [8, 8, 8], "types": 5}, r"types is .*: it has to be a list"),
        (ZARR, {"resolution": [8, 8, 8], "axis_names": ["x", "y", "z"]}, r"axis_names are x, y, z for voxels of 3"),
        (ZARR, {"resolution": [8, 8, 8], "types": ["space"] * 3 + ["channel"]}, r"for a resolution of 3"),
        (ZARR, {"resolution": [8, 8, 8], "units": ["nm", "nm", "s"]}, r"resolution has the unit 's'"),
        (ZARR, {"resolution": [8, 8, 8], "unit": "nm", "units": ["um"] * 3}, r"unit 'nm' contradicts its units"),
        (N5, {"resolution": [8, 8, 8], "axis_names": ["z", "y", "x"]}, r"are z, y, x for .* they have to be x, y, z$"),
        (N5, {"transform": transform(axes=["x", "y", "z"])}, r"transform are x, y, z in order 'C'; they have to be z,"),
        (N5, {"transform": transform(order="A")}, r"malformed transform: order is .*: it has to be 'C' or 'F'"),
        (N5, {"transform": transform(scale=[8, 8])}, r"3 axes, 3 units, 2 scales and 3 translations"),
        (N5, {"transform": transform(units=["nm", "nm", ""])}, r"transform: axis x has no unit; state"),
        (N5, {"transform": {}}, r"malformed transform: axes is missing"),
        (N5, {"pixelResolution": {"unit": "nm"}}, r"malformed pixelResolution: dimensions is missing"),
        (N5, {"pixelResolution": PIXELS, "downsamplingFactors": [2, 2]}, r"downsampling factors of 2 axes for pixelR"),
        (
            N5,
            {"pixelResolution": PIXELS, "downsamplingFactors": [2, 2, 0]},
            r"malformed downsamplingFactors: 0 × 2 × 2",
        ),
    ],
)
def test_attributes_that_are_wrong_are_named(tmp_path, write, attributes, message):
    write(tmp_path / "v", ramps(), attributes)
    with pytest.raises(ValueError, match=message) as caught:
        MultiscaleImage.open(tmp_path / "v")
    assert str(tmp_path / "v") in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        {"axis_names": ["c^", "z", "y", "x"]},
        {"axis_names": ["C^", "Z", "Y", "X"]},
        {"axis_names": ["c0^", "d0", "d1", "d2"]},
        {"types": ["channel", "space", "space", "space"]},
    ],
)
@pytest.mark.parametrize("source", ["voxel_size", "resolution"])
def test_channels_come_before_space(tmp_path, source, names):
    write_zarr2(tmp_path / "v", ramps(), {source: VOXEL, "offset": CORNER} | names)
    volume = MultiscaleImage.open(tmp_path / "v")
    assert (volume.channels, volume.levels[0].shape, volume.levels[0].begin) == (3, SHAPE, exact(CORNER))


@pytest.mark.parametrize("units", [{"unit": "um"}, {"units": ["um"] * 3}, {"unit": "um", "units": ["micrometer"] * 3}])
def test_a_resolution_has_units(tmp_path, units):
    write_zarr2(tmp_path / "v", ramps(), {"resolution": VOXEL, "offset": CORNER} | units)
    level = MultiscaleImage.open(tmp_path / "v").levels[0]
    assert level.voxel_size == tuple(1000 * v for v in exact(VOXEL))
    assert level.begin == tuple(1000 * x for x in exact(CORNER))


def test_axes_beside_a_resolution_of_n5_are_listed_as_it_is(tmp_path):
    names = {"axis_names": ["x", "y", "z"], "units": ["nm", "nm", "um"]}
    write_n5(tmp_path / "v", ramps(), {"resolution": [4, 8, 50]} | names)
    assert MultiscaleImage.open(tmp_path / "v").levels[0].voxel_size == (50000, 8, 4)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([None, "z", "y", "x"], None),
        ([None] * 4, None),
        (
            ["c", "x", "y", "z"],
            r"dimension_names are c, x, y, z for voxels of 3 axes; they have to be channel, z, y, x",
        ),
        (["z", "y", "x", None], r"dimension_names are z, y, x, None"),
        ([1, 2, 3, 4], r"malformed dimension_names: 0 is .*: it has to be a valid string"),
    ],
)
def test_the_names_of_zarr_3_are_read(tmp_path, names, message):
    write_zarr3(tmp_path / "v", ramps(), {"resolution": VOXEL})
    metadata = json.loads((tmp_path / "v" / "zarr.json").read_text()) | {"dimension_names": names}
    write_json(tmp_path / "v", "zarr.json", metadata)
    if message is None:
        assert MultiscaleImage.open(tmp_path / "v").levels[0].voxel_size == exact(VOXEL)
        return
    with pytest.raises(ValueError, match=message):
        MultiscaleImage.open(tmp_path / "v")


def test_an_override_settles_what_positions_name(tmp_path):
    write_n5(tmp_path / "v", ramps(), {"transform": transform(), "resolution": VOXEL[::-1], "offset": centre()[::-1]})
    with pytest.raises(ValueError, match="first voxel begins at"):
        MultiscaleImage.open(tmp_path / "v")
    assert MultiscaleImage.open(tmp_path / "v", "corner").levels[0].begin == exact(centre())
    assert MultiscaleImage.open(tmp_path / "v", "centre").levels[0].begin == exact(CORNER)


def test_an_override_settles_what_the_positions_of_levels_name(tmp_path):
    own = [{"transform": transform(f, translate=CORNER), "downsamplingFactors": [f] * 3} for f in (1, 2)]
    levels(write_n5, tmp_path / "v", own)
    with pytest.raises(ValueError, match=r"different corners: .*with translation='corner' they would agree"):
        MultiscaleImage.open(tmp_path / "v")
    assert {level.begin for level in MultiscaleImage.open(tmp_path / "v", "corner").levels} == {exact(CORNER)}


@pytest.mark.parametrize(
    ("group", "own", "error", "message"),
    [
        ({}, [{}, {}], ValueError, r"s0: no voxel size"),
        ({"resolution": [8, 8, 8]}, [{}, {}], ValueError, r"s1: no voxel size"),
        ({}, [{"resolution": [8, 8, 8]}, {"resolution": [8, 8, 8]}], ValueError, r"levels end a voxel or more apart"),
        (
            {"scales": [[1, 1, 1], [2, 2, 1]]},
            [{"transform": transform(f)} for f in (1, 2)],
            ValueError,
            r"s1: transform says voxels of 100 × 9.2 × 10.48 nm .*transform times the downsampling factors of 50 ×",
        ),
        ({"scales": [[1, 1, 1]]}, [{"transform": transform(f)} for f in (1, 2)], ValueError, r"no factors for array 1"),
        (
            {},
            [{"transform": transform(1)}, {"transform": transform(2, translate=centre(1))}],
            ValueError,
            r"different corners: s0 at -25 × 586.5 × 0.25 nm, s1 at -50 .*translation='corner' they would",
        ),
        (
            {"resolution": [4, 4, 4], "pixelResolution": {"dimensions": [9, 9, 9], "unit": "nm"}},
            [{}, {"downsamplingFactors": [2, 2, 2]}],
            ValueError,
            r"v: resolution says voxels of 4 × 4 × 4 nm .*, pixelResolution of 9 × 9 × 9 nm; remove",
        ),
        ({"multiscales": [{"datasets": ["s0", "s7"]}]}, [{}, {}], FileNotFoundError, r"s7: no such array"),
        ({"multiscales": []}, [{}, {}], ValueError, r"malformed multiscales: IndexError"),
        ({"multiscales": [{"datasets": [7]}]}, [{}, {}], ValueError, r"the paths of its datasets are \[7\]"),
    ],
)
def test_groups_that_are_wrong_are_named(tmp_path, group, own, error, message):
    write_json(tmp_path / "v", "attributes.json", group)
    levels(write_n5, tmp_path / "v", own)
    with pytest.raises(error, match=message) as caught:
        MultiscaleImage.open(tmp_path / "v")
    assert str(tmp_path / "v") in str(caught.value)


def test_levels_of_other_voxels_are_refused(tmp_path):
    arrays = [ramps(1), ramps(2).astype(np.float32)]
    levels(write_n5, tmp_path / "v", [{"transform": transform(f)} for f in (1, 2)], arrays)
    with pytest.raises(
        ValueError, match=r"levels disagree in channels or dtype: s0 is float64 of shape .*, s1 is float32"
    ):
        MultiscaleImage.open(tmp_path / "v")


def test_nothing_is_not_a_volume(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        ValueError, match=r"folder: a group without OME-Zarr metadata \('multiscales'\) and without arrays"
    ):
        MultiscaleImage.open(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match="nothing: no such multiscale group"):
        MultiscaleImage.open(tmp_path / "nothing")


def test_what_gunpowder_reads_lies_where_gunpowder_puts_it(tmp_path):
    """One file through gunpowder's source and through ours, merged."""
    stored = write_zarr2(
        tmp_path / "v" / "raw", ramps(channels=False), {"resolution": [50, 5, 4], "offset": [50, 10, 8]}
    )
    write_json(tmp_path / "v", ".zgroup", {"zarr_format": 2})
    theirs, ours = gp.ArrayKey("THEIRS"), gp.ArrayKey("OURS")
    size, world = (50, 5, 4), World()
    chain = (
        gp.ZarrSource(str(tmp_path / "v"), {theirs: "raw"}, {theirs: gp.ArraySpec(interpolatable=True)}),
        MultiscaleSource(MultiscaleImage.open(stored), {ours: size}, world),
    ) + gp.MergeProvider()
    with gp.build(chain) as pipeline:
        there, here = pipeline.spec[theirs].roi, pipeline.spec[ours].roi
        assert here == there == gp.Roi((50, 10, 8), (200, 30, 32))
        request = gp.BatchRequest()
        request[theirs], request[ours] = gp.ArraySpec(roi=there), gp.ArraySpec(roi=here)
        batch = pipeline.request_batch(request)
    np.testing.assert_array_equal(batch[theirs].data, batch[ours].data[0])


n5_store = pytest.mark.skipif(not hasattr(zarr, "N5Store"), reason="zarr 3 writes no N5")


@pytest.mark.parametrize("n5", [False, pytest.param(True, marks=n5_store)])
@pytest.mark.filterwarnings("ignore:.*N5:FutureWarning")
def test_what_funlib_persistence_writes_lies_where_it_puts_it(tmp_path, n5):
    path, data = tmp_path / "v", np.random.default_rng(0).integers(0, 255, (2, *SHAPE), np.uint8)
    store = zarr.N5Store(str(path)) if n5 else str(path)
    types = ["channel", "space", "space", "space"]
    written = prepare_ds(store, data.shape, (25, 10, 3), (50, 5, 4), types=types, mode="w", dtype=np.uint8)
    written._source_data[...] = data
    volume = MultiscaleImage.open(path)
    assert (volume.levels[0].begin, volume.levels[0].voxel_size) == (tuple(written.roi.begin), (50, 5, 4))
    assert volume.levels[0].end == tuple(written.roi.end)
    np.testing.assert_array_equal(read_all(volume)[0], data)


@n5_store
@pytest.mark.filterwarnings("ignore:.*N5:FutureWarning")
def test_what_gunpowder_writes_to_n5_lies_where_it_puts_it(tmp_path):
    key, roi = gp.ArrayKey("WRITTEN"), gp.Roi((50, 10, 8), (200, 30, 32))
    array = PersistenceArray(ramps(channels=False), roi.begin, (50, 5, 4))
    source = gp.ArraySource(key, array, interpolatable=True)
    request = gp.BatchRequest()
    request[key] = gp.ArraySpec(roi=roi)
    store = zarr.N5Store(str(tmp_path / "v.n5"))
    with gp.build(source + gp.ZarrWrite({key: "raw"}, store=store)) as pipeline:
        pipeline.request_batch(request)
    volume = MultiscaleImage.open(tmp_path / "v.n5" / "raw")
    assert (volume.levels[0].begin, volume.levels[0].end) == (tuple(roi.begin), tuple(roi.end))
    np.testing.assert_array_equal(read_all(volume)[0][0], ramps()[2])


class TestArraysInMemory:
    def test_they_are_read_like_files(self, tmp_path):
        volume = MultiscaleImage.from_arrays([ramps(1), ramps(2)], SCALES, CORNER)
        stored = MultiscaleImage.open(ome_zarr_2(tmp_path / "v"))
        assert (volume.levels, volume.channels, volume.dtype) == (stored.levels, 3, np.float64)
        keys, world = [gp.ArrayKey("FINE"), gp.ArrayKey("COARSE")], volume.world()
        sizes = {key: world.size(level.voxel_size) for key, level in zip(keys, volume.levels, strict=True)}
        request = gp.BatchRequest()
        for key, size in sizes.items():
            request[key] = gp.ArraySpec(roi=volume.roi(size, world))
        batches = []
        for opened in (volume, stored):
            with gp.build(MultiscaleSource(opened, sizes, world, padding="reflect")) as pipeline:
                batches.append(pipeline.request_batch(request.copy()))
        for key in keys:
            np.testing.assert_array_equal(batches[0][key].data, batches[1][key].data)

    def test_what_is_read_can_be_written_to(self):
        voxels = np.zeros((2, 2, 2), np.uint8)
        volume = MultiscaleImage.from_arrays([voxels], [(8, 8, 8)])
        volume.read(gp.Roi((0,) * 3, (16,) * 3), (8, 8, 8), World())[...] = 1
        assert not voxels.any()

    @pytest.mark.parametrize(
        ("shapes", "sizes", "corner", "message"),
        [
            ([], [], None, r"0 arrays, 0 voxel sizes"),
            ([(4, 4, 4)], [(8,) * 3, (16,) * 3], None, r"1 arrays, 2 voxel sizes"),
            ([(4, 4, 4)], [(8,) * 3], (0, 0), r"a corner of 2 axes"),
            ([(4,)], [(8,)], None, r"2 or 3 axes"),
            ([(4, 4)], [(8,) * 3], None, r"shape \(4, 4\), and voxels of 8 × 8 × 8 nm"),
            ([(4, 4, 4)], [(8, 0, 8)], None, r"positive voxel sizes"),
            ([(4, 4, 4), (2, 2, 2, 2)], [(8,) * 3, (16,) * 3], None, r"the same axes, channels"),
            ([(4, 4, 4), (4, 4, 4)], [(8,) * 3, (16,) * 3], None, r"lab: the levels end a voxel or more apart"),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, shapes, sizes, corner, message):
        with pytest.raises(ValueError, match=message):
            MultiscaleImage.from_arrays([np.zeros(shape) for shape in shapes], sizes, corner, name="lab")
