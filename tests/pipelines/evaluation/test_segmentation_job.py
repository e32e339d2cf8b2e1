"""Segmentations against instances that are cut out by hand, and metrics of the whole arrays by other packages."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import yaml
from scipy import ndimage
from skimage.metrics import adapted_rand_error
from skimage.metrics import variation_of_information as skimage_voi
from typer.testing import CliRunner

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.metrics import ContingencyTable, InstanceScores, count_boundaries
from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.evaluation import evaluate_segmentation, segmentation_job
from tests.pipelines.conftest import SHAPE, TINY, VOXEL, changed, tiny_config, tissue, write_array

UNLABELLED = 999
SOURCE = {"raw": "em/raw", "labels": "cells", "encoding": "instances", "unlabelled": UNLABELLED}
OF_CELLS = {"data__sources": [SOURCE], "data__classes": ["cell"]}
EVALUATED = np.s_[:, :, 22:]  # from 99 nm on


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Instances with a part that nobody has annotated, and a segmentation that splits, merges, misses and adds."""
    folder = tmp_path_factory.mktemp("cells")
    raw, masks = tissue()
    truth = ndimage.label(masks["bright"])[0].astype(np.uint16)
    moved = np.roll(truth, 1, axis=1)
    segmented = np.where(moved > 0, moved + np.uint64(2**40), np.uint64(0))
    segmented[12:, :, :30][segmented[12:, :, :30] > 0] = 5
    segmented[:3, :3] = 7
    truth[20:, 30:] = UNLABELLED
    write_array(folder / "em" / "raw", raw, levels=3)
    write_array(folder / "cells", truth, labels=True)
    write_array(folder / "seg" / "cell", segmented, labels=True, levels=1)
    coarse = segmented[::2, ::2, ::2]
    write_array(folder / "coarse", coarse, voxel=2 * VOXEL, labels=True, levels=1)
    return folder, truth, segmented


def whole(truth, segmented, tolerance):
    """The scores of whole arrays."""
    known = truth != UNLABELLED
    table = ContingencyTable()
    table.update(truth, segmented, known)
    return InstanceScores.of(table, count_boundaries(truth, segmented, (VOXEL,) * 3, tolerance, known))


@pytest.mark.parametrize("block", [9, 128])
def test_blocks_have_the_scores_of_the_whole_region(cells, tmp_path, monkeypatch, block):
    folder, truth, segmented = cells
    monkeypatch.setattr(segmentation_job, "_BLOCK", block)
    config = tiny_config(**OF_CELLS, evaluation__boundary_tolerance=7)
    output = tmp_path / "new" / "scores.json"
    result = evaluate_segmentation(config, folder, folder / "seg", output=output)
    truth, segmented = truth[EVALUATED], segmented[EVALUATED]
    assert result.classes == {"cell": whole(truth, segmented, 7)}
    known = truth != UNLABELLED
    small = truth[known].astype(int), np.unique(segmented[known], return_inverse=True)[1]
    split, merge = skimage_voi(*small, ignore_labels=(0,))
    error, *_ = adapted_rand_error(*small, ignore_labels=(0,))
    written = json.loads(output.read_text())
    assert written["version"] == 1
    scores = written["classes"]["cell"]
    assert (scores["voi_split"], scores["voi_merge"]) == pytest.approx((split, merge))
    assert scores["adapted_rand_error"] == pytest.approx(error)
    assert scores["cremi_score"] == pytest.approx(math.sqrt((split + merge) * error))
    assert scores["true_objects"] == len(np.unique(truth[known & (truth > 0)]))
    assert scores["boundary_tolerance"] == 7
    assert 0 < scores["boundaries"]["f1"] < 1
    assert 0 < scores["average_precision"] < scores["objects"]["0.5"]["average_precision"] < 1
    assert 0 < scores["panoptic_quality"] < scores["segmentation_quality"] < 1


def test_a_perfect_segmentation_at_the_voxel_size_of_any_level(cells):
    """The instances themselves, and instances by majority at twice the voxel size."""
    folder, *_ = cells
    result = evaluate_segmentation(tiny_config(**OF_CELLS), folder, folder / "cells")
    assert result.classes["cell"].cremi == 0
    assert result.classes["cell"].average_precision == result.classes["cell"].boundaries.f1 == 1
    assert result.tolerances == {"cell": 2 * VOXEL}
    result = evaluate_segmentation(tiny_config(**OF_CELLS), folder, folder / "coarse")
    assert result.tolerances == {"cell": 4 * VOXEL}
    assert 0 < result.classes["cell"].panoptic.quality < 1


def test_label_volumes_of_classes_are_instances_if_one_says_so(cells):
    folder, truth, segmented = cells
    source = {"raw": "em/raw", "labels": ".", "unlabelled": UNLABELLED}
    config = tiny_config(data__sources=[source], data__classes={"cell": "cells"}, evaluation__boundary_tolerance=7)
    with pytest.raises(ConfigError, match="say with --classes which of cell have a number for each object"):
        evaluate_segmentation(config, folder, folder / "seg")
    result = evaluate_segmentation(config, folder, folder / "seg", classes=["cell"])
    assert result.classes == {"cell": whole(truth[EVALUATED], segmented[EVALUATED], 7)}


def test_the_expected_run_length_along_skeletons(cells, tmp_path):
    """A skeleton along x, whose nodes are voxel centres; the part in the region counts."""
    folder, _, segmented = cells
    filled = (segmented[..., 22:] > 0).mean(axis=2)
    z, y = np.argwhere((filled > 0.4) & (filled < 0.9))[0]
    lines = [f"{x} 3 {VOXEL * x} {VOXEL * y} {VOXEL * z} 1 {x - 1 if x else -1}" for x in range(SHAPE[2])]
    (tmp_path / "one.swc").write_text("\n".join(lines))
    result = evaluate_segmentation(tiny_config(**OF_CELLS), folder, folder / "seg", skeletons=tmp_path / "one.swc")
    row = segmented[z, y, 22:]
    runs = {}
    for one, other in pairwise(row.tolist()):
        if one == other != 0:
            runs[one] = runs.get(one, 0) + VOXEL
    run = result.classes["cell"].run_length
    assert run.length == pytest.approx(VOXEL * (len(row) - 1))
    assert run.expected == pytest.approx(sum(length**2 for length in runs.values()) / run.length)
    assert 0 < run.share < 1
    assert json.loads(json.dumps(result.to_json()))["classes"]["cell"]["run_length"]["share"] == run.share
    (tmp_path / "one.swc").write_text("1 3 0 0 0 1 -1\n2 3 9 0 0 1 1")
    with pytest.raises(DataError, match="no edge of the skeletons lies in the region; are their positions nm"):
        evaluate_segmentation(tiny_config(**OF_CELLS), folder, folder / "seg", skeletons=tmp_path / "one.swc")


def refused(cells, error, message, segmentation="seg", region=None, classes=(), **changes):
    folder, *_ = cells
    with pytest.raises(error, match=message):
        evaluate_segmentation(
            tiny_config(**OF_CELLS, **changes), folder, folder / segmentation, region, classes=classes
        )


def test_what_cannot_be_compared_is_refused(cells, tmp_path):
    refused(cells, FileNotFoundError, "nowhere", segmentation="nowhere")
    refused(cells, ConfigError, "there is no class 'nucleus' to compare; did you mean|there is", classes=["nucleus"])
    refused(cells, DataError, "every voxel of the region is unknown to the labels of cell", region=_unknown())
    write_array(tmp_path / "part", np.ones((24, 40, 30), np.uint16), labels=True)
    refused(
        cells,
        ConfigError,
        r"part covers \[0, 0, 0\] to \[108, 180, 135\] nm .* not all of",
        segmentation=tmp_path / "part",
    )
    write_array(tmp_path / "float", np.ones(SHAPE, np.float32))
    refused(cells, DataError, "float holds float32; ids have to be whole numbers", segmentation=tmp_path / "float")
    write_array(tmp_path / "two", np.ones((2, *SHAPE), np.uint8), channels=["a", "b"])
    refused(cells, ConfigError, "two has 2 channels; a volume of ids has one", segmentation=tmp_path / "two")
    folder, *_ = cells
    ids = tiny_config(data__sources=[{**SOURCE, "encoding": "ids"}], data__classes={"cell": 3})
    with pytest.raises(ConfigError, match=r"data\.sources\.0\.encoding is ids, .* a number for each object"):
        evaluate_segmentation(ids, folder, folder / "seg")


def _unknown():
    """The part of the evaluation region that nobody has annotated."""
    return Region(begin=(20 * VOXEL, 30 * VOXEL, 99), end=(None, None, None))


def test_the_command_prints_a_table_and_writes_the_scores(cells, tmp_path):
    folder, *_ = cells
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(changed(TINY, **OF_CELLS)))
    command = ["evaluate", str(tmp_path / "run.yaml"), "--volume", str(folder), "--output", str(tmp_path)]
    done = CliRunner().invoke(app, [*command, "--segmentation", str(folder / "seg")])
    assert done.exit_code == 0, done.output
    scores = json.loads((tmp_path / "segmentation_scores.json").read_text())["classes"]["cell"]
    for name, key in (("VOI split", "voi_split"), ("panoptic quality", "panoptic_quality")):
        assert any(name in line and f"{scores[key]:.3f}" in line for line in done.stdout.splitlines())
    again = CliRunner().invoke(app, [*command, "--segmentation", str(folder / "seg")])
    assert "segmentation_scores.json exists; replace it with --force" in str(again.exception)
    done = CliRunner().invoke(app, [*command, "--classes", "cell"])
    assert "--classes and --skeletons are for a segmentation" in str(done.exception)
