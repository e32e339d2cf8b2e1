"""The demo of instances, from an empty folder to a picture of two segmentations."""

import csv
import json
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.demo import instances_job
from scalenet_gp.pipelines.demo.instances_job import CONFIGS, demo_instances, instances_table
from scalenet_gp.pipelines.demo.neurite_volume import HELD_OUT, make_neurite_volume, write_neurite_volume
from scalenet_gp.pipelines.demo.recording import RAW
from scalenet_gp.pipelines.plots import draw_objects
from scalenet_gp.volumes.storage import open_array
from tests.pipelines.config.test_config import SHIPPED
from tests.pipelines.conftest import files_below

SHIPPED_CONFIGS = {title: next(path for path in SHIPPED if path.name == name) for title, name in CONFIGS.items()}
HASTY = [
    "training.iterations=1",
    "training.batch_size=1",
    "training.workers=0",
    "training.norm_statistics.samples=1",
]
SHAPE = (32, 32, 80)


def test_the_demo_leaves_segmentations_their_scores_tables_and_one_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(instances_job, "write_neurite_volume", partial(write_neurite_volume, shape=SHAPE))
    drawn = []
    monkeypatch.setattr(instances_job, "draw_objects", lambda *paths: drawn.append(paths) or draw_objects(*paths))
    configs = {title: Config.read(path, HASTY) for title, path in SHIPPED_CONFIGS.items()}
    result = demo_instances(tmp_path / "demo", configs, "cpu", seed=1)
    np.testing.assert_array_equal(open_array(result.volume / RAW / "s0")[:], make_neurite_volume(1, SHAPE).raw)
    folders = {run.folder.name for run in result.runs.values()}
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"volume.zarr", *folders, "picture.png"}
    assert result.picture.read_bytes().startswith(b"\x89PNG")
    objects = {title: run.segmentation / "neurites" for title, run in result.runs.items()}  # not their fragments
    assert drawn == [(result.volume / RAW, result.volume / HELD_OUT, objects, result.picture)]
    truth = open_array(result.volume / HELD_OUT / "s0")[:]
    for run in result.runs.values():
        ids = open_array(run.segmentation / "neurites" / "s0")[:]
        assert ids.shape == truth.shape
        with run.objects.open() as file:
            assert len(list(csv.DictReader(file))) == len(np.unique(ids[ids > 0]))
        scores = run.scores.classes["neurites"]
        assert scores.true_objects == truth.max()
        assert json.loads((run.folder / "segmentation_scores.json").read_text()) == run.scores.to_json()
    console = Console(width=120, record=True)
    console.print(instances_table(result))
    text = console.export_text()
    assert all(
        words in text for words in (*CONFIGS, "VOI merge", "adapted Rand error", "average precision", "training")
    )


def test_a_folder_that_exists_is_refused(tmp_path):
    with pytest.raises(FileExistsError, match="choose another folder"):
        demo_instances(tmp_path, {})
    assert files_below(tmp_path) == []


def test_both_runs_learn_and_are_judged_on_the_same_parts():
    one, other = (Config.read(path) for path in SHIPPED_CONFIGS.values())
    assert one.data == other.data
    assert one.augmentation == other.augmentation
    assert {source.use for source in one.data.sources} == {"train", "evaluate"}
