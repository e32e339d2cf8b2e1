"""Segmentation in blocks equals that of scipy in one piece, id by id; and its table, its faults and its command."""

import csv
import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError, Workers
from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.measuring import measure
from scalenet_gp.pipelines.segmentation import LookupTables, objects_path, segment
from scalenet_gp.pipelines.segmentation.fragments import Fragments
from scalenet_gp.pipelines.viewing.view_job import viewer_state
from scalenet_gp.segmentation import WatershedOptions, find_objects, look_up
from scalenet_gp.volumes import MultiscaleImage, group_attributes
from tests.pipelines.conftest import CORNER, VOXEL, files_below, tiny_config, write_config
from tests.pipelines.segmentation.predictions import (
    RAW_CORNER,
    ids_in,
    random_predictions,
    segmenting,
    write_predicted,
)
from tests.scalenet_gp.segmentation.test_components import closed, neighbours, numbered, opened

CHUNKS = Workers(memory=6 * 32 * 8**3)
"""This process, in blocks of 8³ voxels."""

VOLUME = VOXEL**3


def in_one_piece(mask, options):
    """The objects of a mask, by scipy."""
    connectivity = options.get("connectivity", 26)
    if "closing" in options:
        mask = closed(mask, Fraction(options["closing"]), (Fraction(VOXEL),) * mask.ndim)
    if "holes" in options:
        background, _ = ndimage.label(~mask, neighbours(mask.ndim, 26 if connectivity == 6 else 6))
        border = np.ones(mask.shape, bool)
        border[(slice(1, -1),) * mask.ndim] = False
        voxels = np.bincount(background.ravel())
        hole = voxels * VOLUME <= options["holes"]
        hole[np.unique(background[border])] = False
        hole[0] = False
        mask = mask | hole[background]
    if "opening" in options:
        mask = opened(mask, Fraction(options["opening"]), (Fraction(VOXEL),) * mask.ndim)
    labels, _ = ndimage.label(mask, neighbours(mask.ndim, connectivity))
    large = np.bincount(labels.ravel()) * VOLUME >= options.get("smallest", 0)
    return numbered(np.where(large[labels], labels, 0))


@pytest.mark.parametrize(
    "options",
    [
        {"connectivity": 26, "holes": 5 * VOLUME, "opening": 4.5, "smallest": 9.5 * VOLUME},
        {"connectivity": 6, "closing": 4.5, "holes": 5 * VOLUME, "smallest": 2 * VOLUME},
    ],
)
def test_blocks_have_the_objects_of_one_piece(tmp_path, options):
    values = random_predictions(1)
    predicted = write_predicted(tmp_path / "prediction.zarr", {"1_output": values})
    config, workers = segmenting(threshold=0.55, **options), Workers(memory=6 * 32 * 12**3)
    made = segment(config, predicted, tmp_path / "out.zarr", classes=["dark"], workers=workers)
    stored = np.rint(values[1] * 255).astype(np.float32) * np.float32(1 / 255)
    expected = in_one_piece(stored >= np.float32(0.55), options)
    assert expected.max() > 1
    np.testing.assert_array_equal(ids_in(made / "dark"), expected)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    values = random_predictions(7)
    coarse = values.reshape(2, 7, 2, 6, 2, 5, 2).mean(axis=(2, 4, 6))
    folder = tmp_path_factory.mktemp("predicted")
    return write_predicted(folder / "prediction.zarr", {"0_output": coarse, "1_output": values}, stored="float32")


@pytest.fixture(scope="module")
def whole(predicted, tmp_path_factory):
    """The segmentation in one block."""
    return segment(segmenting(holes=1e9), predicted, tmp_path_factory.mktemp("whole") / "out.zarr")


def files(folder):
    return {
        name: (folder / name).read_bytes()
        for name in files_below(folder)
        if (folder / name).is_file() and name != ".zattrs"
    }


def test_objects_that_only_touch_are_not_joined(tmp_path):
    """Two cuboids whose corners meet in the point where eight blocks do."""
    values = np.zeros((2, 16, 16, 16))
    values[0, 4:8, 4:8, 4:8] = values[0, 8:12, 8:12, 8:12] = 1
    values[1, 4:8, 4:8, 4:8] = values[1, 8:12, 8:12, 4:8] = 1
    predicted = write_predicted(tmp_path / "prediction.zarr", {"1_output": values})
    found = {}
    for connectivity, classes in ((6, ["dark"]), (18, []), (26, ["bright"])):
        config, output = segmenting(connectivity=connectivity), tmp_path / f"{connectivity}.zarr"
        made = segment(config, predicted, output, classes=classes, workers=CHUNKS)
        found[connectivity] = {name: numbers["objects"] for name, numbers in group_attributes(made)["objects"].items()}
    assert found == {6: {"dark": 2}, 18: {"bright": 2, "dark": 1}, 26: {"bright": 1}}


def test_a_watershed_is_that_of_one_piece(tmp_path):
    values = random_predictions(7, (30, 10, 10)).astype(np.float32)
    predicted = write_predicted(tmp_path / "prediction.zarr", {"1_output": values}, stored="float32")
    options = {"depth": 2, "reach": 3 * VOXEL, "smallest": 3 * VOLUME}
    config = segmenting(kind="watershed", threshold=0.4, **options)
    made = segment(config, predicted, tmp_path / "out.zarr", classes=["dark"], workers=Workers(memory=700_000))
    assert group_attributes(made)["job"]["classes"]["dark"]["block"] == [8, 8, 8]
    expected = find_objects(values[1] >= np.float32(0.4), (Fraction(VOXEL),) * 3, WatershedOptions(**options))
    assert expected.max() > 2
    np.testing.assert_array_equal(ids_in(made / "dark"), expected)
    with pytest.raises(ValueError, match=r"margin of \(4, 4, 4\) voxels, by segmentation.classes.dark"):
        segment(config, predicted, tmp_path / "small.zarr", classes=["dark"], workers=Workers(memory=500_000))


@pytest.mark.parametrize("options", [{"kind": "components"}, {"kind": "watershed", "depth": 2, "reach": 3 * VOXEL}])
def test_fragments_are_kept_with_the_table_of_their_objects(predicted, tmp_path, options):
    config = segmenting(**options, smallest=3 * VOLUME, keep_fragments=True)
    made = segment(config, predicted, tmp_path / "out.zarr", classes=["dark"], workers=Workers(memory=700_000))
    assert sorted(path.name for path in made.iterdir() if path.is_dir()) == ["dark", "dark_fragments"]
    tables = LookupTables.read(made / "dark_fragments")
    fragments, objects = ids_in(made / "dark_fragments"), ids_in(made / "dark")
    assert tables.thresholds == (0.5,)
    assert len(tables.fragments) == len(np.unique(fragments[fragments > 0])) > objects.max()
    np.testing.assert_array_equal(look_up(fragments, tables.fragments, tables.objects[0]), objects)
    layers = viewer_state(made, "http://here")["layers"]
    assert [layer["name"] for layer in layers] == ["dark", "dark_fragments"]
    assert layers[1]["equivalences"]
    record = json.loads((measure(made, tmp_path / "measures") / "measures.json").read_text())
    assert record["objects"].keys() == {"dark"}  # the objects, not the fragments


def test_the_table_has_what_is_counted_by_hand(predicted, whole):
    values = random_predictions(7).astype(np.float32)
    rows = list(csv.DictReader(objects_path(whole).read_text().splitlines()))
    assert list(rows[0]) == [
        *("id", "class", "volume_nm3", "voxels"),
        *(f"{name}_{axis}_nm" for name in ("begin", "end", "centroid") for axis in "zyx"),
        "mean_probability",
    ]
    for index, name in enumerate(("bright", "dark")):
        ids, of_class = ids_in(whole / name), [row for row in rows if row["class"] == name]
        assert [int(row["id"]) for row in of_class] == list(range(1, ids.max() + 1))
        for row in of_class[::7]:
            where = np.argwhere(ids == int(row["id"]))
            assert int(row["voxels"]) == len(where)
            assert float(row["volume_nm3"]) == pytest.approx(len(where) * VOLUME)
            expected = np.concatenate([where.min(axis=0), where.max(axis=0) + 1, where.mean(axis=0) + 0.5])
            numbers = [float(value) for value in list(row.values())[4:]]
            np.testing.assert_allclose(numbers[:9], expected * VOXEL + CORNER, atol=1e-6)
            assert numbers[9] == pytest.approx(values[index][ids == int(row["id"])].mean(), rel=1e-5)
        numbers = group_attributes(whole)["objects"][name]
        voxels = [int(row["voxels"]) for row in of_class]
        assert numbers["objects"] == len(voxels)
        assert numbers["voxels"] == sum(voxels)
        assert numbers["median_volume"] == pytest.approx(np.median(voxels) * VOLUME)


def test_a_segmentation_resumes_to_the_same_bytes(predicted, whole, tmp_path, monkeypatch):
    output, config = tmp_path / "out.zarr", segmenting(holes=1e9)
    write, done = Fragments.write, []

    def fails(self, roi, labels, rows):
        if len(done) == 5:
            raise OSError("the disk is gone")
        done.append(roi)
        write(self, roi, labels, rows)

    monkeypatch.setattr(Fragments, "write", fails)
    with pytest.raises(UnfinishedBlocksError, match=r"bright background of .* nm: the disk is gone"):
        segment(config, predicted, output, workers=CHUNKS)
    assert files_below(tmp_path)[0] == "out.zarr.partial"
    monkeypatch.undo()
    with pytest.raises(
        ValueError, match=r"out.zarr.partial is unfinished work of another kind.*options.holes: 1000000000 and"
    ):
        segment(segmenting(holes=10), predicted, output, workers=CHUNKS)
    other = write_predicted(tmp_path / "other.zarr", {"1_output": random_predictions(8)}, network="b" * 64)
    with pytest.raises(ValueError, match=r"unfinished work of another kind.*networks: .*source.voxels"):
        segment(config, other, output, workers=CHUNKS)
    moved = shutil.copytree(predicted, tmp_path / "moved.zarr")
    segment(config, moved, output)
    assert files(output) == files(whole)
    assert objects_path(output).read_bytes() == objects_path(whole).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved.zarr", "other.zarr", "out.csv", "out.zarr"]
    with pytest.raises(FileExistsError, match=r"out.zarr exists"):
        segment(config, predicted, output)
    shutil.rmtree(output)
    with pytest.raises(FileExistsError, match=r"out.csv exists"):
        segment(config, predicted, output)


def test_a_volume_of_objects_is_a_pyramid_of_labels_at_its_place(predicted, whole):
    assert json.loads((whole / "bright" / ".zattrs").read_text())["scalenet_gp"]["values"]["kind"] == "labels"
    image = MultiscaleImage.open(whole / "bright")
    assert image.levels[0] == MultiscaleImage.open(predicted / "1_output").levels[0]
    assert image.dtype == np.min_scalar_type(int(ids_in(whole / "bright").max()))
    layers = viewer_state(whole, "http://here")["layers"]
    assert [(layer["type"], layer["name"]) for layer in layers] == [
        ("segmentation", "bright"),
        ("segmentation", "dark"),
    ]
    job = group_attributes(whole)["job"]
    assert job["classes"]["bright"]["options"]["threshold"] == 0.5
    assert job["networks"] == ["a" * 64]


def test_a_prediction_without_classes_is_told_apart(tmp_path):
    targets = {"*": {"kind": "affinities", "labels": "cells", "offsets": [[1, 0, 0], [0, 1, 0]]}}
    config = tiny_config(training__targets=targets)
    channels = config.training.targets["*"].channels(config.data)
    values = random_predictions(3)
    predicted = write_predicted(tmp_path / "prediction.zarr", {"1_output": values}, classes=channels)
    with pytest.raises(ValueError, match=r"and predicted are no classes, but affinities in 1_output"):
        segment(config, predicted, tmp_path / "out.zarr")


def test_a_region_counts_from_the_raw_volume(predicted, tmp_path):
    begin = (CORNER - RAW_CORNER) / VOXEL  # of the prediction, in voxels of the raw volume
    box = Region.create(begin=[4 * VOXEL - 1, None, 0 + begin * VOXEL], end=[12 * VOXEL + 4, None, 9 * VOXEL])
    made = segment(segmenting(), predicted, tmp_path / "part.zarr", box, classes=["bright"])
    part = random_predictions(7)[0].astype(np.float32)[2:10, :, 0:7]
    np.testing.assert_array_equal(ids_in(made / "bright"), in_one_piece(part >= 0.5, {}))
    assert float(MultiscaleImage.open(made / "bright").levels[0].begin[0]) == CORNER + 2 * VOXEL
    far = Region.create(begin=[0, None, None], end=[20, None, None])
    with pytest.raises(ValueError, match=r"reaches beyond .*1_output, which covers \[9, 9, 9\] to \[72, 63, 54\] nm"):
        segment(segmenting(), predicted, tmp_path / "far.zarr", far)
    thin = Region.create(begin=[10, None, None], end=[12, None, None])
    with pytest.raises(ValueError, match=r"holds no whole voxel"):
        segment(segmenting(), predicted, tmp_path / "thin.zarr", thin)


def test_exclusive_classes_are_decided_as_in_the_evaluation(tmp_path):
    values = random_predictions(3)[[0, 1, 0]]
    values[0] = random_predictions(4)[0]
    predicted = write_predicted(
        tmp_path / "prediction.zarr", {"1_output": values}, classes=("background", "bright", "dark"), stored="float32"
    )
    targets = {"*": {"kind": "classes", "exclusive": True}}
    made = segment(tiny_config(training__targets=targets), predicted, tmp_path / "out.zarr")
    best = values.astype(np.float32).argmax(axis=0)
    for channel, name in ((1, "bright"), (2, "dark")):
        np.testing.assert_array_equal(ids_in(made / name), in_one_piece(best == channel, {}))
    config = tiny_config(training__targets=targets, segmentation={"classes": {"dark": {"threshold": 0.4}}})
    with pytest.raises(ValueError, match=r"segmentation.classes: dark has the threshold 0.4.*exclude each other"):
        segment(config, predicted, tmp_path / "other.zarr")


def test_distances_are_decided_at_the_boundary(tmp_path):
    values = random_predictions(3) * 2 - 1
    path = tmp_path / "prediction.zarr"
    predicted = write_predicted(path, {"1_output": values}, stored="float32", kind="quantities")
    config = tiny_config(training__targets={"*": {"kind": "boundary_distance", "maximum": 20}})
    made = segment(config, predicted, tmp_path / "out.zarr")
    np.testing.assert_array_equal(
        ids_in(made / "dark"), in_one_piece((values[1].astype(np.float32) + 1) / 2 >= 0.5, {})
    )


@pytest.mark.parametrize(
    ("changes", "arguments", "error"),
    [
        ({"segmentation": {"classes": {"brigt": {}}}}, {}, r"segmentation.classes.brigt is of no class.*bright"),
        ({"segmentation": {"classes": {"bright": {}}}}, {"classes": ["dark"]}, r"no class 'dark' to segment.*bright"),
        ({"segmentation": {"classes": {"*": {"kind": "watershed"}}}}, {}, r"segmentation.classes.\*.depth is missing"),
        (
            {"segmentation": {"classes": {"*": {"kind": "wateshed"}}}},
            {},
            r"segmentation.classes.\*.*wateshed.*watershed",
        ),
        ({"data__classes": ["bright"]}, {}, r"1_output holds bright, dark; the config has bright|0_output holds"),
        ({}, {"workers": Workers(memory=1000)}, r"too little for a chunk of \(8, 8, 8\) voxels"),
    ],
)
def test_errors_come_before_anything_is_made(predicted, tmp_path, changes, arguments, error):
    file = write_config(tmp_path / "run.yaml", **changes)
    with pytest.raises(ValueError, match=error):
        segment(Config.read(file), predicted, tmp_path / "out.zarr", **arguments)
    assert list(tmp_path.iterdir()) == [file]


def test_places_without_prediction_are_named(tmp_path):
    (tmp_path / "half.zarr.partial").mkdir()
    for name, error in (("none", "predict first"), ("half", "it is unfinished, in .*half.zarr.partial")):
        with pytest.raises(FileNotFoundError, match=rf"there is no prediction .*{name}.zarr; {error}"):
            segment(segmenting(), tmp_path / f"{name}.zarr", tmp_path / "out.zarr")
    (tmp_path / "other.zarr").mkdir()
    with pytest.raises(ValueError, match=r"other.zarr is not what scalenet-gp predict makes"):
        segment(segmenting(), tmp_path / "other.zarr", tmp_path / "out.zarr")
    write_predicted(tmp_path / "other.zarr" / "first", {"1_output": random_predictions(1)})
    with pytest.raises(ValueError, match=r"predictions below it: first; name one of them"):
        segment(segmenting(), tmp_path / "other.zarr", tmp_path / "out.zarr")


def test_the_command_prints_a_table(predicted, tmp_path):
    config = write_config(tmp_path / "run.yaml")
    command = ["segment", config, "--prediction", predicted, "--output", tmp_path / "cells.zarr"]
    result = CliRunner().invoke(app, [*map(str, command), "--set", "segmentation.classes.bright.smallest=1e4"])
    assert result.exit_code == 0, result.output
    count = group_attributes(tmp_path / "cells.zarr")["objects"]["bright"]["objects"]
    (row,) = [line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["bright"]]
    assert row[1] == str(count)
    assert row[-1] == "µm³"
    assert result.stdout.splitlines()[-1] == f"table of objects    {tmp_path / 'cells.csv'}"
    assert CliRunner().invoke(app, ["segment", str(config)]).exit_code == 1


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_workers_segment_the_same(predicted, tmp_path):
    made = segment(
        segmenting(), predicted, tmp_path / "out.zarr", classes=["dark"], workers=Workers(count=2, memory=CHUNKS.memory)
    )
    alone = segment(segmenting(), predicted, tmp_path / "alone.zarr", classes=["dark"])
    assert files(made) == files(alone)
    assert objects_path(made).read_bytes() == objects_path(alone).read_bytes()
