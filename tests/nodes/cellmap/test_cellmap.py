"""The layout of the CellMap Segmentation Challenge: tables, annotations, and crops as branches of a pipeline."""

import http.server
import json
import threading
from collections import Counter
from functools import partial

import gunpowder as gp
import numpy as np
import pytest

from scalenet_gp.nodes.cellmap.crops import check_counts, class_frequencies, open_branch, open_classes
from scalenet_gp.nodes.samplers.random_volume import RandomVolume
from scalenet_gp.nodes.samplers.sample_location import SampleLocation
from scalenet_gp.nodes.samplers.sampler import UniformSampler
from scalenet_gp.volumes.cellmap_files import Crop, read_class_groups, read_datasplit
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from tests.scalenet_gp.volumes.ome_zarr_files import VNC, write_multiscale

RAW, TARGET, MASK, DATA = (gp.ArrayKey(name) for name in ("RAW", "TARGET", "MASK", "DATA"))
EM, GROUNDTRUTH = "recon-1/em/fibsem-uint8", "recon-1/labels/groundtruth"

SEMANTIC = {"type": "semantic_segmentation", "encoding": {"absent": 0, "present": 1, "unknown": 255}}
INSTANCES = {"type": "instance_segmentation", "encoding": {"absent": 0, "unknown": 255}}


def row(container, classes="nuc,mito", usage="train", crop="crop234"):
    return f'"{usage}","{container}","{EM}","{container}","{GROUNDTRUTH}/{crop}/[{classes}]"\n'


def annotate(path, name, annotation_type, counts=None):
    """Write annotation metadata as cellmap-schemas demands: the type on group and array, the counts on the array."""
    for where, extra in ((path, {}), (path / "s0", {"complement_counts": counts} if counts else {})):
        file = where / ".zattrs"
        attributes = json.loads(file.read_text()) if file.exists() else {}
        annotation = {"class_name": name, "annotation_type": annotation_type, **extra}
        file.write_text(json.dumps(attributes | {"cellmap": {"annotation": annotation}}))


def write_class(crop, name, values, corner=(10.3, 7.1, 4), voxel_size=(4, 4, 4), *, kind=SEMANTIC, counts=None):
    centre = [c + v / 2 for c, v in zip(corner, voxel_size, strict=True)]
    path = write_multiscale(crop / name, [values], [voxel_size], [centre])
    if kind is not None:
        annotate(path, name, kind, counts)
    return path


@pytest.fixture
def container(tmp_path):
    """A raw volume of 64 voxels of 4 nm along each axis, and a crop of two classes at a part of a voxel in it."""
    generator = np.random.default_rng(0)
    path = tmp_path / "jrc_x.zarr"
    raw = generator.integers(0, 256, (64, 64, 64), dtype=np.uint8)
    write_multiscale(path / EM, [raw], [(4, 4, 4)], [(0, 0, 0)], chunk=32)
    crop = path / GROUNDTRUTH / "crop234"
    write_class(crop, "nuc", generator.choice([0, 1, 255], (8, 8, 8)).astype(np.uint8))
    write_class(crop, "mito", generator.choice([0, 3, 7, 255], (8, 8, 8)).astype(np.uint8), kind=INSTANCES)
    return path


@pytest.fixture
def crop(container):
    (crop,) = read_datasplit(write(container.parent / "datasplit.csv", row(container)))
    return crop


def write(path, text):
    path.write_text(text)
    return path


def batch_of(branch, shape=(32, 32, 32), grow=0, keys=(RAW, TARGET, MASK)):
    request = gp.BatchRequest()
    for key in keys:
        request[key] = gp.ArraySpec(gp.Roi(branch.annotated.begin, shape).grow((grow,) * 3, (grow,) * 3))
    with gp.build(branch.provider):
        return branch.provider.request_batch(request)


def test_a_datasplit_as_the_challenge_writes_it(tmp_path):
    path = write(
        tmp_path / "datasplit.csv",
        row("/d/x.zarr") + row("s3://bucket/y.zarr", "ecs", "validate", "crop7") + "\n"
        f'"train","/d/x.n5","{EM}","/d/x.zarr","{GROUNDTRUTH}/crop8/er"\n',
    )
    assert read_datasplit(path) == (
        Crop("train", f"/d/x.zarr/{EM}", f"/d/x.zarr/{GROUNDTRUTH}/crop234", ("nuc", "mito")),
        Crop("validate", f"s3://bucket/y.zarr/{EM}", f"s3://bucket/y.zarr/{GROUNDTRUTH}/crop7", ("ecs",)),
        Crop("train", f"/d/x.n5/{EM}", f"/d/x.zarr/{GROUNDTRUTH}/crop8", ("er",)),
    )


def test_blanks_around_fields_and_brackets_in_folders_are_read(tmp_path):
    text = (
        f'"train", "/d/x.zarr", "{EM}", "/d/x.zarr", "{GROUNDTRUTH}/[a]/crop1/[nuc, mito]"\r\n'
        f'   \n"validate", "/d/x.zarr","{EM}", "/d/x.zarr", "{GROUNDTRUTH}/crop2/er"\n'
    )
    path = write(tmp_path / "datasplit.csv", text)
    crops = read_datasplit(path)
    assert [(crop.labels, crop.classes) for crop in crops] == [
        (f"/d/x.zarr/{GROUNDTRUTH}/[a]/crop1", ("nuc", "mito")),
        (f"/d/x.zarr/{GROUNDTRUTH}/crop2", ("er",)),
    ]
    assert read_datasplit(path.as_uri()) == crops
    groups = write(tmp_path / "classes.csv", 'mito, 50, "3, 4"\nmem, 3,\n\nlum, 4, ""\n')
    assert read_class_groups(groups)["mito"] == ("mem", "lum")


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "datasplit.csv"
    path.write_bytes(row("/d/x.zarr", "nücl").encode("latin-1"))
    with pytest.raises(ValueError, match=r"datasplit\.csv: not readable as text in UTF-8"):
        read_datasplit(path)
    write(path, row("/d/x.zarr", crop="crop1") + "x" * 200_000)
    with pytest.raises(ValueError, match=r"datasplit\.csv, line 2: not readable as CSV"):
        read_datasplit(path)
    with pytest.raises(ValueError, match=r"s3://bucket/datasplit\.csv: tables are read from local files only"):
        read_datasplit("s3://bucket/datasplit.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train,/d/x.zarr,em\n", "line 2: 3 fields; they have to be 5"),
        (row("/d/x.zarr", usage="test"), "line 2: the usage 'test' has to be one of train, validate"),
        (row("/d/x.zarr", crop="crop1"), r"line 2: .*crop1 has a row already"),
        (row(""), "line 2: 2 of the fields"),
        (row("/d/y.zarr", "nuc,nuc"), "line 2: the classes of .* each to be there once"),
        (row("/d/y.zarr", ""), "line 2: the classes of .* have to have names"),
        (row("/d/y.zarr", "'nuc', 'mito'"), "line 2: the classes 'nuc', 'mito' of .* without quotes and brackets"),
        (row("/d/y.zarr", '""nuc""'), "line 2: the classes .* without quotes and brackets"),
        (row("/d/y.zarr", "nuc],er"), "line 2: the classes .* without quotes and brackets"),
        (row("/d/y.zarr").replace("]", "]/s0"), "line 2: the label dataset .* has to end in its classes"),
    ],
)
def test_a_malformed_datasplit_names_its_line(tmp_path, text, message):
    path = write(tmp_path / "datasplit.csv", row("/d/x.zarr", crop="crop1") + text)
    with pytest.raises(ValueError, match=f"datasplit.csv, {message}"):
        read_datasplit(path)
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        read_datasplit(tmp_path / "nothing.csv")


def test_groups_of_classes_are_united_down_to_single_ones(tmp_path):
    lines = 'ecs,1,""\npm,2,""\nmito_mem,3,""\nmito_lum,4,""\nmito_ribo,5,""\nmito,50,"3,4,5"\ncell,60,"2,50"\n'
    assert read_class_groups(write(tmp_path / "classes.csv", lines)) == {
        "ecs": ("ecs",),
        "pm": ("pm",),
        "mito_mem": ("mito_mem",),
        "mito_lum": ("mito_lum",),
        "mito_ribo": ("mito_ribo",),
        "mito": ("mito_mem", "mito_lum", "mito_ribo"),
        "cell": ("pm", "mito_mem", "mito_lum", "mito_ribo"),
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('mito,50,"3,4"', "line 2: mito unites the class 4, which has no line"),
        ("mito,50", "line 2: 2 fields; they have to be 3"),
        ('mito,3,""', "line 2: mito has the number 3, which is that of mito_mem"),
        ('mito_mem,4,""', "line 2: the class 'mito_mem' has a line already"),
        ('mito,fifty,""', "line 2: 'fifty' has to be the number of a class"),
        ('mito,50,"3,50"', "line 2: mito unites itself: mito > mito"),
        (',50,"3"', "line 2: a class without name"),
    ],
)
def test_malformed_groups_name_their_line(tmp_path, line, message):
    path = write(tmp_path / "classes.csv", f'mito_mem,3,""\n{line}\n')
    with pytest.raises(ValueError, match=f"classes.csv, {message}"):
        read_class_groups(path)


def test_values_mean_what_the_annotation_says(container, crop):
    labels = container / GROUNDTRUTH / "crop234"
    write_class(labels, "er", np.zeros((8, 8, 8), np.uint8), kind=None)
    write_class(labels, "ves", np.zeros((8, 8, 8), np.uint8), kind=INSTANCES, counts={"absent": 512, "unknown": 0})
    opened = open_classes(Crop("train", crop.raw, crop.labels, ("nuc", "mito", "er", "ves", "ld")))
    meanings = {name: (label.absent, label.present, label.unknown) for name, label in opened.items()}
    assert meanings == {
        "nuc": (0, 1, 255),
        "mito": (0, None, 255),
        "er": (0, None, None),  # no annotation: a mask as any other
        "ves": (0, None, None),  # nothing is unknown, so 255 is the number of an instance
        "ld": (0, None, None),
    }
    assert opened["ld"].volume is None
    assert open_classes(crop, ["er"])["er"].volume is None  # it is there, but the datasplit does not list it


def faulty(**changes):
    return {"class_name": "nuc", "annotation_type": SEMANTIC} | changes


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (faulty(class_name="mito"), "crop234/nuc: .*of the class 'mito'"),
        (faulty(annotation_type=SEMANTIC | {"encoding": {"absent": 0, "present": 0}}), "one value stands for two"),
        (faulty(annotation_type=INSTANCES | {"encoding": {"absent": 0, "present": 1}}), "of instances no single value"),
        (faulty(annotation_type=SEMANTIC | {"encoding": {"absent": 0, "maybe": 1}}), "malformed .*maybe"),
        (faulty(annotation_type=SEMANTIC | {"type": "density"}), "malformed .*annotation_type.type"),
        (faulty(complement_counts={"absent": -1}), "malformed .*complement_counts.absent"),
        (faulty(annotation_type=SEMANTIC | {"encoding": {"absent": 0, "present": 2}}), "contradicts that of s0"),
        ({"class_name": "nuc"}, "malformed .*annotation_type"),
    ],
)
def test_a_malformed_annotation_is_refused(container, crop, annotation, message):
    file = container / GROUNDTRUTH / "crop234" / "nuc" / ".zattrs"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cellmap": {"annotation": annotation}}))
    with pytest.raises(ValueError, match=message):
        open_classes(crop)


def test_a_branch_places_raw_at_labels_between_its_voxels(container, crop):
    """Targets voxel by voxel as stored; raw interpolated to them, against an independent interpolation."""
    branch = open_branch(crop, {RAW: (4, 4, 4)}, {TARGET: (4, 4, 4)}, {TARGET: MASK}, unit=1, alignment="resample")
    assert branch.annotated.shape == (32, 32, 32)
    corner = branch.world.position_in_nm(branch.annotated.begin)
    assert [float(c) for c in corner] == [10.3, 7.1, 4]
    batch = batch_of(branch)
    nuc, mito = (MultiscaleImage.open(f"{crop.labels}/{name}") for name in crop.classes)
    stored = [v.read(branch.annotated, (4, 4, 4), branch.world, labels=True)[0] for v in (nuc, mito)]
    known = [values != 255 for values in stored]
    assert np.array_equal(batch[MASK].data.astype(bool), known)
    assert np.array_equal(batch[TARGET].data, [stored[0] == 1, np.isin(stored[1], (3, 7))])
    # raw's centres are at multiples of 4 nm, those of the labels 2 nm behind their corner
    raw = MultiscaleImage.open(crop.raw)
    values = raw.read(gp.Roi((0, 0, 0), (256, 256, 256)), (4, 4, 4), raw.world())[0].astype(float)
    places = [(c + 2 + 4 * np.arange(8)) / 4 for c in (10.3, 7.1, 4)]
    for axis, place in enumerate(places):
        low, share = np.floor(place).astype(int), place - np.floor(place)
        share = share.reshape([-1 if a == axis else 1 for a in range(3)])
        values = (1 - share) * values.take(low, axis) + share * values.take(low + 1, axis)
    assert np.abs(batch[RAW].data[0] - values).max() <= 0.5 + 1e-9
    assert batch[RAW].data.dtype == np.uint8


def test_a_branch_refuses_to_shift_unless_told(crop):
    with pytest.raises(ValueError, match=r"off the lattice.*alignment='resample'"):
        open_branch(crop, {RAW: (4, 4, 4)}, {TARGET: (4, 4, 4)}, {TARGET: MASK})


def test_branches_have_no_end_and_unknown_classes_are_masked(crop):
    branch = open_branch(
        crop,
        {RAW: (8, 8, 8)},
        {TARGET: (4, 4, 4)},
        {TARGET: MASK},
        classes=["ecs", "mito"],
        alignment="resample",
        raw_masks={RAW: DATA},
    )
    batch = batch_of(branch, grow=64, keys=(RAW, TARGET, MASK, DATA))
    assert not batch[TARGET].data[0].any()
    assert not batch[MASK].data[0].any()
    assert batch[MASK].data[1].any()
    assert not batch[MASK].data[1, :16].any()
    data = batch[DATA].data[0].astype(bool)
    assert 0 < data.mean() < 1
    assert not batch[RAW].data[0][~data].any()


def test_a_group_is_united_where_it_has_no_labels_of_its_own(container):
    labels = container / GROUNDTRUTH / "crop9"
    shape = (2, 2, 2)
    membrane, lumen = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    membrane[0], lumen[1, 0], lumen[1, 1, 0] = 1, 1, 255
    write_class(labels, "mito_mem", membrane)
    write_class(labels, "mito_lum", lumen)
    groups = {name: (name,) for name in ("mito_mem", "mito_lum", "er")} | {"mito": ("mito_mem", "mito_lum")}

    def united(listed):
        crop = Crop("train", str(container / EM), str(labels), tuple(listed))
        branch = open_branch(
            crop,
            {RAW: (4, 4, 4)},
            {TARGET: (4, 4, 4)},
            {TARGET: MASK},
            classes=["mito", "er"],
            groups=groups,
            alignment="resample",
        )
        batch = batch_of(branch, (8, 8, 8))
        assert not batch[MASK].data[1].any()
        return batch[TARGET].data[0], batch[MASK].data[0]

    target, mask = united(["mito_mem", "mito_lum"])
    assert np.array_equal(target, (membrane == 1) | (lumen == 1))
    assert np.array_equal(mask, (membrane == 1) | (lumen != 255))
    target, mask = united(["mito_mem"])  # nothing is known of the lumen: absence cannot be
    assert np.array_equal(target, membrane)
    assert np.array_equal(mask, membrane)
    whole = np.ones(shape, np.uint8)
    write_class(labels, "mito", whole, kind=INSTANCES)
    target, mask = united(["mito_mem", "mito"])  # its own labels go before those of its parts
    assert np.array_equal(target, whole)
    assert np.array_equal(mask, whole)
    crop = Crop("train", str(container / EM), str(labels), ("mito",))
    with pytest.raises(KeyError, match="the class groups have no mitoo; they have mito_mem"):
        open_branch(crop, {RAW: (4, 4, 4)}, {TARGET: (4, 4, 4)}, {}, classes=["mitoo"], groups=groups)


def test_what_is_missing_is_named(container, crop):
    def branch(**changes):
        fields = {"usage": "train", "raw": crop.raw, "labels": crop.labels, "classes": crop.classes} | changes
        open_branch(Crop(**fields), {RAW: (4, 4, 4)}, {TARGET: (4, 4, 4)}, {TARGET: MASK}, alignment="resample")

    with pytest.raises(FileNotFoundError, match=r"crop234: its raw volume is missing: .*nothing\.zarr"):
        branch(raw=str(container.parent / "nothing.zarr" / EM))
    with pytest.raises(FileNotFoundError, match=r"crop5: no such crop; it should hold nuc, mito"):
        branch(labels=f"{container}/{GROUNDTRUTH}/crop5")
    with pytest.raises(ValueError, match=r"crop234: no labels of ecs, pm; the datasplit has ecs, pm"):
        branch(classes=("ecs", "pm"))


@pytest.mark.parametrize(("corner", "overlaps"), [(253.5, True), (254, False), (300, False), (-34, False)])
def test_labels_outside_the_raw_volume_are_refused(container, corner, overlaps):
    """Raw ends at 254 nm, behind the last centre, 252; it begins at -2, where the labels, 32 nm long, may just end."""
    labels = container / GROUNDTRUTH / "crop9"
    write_class(labels, "nuc", np.ones((8, 8, 8), np.uint8), corner=(0, corner, 0))
    crop = Crop("train", str(container / EM), str(labels), ("nuc",))

    def branch():
        return open_branch(crop, {RAW: (4, 4, 4)}, {TARGET: (4, 4, 4)}, {TARGET: MASK}, alignment="resample")

    if overlaps:
        assert branch().annotated.shape == (32, 32, 32)
        return
    with pytest.raises(ValueError, match=r"crop9: the labels lie outside the raw volume") as fault:
        branch()
    assert f"from (0, {corner}, 0) to (32, {corner + 32}, 32) nm" in str(fault.value)
    assert "from (-2, -2, -2) to (254, 254, 254) nm" in str(fault.value)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def end_headers(self):
        self.send_header("ETag", '"1"')  # S3 answers with one
        super().end_headers()


def test_a_crop_behind_a_url_needs_no_metadata_of_its_own(container):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=container)) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{served.server_address[1]}/{GROUNDTRUTH}"
        try:
            opened = open_classes(Crop("train", "", f"{url}/crop234", ("er", "mito")), ["er", "mito"])
            assert opened["er"].volume is None
            assert opened["mito"].volume.levels[0].shape == (8, 8, 8)
            with pytest.raises(FileNotFoundError, match=r"crop5: no such crop; it should hold er, mito"):
                open_classes(Crop("train", "", f"{url}/crop5", ("er", "mito")))
        finally:
            served.shutdown()
            thread.join()


@pytest.mark.parametrize("counts", [{"unknown": 16}, {"absent": 32}])
def test_counts_that_leave_a_value_out_are_counted(container, counts):
    labels = container / GROUNDTRUTH / "crop1"
    values = np.zeros((4, 4, 4), np.uint8)
    values[0], values[3] = 1, 255
    write_class(labels, "mito", values, counts=counts)
    assert class_frequencies([Crop("train", "", str(labels), ("mito",))]) == {"mito": pytest.approx(16 / 48)}


def test_frequencies_are_of_the_known_volume(container):
    """Two crops of different voxel size, one with stored counts, against plain arithmetic."""
    labels = container / GROUNDTRUTH
    first = np.zeros((4, 4, 4), np.uint8)
    first[0], first[3] = 1, 255
    write_class(labels / "crop1", "mito", first, counts={"absent": 32, "unknown": 16})
    second = np.zeros((2, 2, 2), np.uint8)
    second[0, 0] = 1
    write_class(labels / "crop2", "mito", second, voxel_size=(8, 8, 5.24))
    write_class(labels / "crop2", "nuc", np.full((2, 2, 2), 255, np.uint8))
    crops = [Crop("train", "", str(labels / name), ("mito", "nuc", "er")) for name in ("crop1", "crop2")]
    voxel = 8 * 8 * 5.24
    assert class_frequencies(crops) == {"mito": pytest.approx((16 * 64 + 2 * voxel) / (48 * 64 + 8 * voxel))}
    write_class(labels / "crop3", "mito", first, counts={"absent": 60, "unknown": 16})
    with pytest.raises(ValueError, match="of only 64 voxels"):
        class_frequencies([Crop("train", "", str(labels / "crop3"), ("mito",))])


def test_stated_counts_are_checked_against_the_voxels(container):
    labels = container / GROUNDTRUTH / "crop1"
    values = np.random.default_rng(4).choice([0, 1, 2, 255], (70, 4, 4)).astype(np.uint8)
    counts = Counter(values.ravel().tolist())
    # a value without meaning is unknown
    right = {"absent": counts[0], "unknown": counts[255] + counts[2]}
    write_class(labels, "nuc", values, counts=right)
    write_class(labels, "mito", values, kind=INSTANCES, counts={"absent": counts[0], "unknown": counts[255]})
    crop = Crop("train", "", str(labels), ("nuc", "mito", "er"))
    check_counts(crop)
    write_class(labels, "ld", values, counts={"absent": counts[0] - 1})
    with pytest.raises(ValueError, match=rf"crop1/ld: complement_counts state .*the voxels are .*{counts[0]}") as fault:
        check_counts(Crop("train", "", str(labels), ("nuc", "ld")))
    assert "nuc" not in str(fault.value)


def test_crops_are_branches_of_one_pipeline(container, crop):
    """Raw data and targets of a batch are those of the location that is recorded with it."""
    labels = container / GROUNDTRUTH / "crop9"
    for name in ("mito", "nuc"):
        write_class(labels, name, np.ones((8, 8, 8), np.uint8), corner=(57.7, 60.2, 61))
    sizes = {RAW: (4, 4, 4)}, {TARGET: (4, 4, 4)}, {TARGET: MASK}
    branches = {
        each.labels: open_branch(each, *sizes, classes=["mito", "nuc"], alignment="resample")
        for each in (crop, Crop("train", crop.raw, str(labels), ("mito", "nuc")))
    }
    assert {branch.world.unit for branch in branches.values()} == {1}
    pipeline = tuple(
        branch.provider + SampleLocation(TARGET, UniformSampler(branch.annotated)) for branch in branches.values()
    ) + RandomVolume({name: branch.annotated.size for name, branch in branches.items()})
    raw = MultiscaleImage.open(crop.raw, alignment="resample")
    drawn = set()
    with gp.build(pipeline):
        for seed in range(1, 11):
            request = gp.BatchRequest(random_seed=seed)
            request[RAW] = gp.ArraySpec(gp.Roi((-8, -8, -8), (32, 32, 32)))
            request[TARGET] = gp.ArraySpec(gp.Roi((0, 0, 0), (16, 16, 16)))
            batch = pipeline.request_batch(request)
            record = json.loads(batch[TARGET].attrs["location"])
            branch = branches[record["volume"]]
            drawn.add(record["volume"])
            place = gp.Roi(record["begin"], (16, 16, 16))
            around = place.grow((8, 8, 8), (8, 8, 8))
            expected = raw.read(around, (4, 4, 4), branch.world, padding="constant")
            assert np.array_equal(batch[RAW].data, expected)
            for channel, label in zip(batch[TARGET].data, branch.classes.values(), strict=True):
                values = label.volume.read(place, (4, 4, 4), branch.world, labels=True)
                assert np.array_equal(channel, label.read(values)[0][0])
    assert drawn == set(branches)


@pytest.mark.skipif(not VNC.exists(), reason="the real data are not here")
def test_the_real_crop_lies_in_its_raw(tmp_path):
    """The metadata name its corner, 128 voxels down and 96 along; annotations are not needed to find it."""
    classes = ("mito", "synapse", "membrane", "glia")
    line = f'"train","{VNC}","recon-1/em/tem-uint8","{VNC}","{GROUNDTRUTH}/crop1/[{",".join(classes)}]"\n'
    (crop,) = read_datasplit(write(tmp_path / "datasplit.csv", line))
    sizes = {RAW: (500, 46, 46)}, {TARGET: (500, 46, 46)}, {TARGET: MASK}
    branch = open_branch(crop, *sizes, unit="1/10")
    assert [float(x) for x in branch.world.position_in_nm(branch.annotated.begin)] == [-25, 586.5, 439.3]
    assert branch.annotated.shape == (14 * 500, 768 * 46, 896 * 46)
    batch = batch_of(branch, (1000, 46 * 64, 46 * 64))
    raw = MultiscaleImage.open(crop.raw)
    world = raw.world()
    size = world.size((50, 4.6, 4.6))
    corner = gp.Roi(gp.Coordinate(0, 128, 96) * size, gp.Coordinate(2, 64, 64) * size)
    assert np.array_equal(batch[RAW].data, raw.read(corner, size, world))
    mito = MultiscaleImage.open(f"{crop.labels}/mito")
    own = mito.world()
    assert np.array_equal(
        batch[TARGET].data[0],
        mito.read(gp.Roi(mito.roi(size, own).begin, corner.shape), size, own, labels=True)[0] > 0,
    )
    assert batch[MASK].data.all()
    frequencies = class_frequencies([crop])
    assert set(frequencies) == set(classes)
    everything = mito.read(mito.roi(size, own), size, own, labels=True)
    assert frequencies["mito"] == pytest.approx((everything > 0).mean())
    check_counts(crop)  # nothing is stated
