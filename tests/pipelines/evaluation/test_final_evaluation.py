"""The end of a run: prediction, scores, picture and what TensorBoard compares runs by, of the best network."""

import json
import math
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from scalenet_gp.pipelines.evaluation.final_evaluation_job import final_evaluation
from scalenet_gp.volumes.storage import group_attributes
from tests.pipelines.conftest import CLASSES, OUTPUTS, tiny_config


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a finished run, and its newest checkpoint."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("prediction*", "scores.json"))
    return folder, folder / "checkpoints" / "checkpoint_4.safetensors"


def test_what_a_run_comes_to_is_written_and_logged(volume, run):
    folder, checkpoint = run
    config = tiny_config(evaluation__groups={"shade": ["bright", "dark"]}, evaluation__smallest_object=9)
    end = final_evaluation(config, volume, folder, checkpoint, "cpu")
    assert (end.network, end.prediction, end.picture) == (
        checkpoint,
        folder / "prediction.zarr",
        folder / "prediction.png",
    )
    assert group_attributes(end.prediction)["checkpoint"] == checkpoint.name
    assert end.picture.read_bytes().startswith(b"\x89PNG")
    written = json.loads((folder / "scores.json").read_text())
    logs = [EventAccumulator(str(path)).Reload() for path in (folder / "log").rglob("events*")]
    scalars = {tag: log.Scalars(tag)[-1].value for log in logs for tag in log.Tags()["scalars"]}
    final = [event for log in logs for tag in log.Tags()["scalars"] if "final" in tag for event in log.Scalars(tag)]
    assert {event.step for event in final} == {4}
    found = end.scores.to_json()["outputs"]
    for output in OUTPUTS:
        for label in CLASSES:
            assert written["outputs"][output]["classes"][label] == found[output]["classes"][label]
        # what no voxel was predicted or annotated for is not a number, and is left out
        dice = [end.scores.classes[output][label].scores["dice"] for label in CLASSES]
        known = [value for value in dice if math.isfinite(value)]
        assert scalars[f"final/dice/{output}"] == pytest.approx(sum(known) / len(known))
    for score, groups in (("voxel_accuracy", end.scores.voxels), ("object_accuracy", end.scores.objects)):
        assert scalars[f"final/{score}/1_output/shade"] == pytest.approx(groups["1_output"]["shade"].accuracy)
    assert {tag.split("/")[1] for tag in scalars if "final" in tag} == {"dice", "voxel_accuracy", "object_accuracy"}
    (table,) = (
        event.tensor_proto.string_val[0].decode()
        for log in logs
        for event in ("final scores/text_summary" in log.Tags()["tensors"] and log.Tensors("final scores/text_summary"))
        or ()
    )
    assert table.startswith("| output | class | dice | iou | ")
    assert len(table.splitlines()) == 2 * (2 + len(OUTPUTS) * len(CLASSES)) + 1
    parameters = {
        name
        for log in logs
        for plugin in log.summary_metadata.values()
        if plugin.plugin_data.plugin_name == "hparams"
        for name in HParamsPluginData.FromString(plugin.plugin_data.content).session_start_info.hparams
    }
    assert {"training.optimization.learning_rate", "network.subnets.0.base_nc", "training.region.begin"} <= parameters


def test_the_best_network_is_the_one_that_is_evaluated_and_an_earlier_end_is_replaced(volume, run):
    folder, checkpoint = run
    shutil.copy(checkpoint.with_name("checkpoint_3.safetensors"), folder / "best.safetensors")
    (folder / "prediction.zarr").mkdir()
    for left in ("prediction.zarr/mine", "scores.json", "prediction.png"):
        (folder / left).write_text("of an earlier end")
    best = final_evaluation(tiny_config(), volume, folder, checkpoint, "cpu")
    assert best.network == folder / "best.safetensors"
    assert group_attributes(best.prediction)["checkpoint"] == "best.safetensors"
    assert not (best.prediction / "mine").exists()
    assert json.loads((folder / "scores.json").read_text())["outputs"].keys() == OUTPUTS.keys()
    (folder / "best.safetensors").unlink()
    newest = final_evaluation(tiny_config(), volume, folder, checkpoint, "cpu")
    assert newest.scores != best.scores
    assert group_attributes(newest.prediction)["checkpoint"] == checkpoint.name
