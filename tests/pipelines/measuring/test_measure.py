"""Measures of volumes on the disk against counting by hand; their faults, and their command."""

import csv
import json

import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError, Workers
from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.measuring import measure, task
from scalenet_gp.volumes import ImageLayout, MultiscaleArrayWriter, create_image
from tests.pipelines.conftest import files_below, write_array

SIZE, CORNER = (10, "4.5", "4.5"), (100, 0, "-2.25")
SHAPE = (9, 20, 24)
LARGE = 2**40
BLOCKS = Workers(memory=6 * 60 * 9 * 10 * 12)
"""This process, in blocks of no more voxels than a chunk of such volumes."""


def write(path, array, size=SIZE, corner=CORNER, kind="labels", channels=(), stored=None):
    create_image(
        path, ImageLayout(size, corner, array.shape[-3:], channels, stored or array.dtype.name, kind, 1, (8, 8, 8))
    )
    MultiscaleArrayWriter.open(path).write((0, 0, 0), array)
    return path


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Mitochondria in two cells that touch, cells at twice the voxel size, raw data and a prediction."""
    folder = tmp_path_factory.mktemp("measured")
    rng = np.random.default_rng(0)
    mito = np.zeros(SHAPE, np.uint64)
    mito[2:6, 3:9, 4:10], mito[2:6, 9:13, 4:10], mito[7:, 14:, 20:] = LARGE, LARGE + 1, 7
    cell = np.zeros((SHAPE[0], 10, 12), np.uint8)
    cell[:, :, :4], cell[:, :, 4:9] = 1, 2
    write(folder / "seg.zarr" / "mito", mito)
    write(folder / "seg.zarr" / "cell", cell, size=(10, 9, 9))
    raw = rng.integers(0, 256, SHAPE, np.uint8)
    write(folder / "raw.zarr", raw, kind="quantities")
    predicted = rng.random((2, *SHAPE)).astype(np.float32)
    write(folder / "prediction.zarr" / "1_output", predicted, kind="fractions", channels=("er", "mito"), stored="uint8")
    (folder / "seg.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / "prediction.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    return folder, mito, np.repeat(np.repeat(cell, 2, axis=1), 2, axis=2), raw, predicted[1]


def everything(folder):
    return {
        "raw": folder / "raw.zarr",
        "confidence": folder / "prediction.zarr",
        "parents": "cell",
    }


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def measured(volumes, tmp_path_factory):
    """The measures in one block for each class."""
    folder = volumes[0]
    return measure(folder / "seg.zarr", tmp_path_factory.mktemp("tables") / "measures", **everything(folder))


def test_the_table_has_what_is_counted_by_hand(volumes, measured):
    _, mito, cell, raw, predicted = volumes
    rows = [row for row in rows_of(measured / "objects.csv") if row["class"] == "mito"]
    assert [int(row["id"]) for row in rows] == [7, LARGE, LARGE + 1]
    size, corner = np.array(SIZE, float), np.array(CORNER, float)
    stored = np.rint(predicted * 255) / 255
    for row in rows:
        mask = mito == int(row["id"])
        where = np.argwhere(mask)
        assert int(row["voxels"]) == len(where)
        assert float(row["volume_nm3"]) == pytest.approx(len(where) * size.prod())
        for name, expected in (
            ("begin", where.min(axis=0)),
            ("end", where.max(axis=0) + 1),
            ("centroid", where.mean(axis=0) + 0.5),
        ):
            found = [float(row[f"{name}_{axis}_nm"]) for axis in "zyx"]
            np.testing.assert_allclose(found, expected * size + corner)
        assert float(row["mean_raw"]) == pytest.approx(raw[mask].mean())
        assert float(row["mean_confidence"]) == pytest.approx(stored[mask].mean(), abs=1e-6)
        overlaps = np.bincount(cell[mask], minlength=3)
        overlaps[0] = 0
        assert int(row["parent"]) == (overlaps.argmax() if overlaps.any() else 0)
        assert float(row["parent_share"]) == pytest.approx(overlaps.max() / len(where))
    box = rows[1]  # 4 x 6 x 6 voxels
    assert [float(box[f"axis_{rank}_nm"]) for rank in (1, 2, 3)] == pytest.approx(
        sorted((np.array([4, 6, 6]) * size * np.sqrt(5 / 3)).tolist(), reverse=True)
    )
    assert float(box["faces_nm2"]) == pytest.approx(2 * 36 * 4.5**2 + 4 * 24 * 45)
    assert float(box["cut_nm2"]) == 0
    assert float(rows[0]["cut_nm2"]) == pytest.approx(6 * 4 * 4.5**2 + 2 * 4 * 45 + 2 * 6 * 45)
    assert [row["contacts"] for row in rows] == ["0", "1", "1"]
    touching = rows_of(measured / "contacts.csv")
    assert [(row["class"], row["id"], row["other"]) for row in touching] == [
        ("cell", "1", "2"),
        ("mito", str(LARGE), str(LARGE + 1)),
    ]
    assert float(touching[1]["faces_nm2"]) == pytest.approx(24 * 45)
    assert 0.7 * 24 * 45 < float(touching[1]["area_nm2"]) < 1.1 * 24 * 45


def test_parquet_has_the_same_columns(measured):
    for name in ("objects", "contacts"):
        table = parquet.read_table(measured / f"{name}.parquet").to_pydict()
        rows = rows_of(measured / f"{name}.csv")
        assert list(table) == list(rows[0])
        for column, values in table.items():
            read = [row[column] for row in rows]
            if isinstance(values[-1], float):
                numbers = [float(value) if value else np.nan for value in read]
                np.testing.assert_allclose(numbers, np.array(values, float), rtol=1e-9)
            else:
                assert read == ["" if value is None else str(value) for value in values]


def test_a_measurement_in_blocks_resumes_to_the_same_bytes(volumes, measured, tmp_path, monkeypatch):
    folder, output = volumes[0], tmp_path / "measures"
    found, count = task.count_overlaps, []

    def fails(ids, parents):
        count.append(1)
        if len(count) > 2:
            raise OSError("the disk is gone")
        return found(ids, parents)

    monkeypatch.setattr(task, "count_overlaps", fails)
    monkeypatch.setattr("scalenet_gp.pipelines.measuring.measure_job._CHUNK", 6)
    with pytest.raises(UnfinishedBlocksError, match=r"mito objects in .* nm: the disk is gone"):
        measure(folder / "seg.zarr", output, **everything(folder), workers=BLOCKS)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"measures.partial is unfinished work of another kind.*parents"):
        measure(folder / "seg.zarr", output, raw=folder / "raw.zarr", confidence=folder / "prediction.zarr")
    measure(folder / "seg.zarr", output, **everything(folder))
    for name in ("objects.csv", "contacts.csv"):
        assert (output / name).read_bytes() == (measured / name).read_bytes()
    blocks = [part["block"] for part in json.loads((output / "measures.json").read_text())["job"]["classes"].values()]
    assert blocks == [[12, 12, 6], [12, 12, 6]]
    assert [path.name for path in tmp_path.iterdir()] == ["measures"]
    with pytest.raises(FileExistsError, match="measures exists"):
        measure(folder / "seg.zarr", output)


def test_a_plane_has_areas_and_perimeters(tmp_path):
    ids = np.zeros((12, 14), np.uint16)
    ids[2:6, 3:8], ids[6:9, 3:8] = 4, 5
    made = measure(write_array(tmp_path / "plane.zarr", ids, voxel=5, labels=True, levels=1), tmp_path / "out")
    one, other = rows_of(made / "objects.csv")
    assert (one["class"], one["area_nm2"], one["faces_nm"], one["cut_nm"]) == ("plane", "500", "90", "0")
    assert {"axis_2_y", "centroid_x_nm"} <= one.keys()
    assert not {"axis_3_nm", "centroid_z_nm"} & one.keys()
    assert (other["contacts"], rows_of(made / "contacts.csv")[0]["faces_nm"]) == ("1", "25")


def test_a_volume_without_objects_has_empty_tables(tmp_path):
    made = measure(write(tmp_path / "none.zarr", np.zeros(SHAPE, np.uint8)), tmp_path / "out")
    assert rows_of(made / "objects.csv") == rows_of(made / "contacts.csv") == []
    result = CliRunner().invoke(app, ["measure", str(tmp_path / "none.zarr"), "--output", str(tmp_path / "again")])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"classes": ["mitos"]}, "there is no class 'mitos'; .*mito"),
        ({"parents": "cells"}, "cells"),
        ({"confidence": "seg.zarr"}, "--confidence .*seg.zarr: there is no prediction of .*; there are no channels"),
        (
            {"confidence": "prediction.zarr", "classes": ["cell"]},
            "--confidence .*prediction.zarr: there is no prediction of cell; there are er, mito",
        ),
        ({"raw": "prediction.zarr/1_output"}, "has 2 channels, of which one can be read"),
        ({"raw": "small.zarr"}, "--raw .*small.zarr covers 100 × 0 × -2.25 to .* nm, not all of"),
        ({"raw": "coarse.zarr"}, "--raw .*coarse.zarr: no level is as fine as"),
    ],
)
def test_errors_come_before_anything_is_made(volumes, tmp_path, arguments, error):
    folder = volumes[0]
    if not (folder / "small.zarr").exists():
        write(folder / "small.zarr", np.zeros((9, 20, 8), np.uint8), kind="quantities")
        write(folder / "coarse.zarr", np.zeros((9, 10, 12), np.uint8), size=(10, 9, 9), kind="quantities")
    given = {
        name: str(folder / value) if isinstance(value, str) and name != "classes" else value
        for name, value in arguments.items()
    }
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        measure(folder / "seg.zarr", tmp_path / "out", **{"classes": ["mito"], **given})
    assert list(tmp_path.iterdir()) == []


def test_parents_that_no_object_can_have_are_refused(volumes, tmp_path):
    for parents, error in (
        ("cel", r"no class 'cel', nor a volume; did you mean cell"),
        ("mito", "of their own; .*cell"),
    ):
        with pytest.raises(ValueError, match=error):
            measure(volumes[0] / "seg.zarr", tmp_path / "out", classes=["mito"], parents=parents)
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_no_ids_are_refused(volumes, tmp_path):
    with pytest.raises(ValueError, match=r"prediction.zarr has no volume of ids, only 1_output: segment"):
        measure(volumes[0] / "prediction.zarr", tmp_path / "out")
    reals = write(tmp_path / "reals.zarr", np.zeros(SHAPE, np.float32), kind="quantities")
    with pytest.raises(ValueError, match=r"reals.zarr holds float32; ids have to be whole numbers"):
        measure(reals, tmp_path / "out")


def test_the_command_prints_a_table(volumes, tmp_path):
    folder = volumes[0]
    command = ["measure", folder / "seg.zarr", "--classes", "mito", "--parents", "cell", "--output", tmp_path / "m"]
    result = CliRunner().invoke(app, [*map(str, command)])
    assert result.exit_code == 0, result.output
    (row,) = [line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["mito"]]
    assert row[1:3] == ["3", "2"]
    assert row[-1] == "2"
    assert files_below(tmp_path / "m") == [
        *("contacts.csv", "contacts.parquet", "measures.json", "objects.csv", "objects.parquet")
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_workers_measure_the_same(volumes, measured, tmp_path, monkeypatch):
    folder = volumes[0]
    monkeypatch.setattr("scalenet_gp.pipelines.measuring.measure_job._CHUNK", 6)
    workers = Workers(count=2, memory=BLOCKS.memory)
    made = measure(folder / "seg.zarr", tmp_path / "out", **everything(folder), workers=workers)
    assert (made / "objects.csv").read_bytes() == (measured / "objects.csv").read_bytes()
