"""The array of one level, opened by its own path, lies where its group puts it; and neuroglancer's own volumes."""

import json
from fractions import Fraction

import numpy as np
import pytest
import tensorstore as ts
from funlib.geometry import Coordinate, Roi

from scalenet_gp.volumes import MultiscaleImage
from tests.scalenet_gp.volumes.test_volume_formats import FORMATS, exact, read_all
from tests.scalenet_gp.volumes.volume_files import (
    CORNER,
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


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("index", [0, 1])
def test_a_level_lies_where_its_group_puts_it(tmp_path, write, index):
    group = MultiscaleImage.open(write(tmp_path / "v"))
    alone = MultiscaleImage.open(tmp_path / "v" / group.levels[index].path)
    (level,) = alone.levels
    expected = group.levels[index]
    assert (level.path, level.shape) == (".", expected.shape)
    assert (level.voxel_size, level.begin) == (expected.voxel_size, expected.begin)
    np.testing.assert_array_equal(read_all(alone)[0], ramps(index + 1))


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS.keys())
def test_a_url_names_a_level_too(tmp_path, write):
    write(tmp_path / "v")
    name = MultiscaleImage.open(tmp_path / "v").levels[1].path
    alone, by_url = (MultiscaleImage.open(path) for path in (tmp_path / "v" / name, f"file://{tmp_path}/v/{name}"))
    assert by_url.levels == alone.levels


def test_a_group_further_up_may_list_the_array(tmp_path):
    image = multiscale(SCALES[:1], CENTRES[:1])
    image["datasets"][0]["path"] = "em/fine/s0"
    write_json(tmp_path / "v", ".zattrs", {"multiscales": [{"version": "0.4"} | image]})
    write_zarr2(tmp_path / "v" / "em" / "fine" / "s0", ramps())
    (level,) = MultiscaleImage.open(tmp_path / "v" / "em" / "fine" / "s0").levels
    assert (level.voxel_size, level.begin) == (exact(VOXEL), exact(CORNER))


def test_levels_of_zarr_3_in_a_group_of_zarr_2(tmp_path):
    write_json(tmp_path / "v", ".zattrs", {"multiscales": [{"version": "0.4"} | multiscale(SCALES, CENTRES)]})
    write_zarr3(tmp_path / "v" / "s1", ramps(2))
    assert MultiscaleImage.open(tmp_path / "v" / "s1").levels[0].voxel_size == exact(SCALES[1])


@pytest.mark.parametrize(
    ("own", "fault"),
    [
        ({"resolution": SCALES[1], "offset": CORNER}, None),
        ({"resolution": SCALES[1], "offset": CENTRES[1]}, None),
        ({"transform": transform(2)}, None),
        ({"offset": CORNER}, None),
        ({"resolution": SCALES[0]}, r"its resolution says voxels of 50 × 4.6 × 5.24 nm .*, the group's OME-Zarr"),
        ({"resolution": SCALES[1], "offset": [0, 0, 0]}, r"from 0 × 0 × 0 nm on .* or open the group"),
    ],
)
def test_an_array_agrees_with_its_group(tmp_path, own, fault):
    write_json(tmp_path / "v", ".zattrs", {"multiscales": [{"version": "0.4"} | multiscale(SCALES, CENTRES)]})
    write_zarr2(tmp_path / "v" / "s1", ramps(2), own)
    if fault is None:
        assert MultiscaleImage.open(tmp_path / "v" / "s1").levels[0].begin == exact(CORNER)
        return
    with pytest.raises(ValueError, match=fault):
        MultiscaleImage.open(tmp_path / "v" / "s1")


@pytest.mark.parametrize(
    ("group", "own", "voxel"),
    [
        ({"pixelResolution": {"dimensions": [4, 4, 4], "unit": "nm"}}, {"downsamplingFactors": [2, 2, 2]}, (8, 8, 8)),
        ({"resolution": [2, 4, 6], "multiScale": True}, {"downsamplingFactors": [2, 2, 1]}, (6, 8, 4)),  # BigStitcher
        ({"resolution": [2, 4, 6], "units": "um"}, {"downsamplingFactors": [2, 2, 1]}, (6000, 8000, 4000)),
        ({"pixelResolution": [4, 4, 4], "downsamplingFactors": [[1, 1, 1], [2, 2, 2]]}, {}, (8, 8, 8)),
        ({}, {"pixelResolution": [2, 4, 6]}, (6, 4, 2)),
    ],
)
def test_a_level_of_n5_needs_no_finer_one(tmp_path, group, own, voxel):
    write_json(tmp_path / "v", "attributes.json", group)
    write_n5(tmp_path / "v" / "s1", ramps(), own)
    stated = None if "units" in group or isinstance(group.get("pixelResolution"), dict) else "nm"
    (level,) = MultiscaleImage.open(tmp_path / "v" / "s1", unit=stated).levels
    assert (level.voxel_size, level.begin) == (voxel, (0, 0, 0))


def test_an_offset_beside_a_pixel_resolution_is_a_corner(tmp_path):
    write_n5(tmp_path / "v", ramps(), {"pixelResolution": {"dimensions": [2, 4, 6], "unit": "nm"}, "offset": [1, 2, 3]})
    assert MultiscaleImage.open(tmp_path / "v").levels[0].begin == (3, 2, 1)


def test_arrays_without_attributes_have_those_of_their_group(tmp_path):
    write_json(tmp_path / "v", ".zattrs", {"voxel_size": [1, 2, 3], "offset": [4, 4, 4]})
    write_zarr2(tmp_path / "v" / "raw", ramps())
    (level,) = MultiscaleImage.open(tmp_path / "v" / "raw").levels
    assert (level.voxel_size, level.begin) == ((1, 2, 3), (4, 4, 4))


def test_a_scale_of_zarr_is_a_voxel_size(tmp_path):
    write_zarr2(tmp_path / "v", ramps(), {"scale": [2, 4, 8]})
    assert MultiscaleImage.open(tmp_path / "v").levels[0].voxel_size == (2, 4, 8)


@pytest.mark.parametrize("write", [write_zarr2, write_zarr3, write_n5])
def test_a_voxel_size_can_be_stated_where_there_is_none(tmp_path, write):
    write(tmp_path / "v", ramps())
    with pytest.raises(ValueError, match=r"no voxel size: .*; state it in nm, for example voxel_size=\[40, 4, 4\]"):
        MultiscaleImage.open(tmp_path / "v")
    (level,) = MultiscaleImage.open(tmp_path / "v", voxel_size=(40, "4.6", 4)).levels
    assert (level.voxel_size, level.begin) == ((40, Fraction("4.6"), 4), (0, 0, 0))
    with pytest.raises(ValueError, match=r"v has 4 dimensions and a voxel size of 2"):
        MultiscaleImage.open(tmp_path / "v", voxel_size=(4, 4))
    write(tmp_path / "v", ramps(), {"voxel_size": [8, 8, 8]})
    with pytest.raises(
        ValueError, match=r"voxel_size says voxels of 8 × 8 × 8 nm, and voxel_size=\[4, 4, 4\] contradi"
    ):
        MultiscaleImage.open(tmp_path / "v", voxel_size=(4, 4, 4))


def test_a_stated_voxel_size_is_that_of_the_finest_level(tmp_path):
    write_n5(tmp_path / "v" / "s0", ramps())
    write_n5(tmp_path / "v" / "s1", ramps(2), {"downsamplingFactors": [2, 2, 2]})
    levels = MultiscaleImage.open(tmp_path / "v", voxel_size=(6, 4, 2)).levels
    assert [level.voxel_size for level in levels] == [(6, 4, 2), (12, 8, 4)]


def system(name, unit):
    return {"name": name, "axes": [{"name": axis, "type": "space", "unit": unit} for axis in "zyx"]}


def ome_zarr_6(path, changes=None, steps=None):
    """Two levels of OME-Zarr 0.6, on a stage half a millimetre away."""
    datasets = []
    for index, factor in enumerate((1, 2)):
        sequence = steps or [
            {"type": "scale", "scale": [v * factor for v in VOXEL]},
            {"type": "translation", "translation": centre(factor)},
        ]
        transformation = {"type": "sequence", "input": f"s{index}", "output": "own", "transformations": sequence}
        datasets.append({"path": f"s{index}", "coordinateTransformations": [transformation]})
        write_zarr3(path / f"s{index}", ramps(factor, channels=False))
    image = {
        "coordinateSystems": [system("stage", "millimeter"), system("own", "nanometer")],
        "datasets": datasets,
        "coordinateTransformations": [
            {"type": "translation", "translation": [500] * 3, "input": "own", "output": "stage"}
        ],
    } | (changes or {})
    ome = {"version": "0.6.dev3", "multiscales": [image]}
    return write_json(path, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})


def test_coordinate_systems_are_read_for_the_intrinsic_one(tmp_path):
    volume = MultiscaleImage.open(ome_zarr_6(tmp_path / "v"))
    assert [level.voxel_size for level in volume.levels] == [exact(VOXEL), exact(SCALES[1])]
    assert {level.begin for level in volume.levels} == {exact(CORNER)}
    np.testing.assert_array_equal(read_all(volume)[1][0], ramps(2)[2])
    assert MultiscaleImage.open(tmp_path / "v" / "s1").levels[0].begin == exact(CORNER)


@pytest.mark.parametrize(
    ("changes", "steps", "fault"),
    [
        ({"coordinateSystems": [system("stage", "nm")]}, None, r"lead to the coordinate system 'own'; there are stage"),
        ({"coordinateSystems": []}, None, r"malformed OME-Zarr metadata"),
        ({}, [{"type": "affine", "affine": [[1]]}], r"malformed OME-Zarr metadata: .*affine"),
        ({}, [{"type": "identity"}], r"the coordinateTransformations are \[\]; they have to be one scale"),
    ],
)
def test_coordinate_systems_that_do_not_fit_are_refused(tmp_path, changes, steps, fault):
    with pytest.raises(ValueError, match=fault):
        MultiscaleImage.open(ome_zarr_6(tmp_path / "v", changes, steps))


def precomputed(path, arrays, resolutions, offsets):
    """A precomputed volume, written by tensorstore; arrays are (c, z, y, x), the others x, y, z."""
    for index, (array, resolution, offset) in enumerate(zip(arrays, resolutions, offsets, strict=True)):
        specification = {
            "driver": "neuroglancer_precomputed",
            "kvstore": f"file://{path}/",
            "multiscale_metadata": {"type": "image", "data_type": "uint16", "num_channels": len(array)},
            "scale_metadata": {
                "key": f"s{index}",
                "size": array.shape[:0:-1],
                "resolution": resolution,
                "voxel_offset": offset,
                "chunk_size": [3, 4, 2],
                "encoding": "raw",
            },
        }
        store = ts.open(specification, create=True, open=index > 0).result()
        store.write(array.transpose(3, 2, 1, 0)).result()
    return path


@pytest.mark.parametrize("channels", [1, 2])
def test_precomputed_volumes_are_read(tmp_path, channels):
    fine = np.arange(channels * 4 * 6 * 8, dtype=np.uint16).reshape(channels, 4, 6, 8)
    coarse = fine[:, ::2, ::2, ::2]
    path = precomputed(tmp_path / "v", [fine, coarse], [[4, 5.5, 40], [8, 11, 80]], [[10, 20, 30], [5, 10, 15]])
    volume = MultiscaleImage.open(path)
    assert (volume.channels, volume.dtype) == (channels, np.uint16)
    assert [level.voxel_size for level in volume.levels] == [(40, Fraction("5.5"), 4), (80, 11, 8)]
    assert {level.begin for level in volume.levels} == {(1200, 110, 40)}
    for read, expected in zip(read_all(volume), (fine, coarse), strict=True):
        np.testing.assert_array_equal(read, expected)
    world = volume.world()
    size = world.size(volume.levels[0].voxel_size)
    whole = volume.roi(size, world)
    part = Roi(whole.begin + size * Coordinate(1, 2, 3), size * Coordinate(2, 3, 4))
    np.testing.assert_array_equal(volume.read(part, size, world), fine[:, 1:3, 2:5, 3:7])
    for name in (f"{path}/s1", f"precomputed://file://{path}/s1"):
        alone = MultiscaleImage.open(name)
        assert (alone.levels[0].voxel_size, alone.levels[0].begin) == ((80, 11, 8), (1200, 110, 40))
        np.testing.assert_array_equal(read_all(alone)[0], coarse)


def test_precomputed_volumes_that_do_not_fit_are_refused(tmp_path):
    array = np.zeros((1, 4, 6, 8), np.uint16)
    path = precomputed(tmp_path / "v", [array, array[:, ::2, ::2, ::2]], [[4] * 3, [8] * 3], [[1] * 3, [0] * 3])
    with pytest.raises(ValueError, match=r"levels begin at different corners.*; or open one scale alone, as .*v/s0"):
        MultiscaleImage.open(path)
    assert MultiscaleImage.open(path / "s0").levels[0].begin == (4, 4, 4)
    with pytest.raises(ValueError, match=r"its info says voxels of 4 × 4 × 4 nm, and voxel_size=\[5, 5, 5\] contra"):
        MultiscaleImage.open(path / "s0", voxel_size=(5, 5, 5))
    info = json.loads((path / "info").read_text())
    (path / "info").write_text(json.dumps(info | {"data_type": "complex64"}))
    with pytest.raises(ValueError, match=r"v/info: malformed metadata of a precomputed volume: data_type is"):
        MultiscaleImage.open(path)
    (path / "info").write_text(json.dumps(info | {"scales": info["scales"][::-1]}))
    with pytest.raises(ValueError, match=r"malformed|fine to coarse|different corners"):
        MultiscaleImage.open(path)
