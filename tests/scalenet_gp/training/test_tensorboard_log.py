"""The event files for TensorBoard, read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer import event_file_writer
from torch import Tensor

from scalenet_gp.losses import CrossEntropyDice
from scalenet_gp.training import LogOptions, UpdateResult
from scalenet_gp.training.step_picture import training_picture
from scalenet_gp.training.step_result import StepResult
from scalenet_gp.training.tensorboard_log import TensorBoardLog
from tests.nodes.train.two_scales import MASK, PREDICTION, ROIS, TARGET, inputs_of, plan_for, read, small_net

LOSS = CrossEntropyDice()
CLASSES = ("mito", "er")
OUTPUTS = ("0_output", "1_output")  # of one channel and of two
SCALARS = {
    *("loss/total", "loss/0_output", "loss/1_output", "loss/0_output/0", "loss/1_output/mito", "loss/1_output/er"),
    *("learning_rate", "gradient_norm", "update_ratio", "skipped"),
    *("samples_per_second", "waiting", "memory/process"),
}


def loss_of(name: str, prediction: Tensor, target: Tensor, mask: Tensor, activation: str | None = None) -> Tensor:
    return LOSS(prediction, target, mask, activation=activation)


@pytest.fixture(autouse=True)
def _files_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event files are read in the order of their names, which end in a count: 10 comes before 9 of the same second."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


@pytest.fixture(scope="module")
def first() -> StepResult:
    """The result of iteration 1."""
    net = small_net()
    plan = plan_for(net, ROIS)
    inputs = inputs_of(plan)
    outputs = net(inputs, plan)
    targets, masks = ({f"{n}_output": read(kind[n], ROIS[PREDICTION[n]]) for n in "01"} for kind in (TARGET, MASK))
    losses = {name: LOSS(outputs[name], targets[name], masks[name]).item() for name in outputs}
    return StepResult(
        iteration=1,
        loss=sum(losses.values()),
        losses=losses,
        learning_rate=1e-3,
        update=UpdateResult(taken=True, skipped=False, gradient_norm=2.5, update_ratio=1e-4),
        skipped=3,
        samples=1,
        seconds=0.5,
        waited=0.125,
        plan=plan,
        inputs=inputs,
        outputs=outputs,
        targets=targets,
        masks=masks,
        loss_of=loss_of,
    )


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance=dict.fromkeys(("scalars", "images", "tensors"), 0)).Reload()


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """The values by iteration, by tag; no iteration may be there twice."""
    logged = events(folder)
    found = {}
    for tag in logged.Tags()["scalars"]:
        found[tag] = {event.step: event.value for event in logged.Scalars(tag)}
        assert len(found[tag]) == len(logged.Scalars(tag)), tag
    return found


def written(folder: Path, record: StepResult) -> dict[str, float]:
    """The scalars of one record."""
    log = TensorBoardLog(folder, LogOptions(scalars_every=1, images_every=1), channels={"1_output": CLASSES})
    log.write(record)
    log.close()
    return {tag: values[record.iteration] for tag, values in scalars(folder).items()}


def test_scalars_are_what_the_record_says(tmp_path: Path, first: StepResult) -> None:
    values = written(tmp_path, first)
    assert set(values) == SCALARS
    assert values["loss/total"] == pytest.approx(first.loss)
    for name in OUTPUTS:
        assert values[f"loss/{name}"] == pytest.approx(first.losses[name])
    assert values["learning_rate"] == pytest.approx(1e-3)
    assert (values["gradient_norm"], values["skipped"]) == (2.5, 3)
    assert values["update_ratio"] == pytest.approx(1e-4)
    assert values["samples_per_second"] == 2
    assert values["waiting"] == 0.25
    assert 0.05 < values["memory/process"] < 100


def test_losses_of_classes_by_hand(tmp_path: Path, first: StepResult) -> None:
    values = written(tmp_path, first)
    for channel, name in enumerate(CLASSES):
        p, t, m = (
            of["1_output"].detach()[0, channel].double().numpy() for of in (first.outputs, first.targets, first.masks)
        )
        p, t = p[m > 0], t[m > 0]
        cross_entropy = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
        dice = (2 * np.sum(p * t) + 1) / (np.sum(p) + np.sum(t) + 1)
        assert values[f"loss/1_output/{name}"] == pytest.approx(cross_entropy + 1 - dice, rel=1e-5)
    assert values["loss/0_output/0"] == pytest.approx(values["loss/0_output"])


def test_a_class_of_which_nothing_is_annotated_has_no_loss(tmp_path: Path, first: StepResult) -> None:
    mask = first.masks["1_output"].clone()
    mask[:, 0] = 0
    values = written(tmp_path, replace(first, masks={**first.masks, "1_output": mask}))
    assert set(values) == SCALARS - {"loss/1_output/mito"}


def test_a_loss_of_all_classes_together_is_not_split(tmp_path: Path, first: StepResult) -> None:
    def together(name: str, prediction: Tensor, target: Tensor, mask: Tensor, activation: str | None) -> Tensor:
        if name == "1_output" and prediction.shape[1] < 2:
            raise ValueError("classes exclude one another")
        return loss_of(name, prediction, target, mask)

    values = written(tmp_path, replace(first, loss_of=together))
    assert set(values) == SCALARS - {"loss/1_output/mito", "loss/1_output/er"}


def test_what_is_not_finite_or_not_known_is_left_out(tmp_path: Path, first: StepResult) -> None:
    broken = replace(
        first,
        loss=math.nan,
        losses={**first.losses, "1_output": math.inf},
        update=UpdateResult(taken=False, skipped=True, gradient_norm=math.inf),
        outputs={**first.outputs, "1_output": first.outputs["1_output"] * math.nan},
        seconds=0.0,
        waited=0.0,
    )
    values = written(tmp_path, broken)
    assert set(values) == {*("loss/0_output", "loss/0_output/0", "learning_rate", "skipped", "memory/process")}


def test_scalars_and_images_are_written_when_they_are_due(tmp_path: Path, first: StepResult) -> None:
    log = TensorBoardLog(tmp_path, LogOptions(scalars_every=2, images_every=3))
    for iteration in range(1, 8):
        log.write(replace(first, iteration=iteration), last=iteration == 7)
    log.close()
    assert [i for i in range(1, 8) if log.scalars_due(i)] == [2, 4, 6]
    of_classes = {"loss/0_output/0", "loss/1_output/0", "loss/1_output/1"}
    for tag, values in scalars(tmp_path).items():
        assert list(values) == ([1, 3, 6, 7] if tag in of_classes else [2, 4, 6]), tag
    read_back = events(tmp_path)
    assert read_back.Tags()["images"] == [f"raw, target, prediction, mask/{name}" for name in OUTPUTS]
    for tag in read_back.Tags()["images"]:
        assert [event.step for event in read_back.Images(tag)] == [1, 3, 6, 7]


def test_rates_are_over_all_batches_since_they_were_written(tmp_path: Path, first: StepResult) -> None:
    log = TensorBoardLog(tmp_path, LogOptions(scalars_every=2))
    for iteration, (samples, seconds, waited) in enumerate([(4, 1, 0.5), (2, 2, 1), (1, 3, 0), (1, 1, 0.5)], start=1):
        log.write(replace(first, iteration=iteration, samples=samples, seconds=seconds, waited=waited))
    log.close()
    values = scalars(tmp_path)
    assert values["samples_per_second"] == {2: 2, 4: 0.5}
    assert values["waiting"] == {2: 0.5, 4: 0.125}


def test_nothing_is_on_disk_before_something_is_due(tmp_path: Path, first: StepResult) -> None:
    log = TensorBoardLog(tmp_path / "log")
    log.write(replace(first, iteration=2))
    assert not TensorBoardLog(tmp_path, LogOptions(images_every=None)).images_due(1, last=True)
    log.flush()
    log.close()
    assert not (tmp_path / "log").exists()


def test_a_run_that_goes_on_shows_no_iteration_twice(tmp_path: Path, first: StepResult) -> None:
    killed = TensorBoardLog(tmp_path, LogOptions(scalars_every=1, images_every=2))
    killed.write_config("seed: 1")
    for iteration in range(1, 9):
        killed.write(replace(first, iteration=iteration, learning_rate=1.0))
    killed.write_scores(4, {"0_output": {"er": {"dice": 0.25}}})
    killed.write_scores(8, {"0_output": {"er": {"dice": 0.75}}})
    killed.flush()  # and never closed
    assert set(scalars(tmp_path)["loss/total"]) == set(range(1, 9))

    resumed = TensorBoardLog(tmp_path, LogOptions(scalars_every=2, images_every=2))
    resumed.write_config("seed: 2", iteration=4)
    for iteration in (5, 6):
        resumed.write(replace(first, iteration=iteration, learning_rate=0.5))
    resumed.close()
    values = scalars(tmp_path)
    assert values["learning_rate"] == {1: 1, 2: 1, 3: 1, 4: 1, 6: 0.5}
    assert values["validation/dice/0_output/er"] == {4: 0.25}
    read_back = events(tmp_path)
    assert [event.step for event in read_back.Images("raw, target, prediction, mask/1_output")] == [1, 2, 4, 6]
    assert [event.step for event in read_back.Tensors("config/text_summary")] == [0, 4]
    killed.close()


def test_what_is_written_after_closing_takes_nothing_back(tmp_path: Path, first: StepResult) -> None:
    log = TensorBoardLog(tmp_path, LogOptions(scalars_every=1))
    for iteration in (1, 2):
        log.write(replace(first, iteration=iteration))
    log.close()
    log.write_hparams({"rate": 1e-3}, {"dice": 0.5}, 2)
    log.close()
    values = scalars(tmp_path)
    assert list(values["loss/total"]) == [1, 2]
    assert values["final/dice"] == {2: 0.5}


def test_scores_are_written_by_score_output_and_class(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path)
    scores = {"0_output": {"er": {"dice": 0.5, "iou": math.nan}}, "1_output": {"mito": {"dice": 0.25}}}
    log.write_scores(20, scores)
    log.close()
    assert scalars(tmp_path) == {"validation/dice/0_output/er": {20: 0.5}, "validation/dice/1_output/mito": {20: 0.25}}


def test_the_config_is_a_block_of_code(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path)
    log.write_config("seed: 1\nclasses: [mito, er]\n")
    log.close()
    (event,) = events(tmp_path).Tensors("config/text_summary")
    assert event.tensor_proto.string_val[0].decode() == "```yaml\nseed: 1\nclasses: [mito, er]\n```"


def test_hyper_parameters_and_what_came_of_them_are_of_this_run(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path)
    given = {"rate": 1e-3, "layers": 2, "ema": True, "net": "scalenet"}
    log.write_hparams(given, {"dice": 0.5, "iou": math.nan}, 7)
    log.close()
    assert all(path.is_file() for path in tmp_path.iterdir())  # no run within the run
    assert scalars(tmp_path) == {"final/dice": {7: 0.5}}
    metadata = events(tmp_path).SummaryMetadata
    start = HParamsPluginData.FromString(metadata("_hparams_/session_start_info").plugin_data.content)
    found = start.session_start_info.hparams
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()} == given
    experiment = HParamsPluginData.FromString(metadata("_hparams_/experiment").plugin_data.content).experiment
    assert [info.name.tag for info in experiment.metric_infos] == ["final/dice"]


def test_the_graph_has_the_nodes_that_run_with_their_shapes(tmp_path: Path) -> None:
    net = small_net()
    plan = plan_for(net, ROIS)
    log = TensorBoardLog(tmp_path)
    log.write_graph(net, plan)
    log.close()
    nodes = {node.name: node for node in events(tmp_path).Graph().node}
    steps = {step.node for step in plan.steps}
    assert steps < set(net.nodes)  # convolutions do some of the joining themselves
    assert set(nodes) == {*net.input_keys, *steps}

    def sources(name: str) -> set[str]:
        """The nodes that a node reads from, past those that do not run; here every node has the name of its output."""
        keys = net.nodes[name].input_keys
        return set().union(*({key} if key in nodes else sources(key) for key in keys))

    for name in steps:
        assert nodes[name].op == type(net.nodes[name]).__name__
        assert set(nodes[name].input) == sources(name)
    for name, tensor in ((tensor.name, tensor) for tensor in plan.tensors):
        (shape,) = nodes[name].attr["_output_shapes"].list.shape
        assert [dim.size for dim in shape.dim] == [-1, tensor.channels, *tensor.shape]
    assert nodes["1_output"].attr["voxel_size"].s.decode() == "8 × 8 nm"


def test_the_graph_is_that_of_the_requested_outputs(tmp_path: Path) -> None:
    net = small_net()
    log = TensorBoardLog(tmp_path)
    log.write_graph(net, plan_for(net, {PREDICTION["0"]: ROIS[PREDICTION["0"]]}))
    log.close()
    nodes = {node.name for node in events(tmp_path).Graph().node}
    assert nodes
    assert all(name.startswith("0_") for name in nodes)


def test_images_are_the_pictures_of_every_output_with_its_classes(tmp_path: Path, first: StepResult) -> None:
    log = TensorBoardLog(tmp_path, LogOptions(images_every=1), intensities=(0.25, 0.75), channels={"1_output": CLASSES})
    log.write(first)
    log.close()
    logged = events(tmp_path)
    names: Mapping[str, tuple[str, ...]] = {"0_output": (), "1_output": CLASSES}
    for name, classes in names.items():
        (event,) = logged.Images(f"raw, target, prediction, mask/{name}")
        shown = imread(BytesIO(event.encoded_image_string), format="png")[..., :3]
        expected = training_picture(name, first, classes, (0.25, 0.75))
        assert (event.height, event.width, 3) == expected.shape
        np.testing.assert_array_equal(np.rint(shown * 255), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_memory_of_the_gpu(tmp_path: Path, first: StepResult) -> None:
    outputs, targets, masks = (
        {name: tensor.cuda() for name, tensor in of.items()} for of in (first.outputs, first.targets, first.masks)
    )
    torch.empty(2**28, device="cuda", dtype=torch.uint8)  # a quarter, let go of at once
    values = written(tmp_path, replace(first, outputs=outputs, targets=targets, masks=masks))
    assert set(values) == SCALARS | {"memory/device"}
    assert 0.25 <= values["memory/device"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": {"scalars_every": 0}}, "LogOptions: scalars_every is 0: it has to be greater than 0"),
        ({"options": {"images_every": -1}}, "LogOptions: images_every is -1: it has to be greater than 0"),
        ({"intensities": (1.0, 1.0)}, r"\(1\.0, 1\.0\).* have to differ"),
        ({"channels": {"output": ("er", "er")}}, "er, er"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorBoardLog(tmp_path, LogOptions(**arguments.pop("options", {})), **arguments)
