import json
from fractions import Fraction

import numpy as np
import pytest

from scalenet_gp.volumes.array_creation import create_group
from scalenet_gp.volumes.formats import read_volume, volumes_below
from scalenet_gp.volumes.metadata import Level, ReadOptions, number
from scalenet_gp.volumes.ome_zarr import multiscale_attributes
from scalenet_gp.volumes.storage import open_array
from tests.scalenet_gp.volumes.ome_zarr_files import VNC, edit_metadata, write_multiscale

CUBE = np.zeros((8, 8, 8), np.uint8)
HALF = np.zeros((4, 4, 4), np.uint8)


def read_multiscale(path, translation=None, **options):
    return read_volume(path, ReadOptions(translation, **options))


def fractions(*lengths):
    return tuple(map(Fraction, lengths))


def test_corners_lie_half_a_voxel_before_the_centres(tmp_path):
    path = write_multiscale(
        tmp_path / "v", [CUBE, HALF], [(50, 4.6, 4.6), (100, 9.2, 9.2)], [(0, 0, 0), (25, 2.3, 2.3)]
    )
    metadata = read_multiscale(path)
    corner = fractions(-25, "-2.3", "-2.3")
    assert metadata.levels == (
        Level("s0", (8, 8, 8), fractions(50, "4.6", "4.6"), corner),
        Level("s1", (4, 4, 4), fractions(100, "9.2", "9.2"), corner),
    )
    assert metadata.levels[1].end == fractions(375, "34.5", "34.5")
    assert (metadata.axes, metadata.channels, metadata.dtype) == (("z", "y", "x"), None, np.uint8)


@pytest.mark.parametrize(("unit", "factor"), [("nanometer", "1"), ("micrometer", "1000"), ("angstrom", "1/10")])
def test_units_become_nanometres(tmp_path, unit, factor):
    path = write_multiscale(tmp_path / "v", [CUBE], [(0.05, 0.0046, 0.0046)], [(1, 2, 3)], unit=unit)
    level = read_multiscale(path, "corner").levels[0]
    assert level.voxel_size == tuple(length * Fraction(factor) for length in fractions("0.05", "0.0046", "0.0046"))
    assert level.begin == tuple(length * Fraction(factor) for length in (1, 2, 3))


def test_the_groups_transformation_comes_after_the_levels(tmp_path):
    group = [{"type": "scale", "scale": [2, 2, 4]}, {"type": "translation", "translation": [100, 0, 0.5]}]
    path = write_multiscale(tmp_path / "v", [CUBE], [(8, 4, 4)], [(10, 20, 30)], group=group)
    level = read_multiscale(path, "corner").levels[0]
    assert (level.voxel_size, level.begin) == (fractions(16, 8, 16), fractions(120, 40, "120.5"))
    assert read_multiscale(path).levels[0].begin == fractions(112, 36, "112.5")


def test_noise_of_binary_floats_is_no_disagreement(tmp_path):
    noisy = 3 * 2.3
    assert str(noisy) == "6.8999999999999995"
    path = write_multiscale(tmp_path / "v", [CUBE, HALF], [(4.6,) * 3, (18.4,) * 3], [(0,) * 3, (noisy,) * 3])
    edit_metadata(path, lambda m: m["datasets"].pop(0))
    assert read_multiscale(path).levels[0].begin == fractions("-2.3", "-2.3", "-2.3")


@pytest.mark.parametrize("compute", [np.float32, np.float64], ids=["in single", "in double"])
@pytest.mark.parametrize(
    ("size", "meant"), [(float(np.float32(3.77)), Fraction("3.77")), (10 / 3, Fraction("3.33333333333")), (8.0, 8)]
)
def test_deep_pyramids_of_rounded_voxel_sizes_begin_at_one_corner(tmp_path, size, meant, compute):
    arrays = [np.zeros((64 >> level,) * 3, np.uint8) for level in range(6)]
    sizes = [(float(compute(size) * compute(2**level)),) * 3 for level in range(6)]
    centres = [(float(compute(size) * compute((2**level - 1) / 2)),) * 3 for level in range(6)]
    levels = read_multiscale(write_multiscale(tmp_path / "v", arrays, sizes, centres)).levels
    if size != 10 / 3:
        assert [level.voxel_size for level in levels] == [(meant * 2**level,) * 3 for level in range(6)]
        assert {level.begin for level in levels} == {(-meant / 2,) * 3}
    assert len({level.begin for level in levels}) == 1


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (float(np.float32(3.77)), "3.77"),
        (float(np.float32(-1e-3)), "-0.001"),
        (6.8999999999999995, "6.9"),
        (4.00048828125, "4.00048828125"),  # in single precision 4.0004883 would do
        (1e300, "1e300"),
        (16777217.0, "16777217"),
    ],
)
def test_numbers_are_what_their_writer_meant(value, meant):
    assert number(value) == Fraction(meant)


def test_corners_a_share_of_a_voxel_apart_are_no_rounding(tmp_path):
    path = write_multiscale(tmp_path / "v", [CUBE, HALF], [(8,) * 3, (16,) * 3], [(0,) * 3, (4.0001,) * 3])
    with pytest.raises(ValueError, match="different corners"):
        read_multiscale(path)


def test_an_empty_transformation_of_the_group_is_none(tmp_path):
    path = write_multiscale(tmp_path / "v", [CUBE], [(8,) * 3], [(4,) * 3], group=[])
    assert read_multiscale(path).levels[0].begin == (0, 0, 0)


def test_several_multiscales_have_to_be_equal(tmp_path):
    path = write_multiscale(tmp_path / "v", [CUBE], [(8,) * 3])
    attributes = json.loads((path / ".zattrs").read_text())
    for scale, equal in ((8, True), (9, False)):
        other = json.loads(json.dumps(attributes["multiscales"][0]))
        first(other)[0]["scale"] = [scale] * 3
        (path / ".zattrs").write_text(json.dumps({"multiscales": [attributes["multiscales"][0], other]}))
        if equal:
            assert read_multiscale(path).levels[0].voxel_size == (8, 8, 8)
            continue
        with pytest.raises(ValueError, match=r"v: malformed OME-Zarr metadata: 2 multiscales that differ"):
            read_multiscale(path)


def test_unknown_versions_are_refused_where_ome_zarr_defines_them(tmp_path):
    path = write_multiscale(tmp_path / "v", [CUBE], [(8,) * 3])
    attributes = json.loads((path / ".zattrs").read_text())
    (path / ".zattrs").write_text(json.dumps(attributes | {"version": "mine"}))
    assert read_multiscale(path).levels[0].voxel_size == (8, 8, 8)
    (path / ".zattrs").write_text(json.dumps({"ome": attributes | {"version": "0.7"}}))
    with pytest.raises(ValueError, match=r"OME-Zarr metadata: version is .*: it has to be '0.4', '0.5' or '0.6'"):
        read_multiscale(path)


def test_levels_listed_from_coarse_to_fine_are_refused(tmp_path):
    path = write_multiscale(tmp_path / "v", [CUBE, HALF], [(8,) * 3, (16,) * 3], [(0,) * 3, (4,) * 3])
    edit_metadata(path, lambda m: m["datasets"].reverse())
    with pytest.raises(ValueError, match=r"s1 of 16 × 16 × 16 nm, s0 of 8 × 8 × 8 nm; .* from fine to coarse"):
        read_multiscale(path)


def test_channels_and_two_dimensions(tmp_path):
    path = write_multiscale(tmp_path / "c", [np.zeros((3, 4, 4, 4), ">i4")], [(8, 8, 8)], axes="czyx")
    metadata = read_multiscale(path)
    assert (metadata.channels, metadata.dtype, metadata.levels[0].shape) == (3, np.dtype("i4"), (4, 4, 4))
    path = write_multiscale(tmp_path / "yx", [np.zeros((4, 5))], [(8, 8)], axes="yx")
    assert read_multiscale(path).levels[0].shape == (4, 5)


def test_missing_translations_are_refused_and_the_override_proposed(tmp_path):
    path = write_multiscale(tmp_path / "v", [CUBE, HALF], [(8,) * 3, (16,) * 3])
    with pytest.raises(ValueError, match=r"s0 at -4 × -4 × -4 nm, s1 at -8 × -8 × -8 nm.*translation='corner' they"):
        read_multiscale(path)
    assert [level.begin for level in read_multiscale(path, "corner").levels] == [(0, 0, 0)] * 2


def test_an_override_that_does_not_hold_proposes_the_format(tmp_path):
    path = write_multiscale(tmp_path / "v", [CUBE, HALF], [(8,) * 3, (16,) * 3], [(0,) * 3, (4,) * 3])
    with pytest.raises(ValueError, match=r"different corners.*'corner'; with translation='centre' they would agree"):
        read_multiscale(path, "corner")


def test_levels_that_agree_in_no_reading_are_refused_without_a_proposal(tmp_path):
    path = write_multiscale(tmp_path / "v", [CUBE, HALF], [(8,) * 3, (16,) * 3], [(0,) * 3, (5, 4, 4)])
    with pytest.raises(ValueError, match=r"s1 at -3 × -4 × -4 nm, read with translation='centre'$"):
        read_multiscale(path)


@pytest.mark.parametrize("coarse", [3, 4])
def test_far_corners_may_differ_by_less_than_a_coarse_voxel(tmp_path, coarse):
    fine = np.zeros((7, 8, 8), np.uint8)
    path = write_multiscale(
        tmp_path / "v", [fine, np.zeros((coarse, 4, 4), np.uint8)], [(8,) * 3, (16,) * 3], [(0,) * 3, (4,) * 3]
    )
    assert read_multiscale(path).levels[1].shape[0] == coarse


def test_far_corners_a_coarse_voxel_apart_are_refused(tmp_path):
    path = write_multiscale(tmp_path / "v", [CUBE, HALF[:3]], [(8,) * 3, (16,) * 3], [(0,) * 3, (4,) * 3])
    with pytest.raises(ValueError, match=r"end a voxel or more apart: s0 at 60 × 60 × 60 nm, s1 at 44 × 60 × 60 nm"):
        read_multiscale(path)


@pytest.mark.parametrize("unit", [None, " ", "pixel", "Voxel"])
def test_a_unit_can_be_stated_where_the_file_names_none(tmp_path, unit):
    path = write_multiscale(tmp_path / "v", [CUBE], [(8, 8, 8)])
    edit_metadata(path, lambda m: [axis.update(unit=unit) for axis in m["axes"]])
    assert read_volume(path, ReadOptions(unit="micrometer")).levels[0].voxel_size == (8000,) * 3


def test_missing_things_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing: no such multiscale group"):
        read_multiscale(tmp_path / "nothing")
    path = write_multiscale(tmp_path / "crop" / "mito", [CUBE], [(8,) * 3])
    create_group(tmp_path / "crop" / "empty", {})
    (tmp_path / "crop" / ".zgroup").write_text('{"zarr_format": 2}')
    assert volumes_below(tmp_path / "crop") == ("mito",)
    with pytest.raises(ValueError, match=r"crop: a group without OME-Zarr metadata.*below it: mito"):
        read_multiscale(tmp_path / "crop")
    with pytest.raises(ValueError, match=r"mito: a group, not an array"):
        open_array(path)
    edit_metadata(path, lambda m: m["datasets"][0].update(path="s7"))
    with pytest.raises(FileNotFoundError, match=r"s7: no such array"):
        read_multiscale(path)
    with pytest.raises(ValueError, match=r"s0: no voxel size: the OME-Zarr group .*mito lists s7, not s0, and"):
        read_multiscale(path / "s0")
    with pytest.raises(ValueError, match=r"translation='center' has to be None, 'centre' or 'corner'"):
        read_multiscale(path, "center")


def first(metadata):
    return metadata["datasets"][0]["coordinateTransformations"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.pop("axes"), r"multiscales.0.axes is missing"),
        (lambda m: m.update(datasets=[]), r"multiscales.0.datasets is .*: it has to have at least 1 item"),
        (lambda m: m.update(version="0.3"), r"multiscales.0.version is .*: it has to be '0.4', '0.5' or '0.6'"),
        (lambda m: m.update(axes=["z", "y", "x"]), r"multiscales.0.axes.0"),
        (lambda m: m["axes"].reverse(), r"the axes are x, y, z; they have to be z, y, x"),
        (lambda m: m["axes"][0].update(name="t", type="time"), r"axis t has 8 entries: select one, .* select={'t': 0}"),
        (lambda m: m["axes"][0].update(type="time"), r"axis z is of type 'time'; it has to be 'space'"),
        (lambda m: m["axes"][1].pop("unit"), r"axis y has no unit; state what it is counted in, .* unit='nanometer'"),
        (lambda m: m["axes"][1].update(unit="parsec"), r"axis y has the unit 'parsec'"),
        (lambda m: m["axes"][1].update(unit=" "), r"axis y has no unit, only ' '; state what"),
        (lambda m: m["axes"][1].update(unit="voxel"), r"axis y has no unit, only 'voxel'; state what"),
        (lambda m: m["axes"].insert(0, {"name": "c", "type": "channel"}), r"s0 has 3 dimensions, the axes are 4"),
        (lambda m: first(m)[0].update(scale=[8, 8]), r"s0: .* the scale has 2 entries for 3 axes"),
        (lambda m: first(m)[0].update(scale=[8, 0, 8]), r"s0: .* the scale 8 × 0 × 8 has to be positive"),
        (lambda m: first(m)[0].update(scale=[8, "8", 8]), r"scale.1 is .*: '8' should be a number"),
        (lambda m: first(m)[0].update(scale=[8, True, 8]), r"scale.1 is .*: True should be a number"),
        (
            lambda m: first(m)[0].update(scale=[8, float("nan"), 8]),
            r"scale.1 is .*: 'nan' is not a finite length",
        ),
        (lambda m: first(m)[0].update(type="affine"), r"coordinateTransformations.0 is .*: Input tag 'affine'"),
        (lambda m: first(m).reverse(), r"s0: .* are \['translation', 'scale'\]; they have to be one scale, then"),
        (lambda m: first(m).clear(), r"s0: .* are \[\]"),
    ],
)
def test_malformed_metadata_is_named(tmp_path, edit, message):
    path = write_multiscale(tmp_path / "v", [CUBE], [(8,) * 3], [(0,) * 3])
    edit_metadata(path, edit)
    with pytest.raises(ValueError, match=message) as caught:
        read_multiscale(path)
    assert str(path) in str(caught.value)


def test_metadata_that_is_no_json_is_named(tmp_path):
    path = write_multiscale(tmp_path / "v", [CUBE], [(8,) * 3])
    (path / ".zattrs").write_text("{")
    with pytest.raises(ValueError, match=r"v/.zattrs: not readable as JSON"):
        read_multiscale(path)


@pytest.mark.parametrize("other", [HALF.astype(np.int32), np.zeros((2, 4, 4, 4), np.uint8)])
def test_levels_of_different_kinds_are_refused(tmp_path, other):
    axes = "zyx" if other.ndim == 3 else "czyx"
    fine = CUBE if other.ndim == 3 else CUBE[np.newaxis]
    path = write_multiscale(tmp_path / "v", [fine, other], [(8,) * 3, (16,) * 3], [(0,) * 3, (4,) * 3], axes=axes)
    with pytest.raises(ValueError, match=r"levels disagree in channels or dtype: s0 is uint8 of shape"):
        read_multiscale(path)


def test_attributes_read_back_as_they_were(tmp_path):
    levels = [
        Level("s0", (8, 8, 8), fractions(50, "4.6", "4.6"), fractions("-25", "586.5", "1/8")),
        Level("s1", (8, 4, 4), fractions(50, "9.2", "9.2"), fractions("-25", "586.5", "1/8")),
    ]
    path = write_multiscale(tmp_path / "v", [CUBE, np.zeros((8, 4, 4), np.uint8)], [(1,) * 3, (1, 2, 2)])
    attributes = multiscale_attributes("v", ("z", "y", "x"), levels, (), CUBE.dtype)
    (path / ".zattrs").write_text(json.dumps(attributes))
    assert list(read_multiscale(path).levels) == levels


def test_a_length_that_cannot_be_stored_is_refused():
    level = Level("s0", (8, 8, 8), fractions(8, "1/3", 8), fractions(0, 0, 0))
    with pytest.raises(ValueError, match=r"s0: a length of 1/3 nm cannot be stored exactly"):
        multiscale_attributes("v", ("z", "y", "x"), [level], (), CUBE.dtype)


@pytest.mark.skipif(not VNC.exists(), reason="the real data ../shared/data/vnc.zarr is absent")
def test_real_pyramids_are_exact():
    crop = VNC / "recon-1" / "labels" / "groundtruth" / "crop1"
    assert volumes_below(crop) == ("glia", "membrane", "mito", "synapse")
    raw, mito = read_multiscale(VNC / "recon-1" / "em" / "tem-uint8"), read_multiscale(crop / "mito")
    assert {level.begin for level in raw.levels} == {fractions(-25, "-2.3", "-2.3")}
    assert {level.begin for level in mito.levels} == {fractions(-25, "586.5", "439.3")}
    assert [level.voxel_size[2] for level in raw.levels] == list(fractions("4.6", "9.2", "18.4", "36.8"))
