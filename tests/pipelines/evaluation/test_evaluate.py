"""The evaluation job against numpy: arrays cut out by hand, voxels counted one by one."""

import json

import numpy as np
import pytest
from scipy import ndimage

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.metrics import count_boundaries
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.datasets import Datasets
from scalenet_gp.pipelines.evaluation.evaluate_job import EvaluationResult, evaluate
from scalenet_gp.pipelines.evaluation.held_out import check_evaluation
from scalenet_gp.pipelines.evaluation.score_sums import ScoreSums
from scalenet_gp.volumes.storage import open_array
from tests.pipelines.conftest import (
    CLASSES,
    EVALUATED,
    OUTPUTS,
    VOXEL,
    files_below,
    tiny_config,
    tissue,
    truth_at,
    write_array,
    write_prediction,
)

GROUP = {"evaluation__groups": {"shade": ["dark", "bright"]}}


def random_values(seed=0, margin=0):
    """Probabilities of both scales, in steps of 1/8 so that some are the threshold itself."""
    rng = np.random.default_rng(seed)
    shapes = {name: [(e - b + 2 * margin) // factor for b, e in EVALUATED] for name, factor in OUTPUTS.items()}
    return {name: rng.integers(0, 9, (len(CLASSES), *shape)) / 8 for name, shape in shapes.items()}


def counted(values, threshold=0.5):
    """Counts by hand: {output: {class: (true positive, false positive, false negative)}}."""
    expected = {}
    for name, factor in OUTPUTS.items():
        truth, annotated = truth_at(factor)
        expected[name] = {}
        for label, p, t, a in zip(CLASSES, values[name] >= threshold, truth, annotated, strict=True):
            expected[name][label] = tuple(
                sum(bool(x) is px and bool(y) is py for x, y in zip(p[a], t[a], strict=True))
                for px, py in ((True, True), (True, False), (False, True))
            )
    return expected


def as_counts(scores):
    return {
        name: {label: (a.true_positive, a.false_positive, a.false_negative) for label, a in classes.items()}
        for name, classes in scores.classes.items()
    }


@pytest.mark.parametrize("threshold", [0.5, 0.125])
@pytest.mark.parametrize("block", [(36, 54, 36), (18, 18, 27), (180, 180, 180)])
def test_counts_are_those_of_numpy(volume, tmp_path, threshold, block):
    values = random_values()
    prediction = write_prediction(tmp_path / "p", values)
    scores = evaluate(tiny_config(evaluation__threshold=threshold, prediction__block_shape=block), volume, prediction)
    assert as_counts(scores) == counted(values, threshold)
    assert all(min(counts) > 0 for counts in as_counts(scores)["1_output"].values())


@pytest.mark.parametrize("tolerance", [None, 20, 0])
@pytest.mark.parametrize("block", [(36, 54, 36), (180, 180, 180)])
def test_boundaries_are_those_of_the_whole(volume, tmp_path, tolerance, block):
    """The counts of any blocks are those of arrays in one piece, whose own test has brute force."""
    values = random_values()
    options = {"evaluation__boundary_tolerance": tolerance, "prediction__block_shape": block}
    scores = evaluate(tiny_config(**options), volume, write_prediction(tmp_path / "p", values), output=tmp_path / "s")
    for name, factor in OUTPUTS.items():
        truth, annotated = truth_at(factor)
        size = [VOXEL * factor] * 3
        within = 2 * VOXEL * factor if tolerance is None else tolerance
        assert scores.tolerances[name] == within
        for label, p, t, a in zip(CLASSES, values[name] >= 0.5, truth, annotated, strict=True):
            assert scores.boundaries[name][label] == count_boundaries(t, p, size, within, a)
        assert 0 < scores.boundary_f1(name) < 1
    assert EvaluationResult.read(tmp_path / "s") == scores
    before = json.loads((tmp_path / "s").read_bytes())
    assert before["outputs"]["1_output"]["boundaries"]["mean"]["f1"] == scores.boundary_f1("1_output")
    assert (scores + scores).boundaries["1_output"][CLASSES[0]].true == 2 * scores.boundaries["1_output"][
        CLASSES[0]
    ].true


def test_some_outputs_alone(volume, tmp_path):
    values = random_values()
    prediction = write_prediction(tmp_path / "p", values)
    scores = evaluate(tiny_config(**GROUP), volume, prediction, outputs=["1_output"])
    assert as_counts(scores) == {"1_output": counted(values)["1_output"]}
    assert scores.voxels.keys() == scores.objects.keys() == {"1_output"}
    with pytest.raises(ValueError, match=r"there is no output '2_output' to compare; .*1_output"):
        evaluate(tiny_config(), volume, prediction, outputs=["2_output"])


def test_voxels_that_are_not_annotated_do_not_count(volume, tmp_path):
    """``dark`` is annotated in voxels 4 to 12 along z only: what is predicted above is neither right nor wrong."""
    values, other = random_values(), random_values()
    for name, factor in OUTPUTS.items():
        other[name][1, (12 - 4) // factor :] = 1
    scores = [
        evaluate(tiny_config(), volume, write_prediction(tmp_path / name, v))
        for name, v in (("one", values), ("other", other))
    ]
    assert scores[0] == scores[1]
    truth, annotated = truth_at(1)
    assert annotated[1].sum() < annotated[0].sum()
    assert truth[1].sum() == sum(as_counts(scores[0])["1_output"]["dark"][::2])


def test_a_prediction_of_more_than_the_region_is_cut_to_it(volume, tmp_path):
    values = random_values(margin=2)
    prediction = write_prediction(tmp_path / "p", values, [b - 2 for b, _ in EVALUATED])
    inner = {name: values[name][:, 2 // f : -2 // f, 2 // f : -2 // f, 2 // f : -2 // f] for name, f in OUTPUTS.items()}
    assert as_counts(evaluate(tiny_config(), volume, prediction)) == counted(inner)


def test_a_part_of_the_region(volume, tmp_path):
    values = random_values()
    prediction = write_prediction(tmp_path / "p", values)
    region = Region(begin=(0, 0, 0), end=(36, None, None))  # z voxels 4 to 8, and more along x than was predicted
    with pytest.raises(ValueError, match=r"the region to evaluate, .* shares annotated voxels with training\.region"):
        evaluate(tiny_config(), volume, prediction, region=region)
    with pytest.raises(ValueError, match="not all of"):
        evaluate(tiny_config(evaluation__allow_training_region=True), volume, prediction, region=region)
    scores = evaluate(tiny_config(), volume, prediction, region=Region(begin=(0, 0, 99), end=(36, None, None)))
    truth, _ = truth_at(1)
    hits = int(((values["1_output"][0, :4] >= 0.5) & truth[0, :4]).sum())
    assert scores.classes["1_output"]["bright"].true_positive == hits


def test_what_was_predicted_is_evaluated(volume, predicted):
    values = {name: open_array(predicted / name / "s0")[:] for name in OUTPUTS}
    assert as_counts(evaluate(tiny_config(), volume, predicted)) == counted(values)


def test_scores_go_into_a_file_where_those_without_a_value_are_null(volume, tmp_path):
    values = random_values()
    for name in OUTPUTS:
        values[name][1] = 0  # nothing is predicted dark
    prediction = write_prediction(tmp_path / "p", values)
    scores = evaluate(tiny_config(), volume, prediction, output=tmp_path / "new" / "scores.json")
    read = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert read["version"] == 1
    read = {name: of_output["classes"] for name, of_output in read["outputs"].items()}
    assert read.keys() == OUTPUTS.keys()
    for name in OUTPUTS:
        for label in CLASSES:
            counts = counted(values)[name][label]
            assert tuple(read[name][label][k] for k in ("true_positive", "false_positive", "false_negative")) == counts
    assert read["1_output"]["dark"]["precision"] is None
    assert read["1_output"]["dark"]["recall"] == 0
    assert read["1_output"]["bright"]["dice"] == scores.classes["1_output"]["bright"].scores["dice"]
    assert EvaluationResult.read(tmp_path / "new" / "scores.json") == scores
    (tmp_path / "later.json").write_text('{"version": 2}')
    with pytest.raises(DataError, match=r"later\.json has scores of version 2; this version of scalenet_gp reads 1"):
        EvaluationResult.read(tmp_path / "later.json")


def test_the_mean_over_classes_leaves_out_scores_that_are_not_defined(volume, tmp_path):
    values = random_values()
    values["1_output"][1] = 0  # nothing is predicted dark
    result = evaluate(tiny_config(), volume, write_prediction(tmp_path / "p", values), output=tmp_path / "scores.json")
    mean = json.loads((tmp_path / "scores.json").read_text())["outputs"]["1_output"]["mean"]
    bright, dark = (result.classes["1_output"][label].scores for label in CLASSES)
    assert mean["precision"] == bright["precision"]
    assert mean["dice"] == (bright["dice"] + dark["dice"]) / 2
    nothing = {name: np.zeros_like(array) for name, array in values.items()}
    result = evaluate(tiny_config(), volume, write_prediction(tmp_path / "nothing", nothing))
    assert result.to_json()["outputs"]["1_output"]["mean"]["precision"] is None


@pytest.mark.parametrize("block", [(36, 54, 36), (180, 180, 180)])
def test_groups_are_judged_by_voxels_and_by_whole_objects(volume, tmp_path, block):
    """Bright is right in every second voxel along x, and in sum of every object of more than one voxel along x."""
    values = random_values()
    for name in OUTPUTS:
        values[name][:] = 0.25
        values[name][0, ..., ::2] = 1
    prediction = write_prediction(tmp_path / "p", values)
    config = tiny_config(**GROUP, evaluation__smallest_object=9, prediction__block_shape=block)
    result = evaluate(config, volume, prediction, output=tmp_path / "scores.json")
    written = json.loads((tmp_path / "scores.json").read_text())["outputs"]
    for name, factor in OUTPUTS.items():
        truth, annotated = truth_at(factor)
        alone = truth & annotated.all(axis=0)
        even = (np.arange(alone.shape[-1]) % 2 == 0).astype(float)
        voxels = result.voxels[name]["shade"]
        assert voxels.classes == ("dark", "bright")
        assert voxels.total == (alone[1].sum(), alone[0].sum())
        # where all are alike, each of two is half right
        assert voxels.right == ((alone[1] * (1 - even) / 2).sum(), (alone[0] * (even + (1 - even) / 2)).sum())
        total, right = [], []
        for channel in (1, 0):
            labels, count = ndimage.label(alone[channel])
            large = [labels == n for n in range(1, count + 1) if (labels == n).sum() * factor**3 >= 8]
            total.append(len(large))
            seen = [[values[name][c][found].sum() for c in (channel, 1 - channel)] for found in large]
            right.append(sum((own > other) + (own == other) / 2 for own, other in seen))
        assert result.objects[name]["shade"].total == tuple(total)
        assert result.objects[name]["shade"].right == tuple(right)
        assert written[name]["groups"]["shade"]["voxels"]["accuracy"] == voxels.accuracy
        assert written[name]["groups"]["shade"]["objects"]["classes"]["bright"]["total"] == total[1]
        assert result.metrics()[f"voxel_accuracy/{name}/shade"] == voxels.accuracy
    assert sum(result.objects["1_output"]["shade"].total) > 2
    assert EvaluationResult.read(tmp_path / "scores.json") == result


def test_an_output_without_all_classes_of_a_group_is_left_out(volume, tmp_path):
    targets = {"0_*": {"kind": "classes", "classes": ["bright"]}, "*": {"kind": "classes", "exclusive": True}}
    config = tiny_config(**GROUP, training__targets=targets)
    channels = config.build_network()
    assert channels.specs["0_output"].channels == 1
    dataset = Dataset.open(volume, config, channels)
    sums = ScoreSums(dataset, config.evaluation.groups, 0.5)
    assert sums.channels == {"1_output": {"shade": [2, 1]}}  # after the background
    prediction = np.array([0.5, 0.1, 0.4]).reshape(3, 1, 1, 1)  # the background is the highest, and not of the group
    sums.add("1_output", prediction, np.array([0, 0, 1]).reshape(3, 1, 1, 1), np.ones((3, 1, 1, 1)))
    assert sums.voxels["1_output"]["shade"].recall["dark"] == 1
    targets["*"]["classes"] = ["bright"]
    config = tiny_config(**GROUP, training__targets=targets)
    datasets = Datasets.find(volume, config, config.build_network())
    message = r"evaluation\.groups\.shade has 'dark', which no output has; there are bright, background"
    with pytest.raises(ValueError, match=message):
        check_evaluation(config, datasets)


def test_an_output_that_exists_is_refused(volume, predicted, tmp_path):
    (tmp_path / "scores.json").write_text("mine")
    with pytest.raises(FileExistsError, match=r"scores\.json exists"):
        evaluate(tiny_config(), volume, predicted, output=tmp_path / "scores.json")
    assert (tmp_path / "scores.json").read_text() == "mine"
    evaluate(tiny_config(), volume, predicted, output=tmp_path / "scores.json", overwrite=True)
    assert json.loads((tmp_path / "scores.json").read_text())["version"] == 1


def test_a_prediction_of_other_classes_is_refused(volume, tmp_path):
    values = {name: array[:1] for name, array in random_values().items()}
    prediction = write_prediction(tmp_path / "p", values)
    with pytest.raises(ValueError, match="0_output has 1 channels, not one for each of bright, dark"):
        evaluate(tiny_config(), volume, prediction, output=tmp_path / "scores.json")
    assert not (tmp_path / "scores.json").exists()


def test_a_prediction_that_does_not_cover_the_region_is_refused(volume, tmp_path):
    values = {name: array[..., 2:] for name, array in random_values().items()}
    values["0_output"] = values["0_output"][..., :-1]
    prediction = write_prediction(tmp_path / "p", values)
    message = (
        r"0_output covers \[18, 36, 99\] to \[90, 144, 126\] nm .* not all of \[18, 36, 99\] to \[90, 144, 153\] nm"
    )
    with pytest.raises(ValueError, match=message):
        evaluate(tiny_config(), volume, prediction)


def test_a_prediction_of_other_voxels_is_refused(volume, tmp_path):
    prediction = write_prediction(tmp_path / "p", random_values())
    (prediction / "0_output").rename(prediction / "fine")
    (prediction / "1_output").rename(prediction / "0_output")
    (prediction / "fine").rename(prediction / "1_output")
    with pytest.raises(ValueError, match=r"1_output: no level can give voxels of 4.5 × 4.5 × 4.5 nm"):
        evaluate(tiny_config(), volume, prediction)


def test_a_missing_prediction_is_named(volume, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere/0_output"):
        evaluate(tiny_config(), volume, tmp_path / "nowhere", output=tmp_path / "scores.json")
    assert files_below(tmp_path) == []


def test_a_region_without_annotation_is_refused(volume, predicted):
    region = Region(begin=(0, 0, 0), end=(18, 18, 18))
    with pytest.raises(ValueError, match=r"nothing is annotated in the region \[0, 0, 0\] to \[18, 18, 18\] nm"):
        evaluate(tiny_config(), volume, predicted, region=region)


def test_labels_that_a_level_cannot_give_are_refused(tmp_path, volume, predicted):
    (tmp_path / "em").symlink_to(volume / "em")
    for name in CLASSES:
        write_array(tmp_path / "labels" / "crop" / name, np.ones((8, 8, 8), np.uint8), voxel=6)
    with pytest.raises(ValueError, match="bright: no level can give voxels of 9 × 9 × 9 nm"):
        evaluate(tiny_config(), tmp_path, predicted)


def test_a_prediction_whose_channels_have_other_names_is_refused(volume, tmp_path):
    truth = {name: truth_at(factor)[0] for name, factor in OUTPUTS.items()}
    prediction = write_prediction(tmp_path / "prediction", truth, classes=CLASSES[::-1])
    with pytest.raises(ValueError, match="0_output holds dark, bright; the config has bright, dark"):
        evaluate(tiny_config(), volume, prediction)


def test_a_prediction_of_another_volume_of_the_same_extent_is_refused(tmp_path, volume, predicted):
    (tmp_path / "labels").symlink_to(volume / "labels")
    raw, _ = tissue()
    write_array(tmp_path / "em" / "raw", raw[::-1].copy(), levels=3)
    with pytest.raises(
        ConfigError, match=r"was predicted from .* the data to compare it with are .*: the voxels differ"
    ):
        evaluate(tiny_config(), tmp_path, predicted)
    files = files_below(volume)
    moved = tmp_path / "moved"
    moved.symlink_to(volume)
    assert as_counts(evaluate(tiny_config(), moved, predicted)) == as_counts(evaluate(tiny_config(), volume, predicted))
    assert files_below(volume) == files
