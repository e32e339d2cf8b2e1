"""Packing and scoring, from a manifest and predictions to the table, and every fault in words."""

import json
import math
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from io import StringIO

import numpy as np
import pytest
import zarr
from rich.console import Console

from scalenet_gp.errors import ArgumentError, ConfigError, DataError, UnknownNameError, VolumeFormatError
from scalenet_gp.metrics import ConfusionCounts, InstanceCounts, place_on_grid
from scalenet_gp.metrics.cellmap.placement import CropGrid
from scalenet_gp.pipelines.challenge import challenge_table, pack, score
from scalenet_gp.volumes import MultiscaleWriter, create_array

HEADER = "crop_name,dataset,class_label,voxel_size,translation,shape"


@dataclass(frozen=True)
class Crop:
    """A crop of the challenge: off the lattice of its volume, of fractional voxels."""

    name: str
    dataset: str
    size: tuple
    translation: tuple
    shape: tuple

    def row(self, label):
        lists = (f"[{';'.join(map(str, numbers))}]" for numbers in (self.size, self.translation, self.shape))
        return ",".join([self.name.removeprefix("crop"), self.dataset, label, *lists])

    def objects(self):
        """Two boxes, of the ids 300 and 2."""
        ids = np.zeros(self.shape, np.int64)
        ids[1:5, 2:7, 1:5], ids[7:, 2:7, 3:9] = 300, 2
        return ids


FINE = Crop("crop557", "jrc_a", (1.74, 2.0, 2.0), (23837.13, 7599.0, 35999.0), (12, 10, 11))
COARSE = Crop("crop980", "jrc_b", (32.0, 32.0, 32.0), (16.0, 48.0, 16.0), (9, 10, 11))
CROPS = (FINE, COARSE)


def write_array(folder, crop, label, values, **attributes):
    path = folder / crop.name / label
    array = create_array(path, values.shape, values.shape, values.dtype)
    array[:] = values
    array.attrs.update({"voxel_size": list(crop.size), "translation": list(crop.translation)} | attributes)
    return path


def write_volume(path, crop, values, factor=1):
    """An OME-Zarr volume of a crop, with voxels ``factor`` times as fine, and some more round it."""
    size = [Fraction(str(s)) / factor for s in crop.size]
    corner = [
        Fraction(str(t)) - Fraction(str(s)) / 2 - v for t, s, v in zip(crop.translation, crop.size, size, strict=True)
    ]
    for axis in range(3):
        values = values.repeat(factor, axis)
    values = np.pad(values, 1)
    layout = {"voxel_size": size, "corner": corner, "shape": values.shape, "dtype": values.dtype}
    with MultiscaleWriter(path, labels=values.dtype.kind == "i", **layout) as writer:
        writer.write((0, 0, 0), values)


@pytest.fixture
def tree(tmp_path):
    """Truth of two classes in two crops, predictions in several forms, and the manifest."""
    lines = [HEADER]
    for crop in CROPS:
        ids = crop.objects()
        write_array(tmp_path / "truth", crop, "mito", np.where(ids == 300, 1, ids).astype(np.uint8))
        write_array(tmp_path / "truth", crop, "ecs", (ids == 0).astype(np.uint8))
        lines += [crop.row("mito"), crop.row("ecs")]
    write_volume(tmp_path / "predictions" / FINE.name / "mito", FINE, FINE.objects(), factor=2)
    write_volume(tmp_path / "predictions" / FINE.name / "ecs", FINE, (FINE.objects() == 0) * np.float32(0.8))
    write_volume(tmp_path / "predictions" / COARSE.name / "mito", COARSE, COARSE.objects())
    write_array(tmp_path / "predictions", COARSE, "ecs", (COARSE.objects() == 0).astype(np.uint8))
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def packed(tree, name="submission.zip", **options):
    return pack(tree / "predictions", tree / "manifest.csv", tree / name, **options)


def test_every_class_is_packed_on_the_lattice_of_its_crop(tree):
    result = packed(tree)
    assert result.missing == ()
    assert result.packed == tuple((crop.name, label) for crop in CROPS for label in ("mito", "ecs"))
    with zipfile.ZipFile(result.path) as file:
        file.extractall(tree / "read")
    group = zarr.open_group(str(tree / "read"), mode="r")
    for crop in CROPS:
        mito, ecs = group[f"{crop.name}/mito"], group[f"{crop.name}/ecs"]
        np.testing.assert_array_equal(mito[:], crop.objects())
        np.testing.assert_array_equal(ecs[:], crop.objects() == 0)
        assert (mito.dtype, ecs.dtype) == (np.uint16, np.uint8)  # 300 does not fit into eight bits
        for array in (mito, ecs):
            assert dict(array.attrs) == {
                "voxel_size": list(crop.size),
                "translation": list(crop.translation),
                "shape": list(crop.shape),
            }


def test_a_packed_perfect_prediction_scores_one(tree):
    packed(tree)
    for predictions in (tree / "submission.zip", tree / "predictions"):
        result = score(predictions, tree / "truth", tree / "scores" / "scores.json", overwrite=True)
        assert result.pooled.overall == 1
        assert result.pooled.instances == {"mito": InstanceCounts(4, 0, 0, 4.0, 4)}
    plain = json.loads((tree / "scores" / "scores.json").read_text())
    assert (plain["version"], plain["rule"], plain["overall"], plain["missing"]) == (1, "2026-06-30", 1, [])
    assert plain["crops"][FINE.name]["ecs"]["iou"] == 1
    text = StringIO()
    Console(file=text, width=120).print(challenge_table(result))
    assert [line.split()[-1] for line in text.getvalue().splitlines() if "overall" in line] == ["1.000"]


def test_missing_predictions_are_named_and_count_as_missed_if_allowed(tree):
    (tree / "predictions" / COARSE.name / "ecs").rename(tree / "away")
    with pytest.raises(DataError, match=r"no predictions of crop980: ecs, looked for at .*\{crop\}/\{label\}; --allow"):
        packed(tree)
    assert not (tree / "submission.zip").exists()
    result = packed(tree, allow_missing=True)
    assert result.missing == ((COARSE.name, "ecs"),)
    for predictions in (tree / "submission.zip", tree / "predictions"):
        with pytest.raises(DataError, match="there are no predictions of crop980: ecs; --allow-missing counts"):
            score(predictions, tree / "truth")
        scores = score(predictions, tree / "truth", allow_missing=True)
        assert scores.crops[COARSE.name]["ecs"] == ConfusionCounts(0, 0, math.prod(COARSE.shape))
        assert scores.to_json()["missing"] == ["crop980/ecs"]
    with pytest.raises(DataError, match="no predictions of crop557: mito, ecs; crop980: mito, ecs, looked for"):
        pack(tree / "away", tree / "manifest.csv", tree / "other.zip", allow_missing=True)


def test_masked_voxels_do_not_count_and_a_mask_is_no_class(tree):
    crop, wrong = COARSE, COARSE.objects()
    mask = np.ones(crop.shape, np.uint8)
    mask[:3] = 0
    wrong[:3] = 7
    write_array(tree / "truth", crop, "ecs_mask", mask)
    write_array(tree / "half", crop, "ecs", (wrong == 0).astype(np.uint8))
    truth = {crop.name: score(tree / "half", tree / "truth", classes=["ecs"], allow_missing=True)}
    assert truth[crop.name].crops[crop.name]["ecs"] == ConfusionCounts(int((crop.objects()[3:] == 0).sum()), 0, 0)


def test_training_crops_are_truth_too_with_their_annotation(tree):
    crop, ids = COARSE, COARSE.objects()
    labels = tree / "data" / "jrc_b" / "jrc_b.zarr" / "recon-1" / "labels" / "groundtruth" / crop.name
    size = [Fraction(str(s)) for s in crop.size]
    corner = [Fraction(str(t)) - s / 2 for t, s in zip(crop.translation, size, strict=True)]
    stored = {"mito": (ids > 0).astype(np.uint8), "nuc": np.full(crop.shape, 255, np.uint8)}
    stored["mito"][0] = 255
    for label, values in stored.items():
        annotation = {
            "class_name": label,
            "annotation_type": {
                "type": "semantic_segmentation",
                "encoding": {"absent": 0, "present": 1, "unknown": 255},
            },
        }
        layout = {"voxel_size": size, "corner": corner, "shape": values.shape, "dtype": values.dtype}
        with MultiscaleWriter(labels / label, attributes={"cellmap": {"annotation": annotation}}, **layout) as writer:
            writer.write((0, 0, 0), values)
    wrong = ids.copy()
    wrong[0] = 9
    write_volume(tree / "of_b" / "jrc_b" / "mito", crop, wrong)
    result = score(tree / "of_b", tree / "data", layout="{dataset}/{label}", allow_missing=True)
    assert result.crops == {crop.name: {"mito": InstanceCounts(2, 0, 0, 2.0, 2)}}  # of nuc nothing is known


def test_the_stated_translation_is_the_one_that_the_rule_puts_onto_the_crop(tmp_path):
    """A prediction at 35 * 5.24 nm is moved off a crop at the same place, by the challenge's rounding."""
    crop = Crop("crop1", "jrc_a", (5.24, 4.0, 4.0), (183.4, 0.0, 0.0), (8, 8, 9))
    grid = CropGrid(crop.size, crop.translation, crop.shape)
    assert grid.shift(crop.translation) == (-1, 0, 0)
    write_volume(tmp_path / "predictions" / "crop1" / "mito", crop, crop.objects())
    (tmp_path / "manifest.csv").write_text(f"{HEADER}\n{crop.row('mito')}\n")
    pack(tmp_path / "predictions", tmp_path / "manifest.csv", tmp_path / "submission.zip")
    with zipfile.ZipFile(tmp_path / "submission.zip") as file:
        file.extractall(tmp_path / "read")
    array = zarr.open_group(str(tmp_path / "read"), mode="r")["crop1/mito"]
    assert array.attrs["translation"] == pytest.approx([186.02, 0, 0])
    placed = place_on_grid(array[:], grid, array.attrs["voxel_size"], array.attrs["translation"], instances=True)
    np.testing.assert_array_equal(placed, crop.objects())


def test_faults_are_told_in_words(tree):
    truth, ids = tree / "truth", COARSE.objects()
    with pytest.raises(UnknownNameError, match=r"no crop has the class mitos; .*mito"):
        score(tree / "predictions", truth, classes=["mitos"])
    with pytest.raises(VolumeFormatError, match="there is no crop with a class in it"):
        score(tree / "predictions", tree / "predictions" / FINE.name)
    for folder in ("none", "none.zip"):
        with pytest.raises(FileNotFoundError, match="no such folder"):
            score(tree / folder, truth)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        score(tree / "predictions", tree / "none")
    write_array(tree / "wrong", COARSE, "mito", ids[1:].astype(np.uint16))
    with pytest.raises(
        DataError, match=r"crop980/mito: the prediction is of shape \(8, 10, 11\) with voxels of .*extent"
    ):
        score(tree / "wrong", truth, classes=["mito"], allow_missing=True)
    bare = write_array(tree / "bare", COARSE, "mito", ids.astype(np.uint16))
    (bare / ".zattrs").write_text('{"voxel_size": [32, 32, 32]}')
    with pytest.raises(
        VolumeFormatError, match="crop980/mito: the array has none of the attributes translation, offset"
    ):
        score(tree / "bare", truth, classes=["mito"], allow_missing=True)
    write_volume(tree / "negative" / COARSE.name / "mito", COARSE, ids - 5)
    with pytest.raises(DataError, match="the id -5 of crop980; ids are 0 or above"):
        pack(tree / "negative", tree / "manifest.csv", tree / "negative.zip", allow_missing=True)
    assert not list(tree.glob("negative*.partial")) + list(tree.glob("negative.zip"))
    with pytest.raises(ConfigError, match=r"--layout .* names \{class\}; it can name \{dataset\}, \{crop\}, \{label\}"):
        packed(tree, layout="{crop}/{class}")
    with pytest.raises(ConfigError, match="--layout"):
        packed(tree, layout="{crop")
    with pytest.raises(ArgumentError, match="the threshold 0 has to be a probability"):
        packed(tree, threshold=0)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        pack(tree / "none", tree / "manifest.csv", tree / "other.zip")
    (tree / "taken").write_text("")
    for job in (lambda: packed(tree, "taken"), lambda: score(tree / "predictions", truth, tree / "taken")):
        with pytest.raises(FileExistsError, match="replace it with --force"):
            job()
