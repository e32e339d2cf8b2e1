"""What TensorBoard shows: the event files are read back."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from gunpowder import ArrayKey, Batch, Coordinate, Roi, build
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scalenet_gp import LeibNet, TensorSpec, build_unet
from scalenet_gp.kinds import ConvPass, Upsample
from scalenet_gp.nodes.learning.panels import class_colours
from scalenet_gp.nodes.learning.train import Supervision, Train
from scalenet_gp.nodes.learning.training_log import TrainingLog
from tests.nodes.ramps import Field, RampSource, voxel_centres
from tests.nodes.two_scales import INPUTS, MASK, PREDICTION, RAW, ROIS, TARGET, fetch, fields, read, small_net, texture

COARSE, FINE = PREDICTION["0"], PREDICTION["1"]
SUPERVISION = {f"{name}_output": Supervision(PREDICTION[name], TARGET[name], MASK[name], weight=2) for name in "01"}


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def images(folder: Path, name: str) -> dict[int, np.ndarray]:
    """The pictures of an output by iteration, (Y, X, 3) in [0, 1]."""
    logged = events(folder).Images(f"raw, target, prediction/{name}")
    return {event.step: imread(BytesIO(event.encoded_image_string), format="png")[..., :3] for event in logged}


def run(log: TrainingLog, steps: int, rois: dict[ArrayKey, Roi] = ROIS) -> list[Batch]:
    node = Train(small_net(), INPUTS, SUPERVISION, log=log)
    with build(RampSource(fields()) + node) as pipeline:
        return [fetch(pipeline, rois) for _ in range(steps)]


def picture_by_hand(raw: np.ndarray, classes: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """Classes (C, Y, X) over ``raw`` (Y, X), six tenths opaque, halved where not ``bright``."""
    picture = np.repeat(raw[..., None], 3, axis=-1).astype(float)
    for values, colour in zip(classes, class_colours(len(classes)), strict=True):
        picture = (1 - 0.6 * values[..., None]) * picture + 0.6 * values[..., None] * colour
    return picture * np.where(bright, 1, 0.5)[..., None]


def parts(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    width = (picture.shape[1] - 4) // 3
    assert picture.shape[1] == 3 * width + 4
    for gap in (picture[:, width : width + 2], picture[:, 2 * width + 2 : 2 * width + 4]):
        np.testing.assert_array_equal(gap, 1)
    return picture[:, :width], picture[:, width + 2 : 2 * width + 2], picture[:, 2 * width + 4 :]


def test_scalars_are_the_losses_of_the_batches(tmp_path: Path) -> None:
    batches = run(TrainingLog(tmp_path), steps=3)
    read_back = events(tmp_path)
    assert set(read_back.Tags()["scalars"]) == {"loss/total", "loss/0_output", "loss/1_output", "learning_rate"}
    totals = read_back.Scalars("loss/total")
    assert [event.step for event in totals] == [batch.iteration for batch in batches] == [1, 2, 3]
    assert [event.value for event in totals] == pytest.approx([batch.loss for batch in batches], rel=1e-6)
    each = zip(read_back.Scalars("loss/0_output"), read_back.Scalars("loss/1_output"), strict=True)
    assert [2 * (one.value + other.value) for one, other in each] == pytest.approx([b.loss for b in batches], rel=1e-6)
    assert [event.value for event in read_back.Scalars("learning_rate")] == pytest.approx([1e-3] * 3)
    assert not read_back.Tags()["images"]


def test_nothing_is_written_between_the_iterations_that_are_due(tmp_path: Path) -> None:
    run(TrainingLog(tmp_path / "due", scalars_every=2, images_every=3), steps=7)
    read_back = events(tmp_path / "due")
    assert [event.step for event in read_back.Scalars("loss/total")] == [2, 4, 6]
    assert list(images(tmp_path / "due", "0_output")) == [3, 6]
    run(TrainingLog(tmp_path / "never", scalars_every=5), steps=4)
    assert not (tmp_path / "never").exists()


def test_only_what_is_trained_is_logged(tmp_path: Path) -> None:
    run(TrainingLog(tmp_path, images_every=1), steps=1, rois={FINE: ROIS[FINE]})
    assert set(events(tmp_path).Tags()["scalars"]) == {"loss/total", "loss/1_output", "learning_rate"}
    assert events(tmp_path).Tags()["images"] == ["raw, target, prediction/1_output"]


@pytest.mark.parametrize("name", ["0", "1"])
def test_images_show_raw_target_and_prediction_of_each_scale(tmp_path: Path, name: str) -> None:
    (batch,) = run(TrainingLog(tmp_path, images_every=1), steps=1)
    key = PREDICTION[name]
    raw, target, mask = (read(kind[name], ROIS[key])[0].numpy() for kind in (RAW, TARGET, MASK))
    picture = images(tmp_path, f"{name}_output")[1]
    assert picture.shape[0] == batch[key].data.shape[1]
    shown = parts(picture)
    everywhere = np.ones(raw.shape[1:])
    step = 1.01 / 255  # eight bits
    np.testing.assert_allclose(shown[0], np.repeat(raw[0][..., None], 3, axis=-1), atol=step)
    np.testing.assert_allclose(shown[1], picture_by_hand(raw[0], target, mask.any(axis=0)), atol=step)
    np.testing.assert_allclose(shown[2], picture_by_hand(raw[0], batch[key].data, everywhere), atol=step)


def test_in_three_dimensions_the_section_amid_z_is_shown(tmp_path: Path) -> None:
    raw, target, prediction = (ArrayKey(f"{kind}_3D") for kind in ("RAW", "TARGET", "PREDICTION"))

    def brightness(centres: np.ndarray) -> np.ndarray:
        return ((centres[0] + 400) / 1000 + 0.01 * texture(centres)).astype(np.float32)

    def ball(centres: np.ndarray) -> np.ndarray:
        return (np.sum(centres**2, axis=0, keepdims=True) < 40**2).astype(np.uint8)

    size = Coordinate(16, 8, 8)
    source = RampSource({raw: Field(size, brightness, True), target: Field(size, ball, False)})
    net = build_unet(size, base_nc=2, downsample_factors=[(1, 2, 2)])
    node = Train(net, {"input": raw}, {"output": Supervision(prediction, target)}, log=TrainingLog(tmp_path, 1, 1))
    roi = Roi((-48, -40, -48), (96, 80, 96))
    with build(source + node) as pipeline:
        batch = fetch(pipeline, {prediction: roi})
    centres = voxel_centres(roi, size)
    shown = parts(images(tmp_path, "output")[1])
    whole = np.ones((10, 12))
    step = 1.01 / 255
    np.testing.assert_allclose(shown[0][..., 0], brightness(centres)[0, 3], atol=step)
    np.testing.assert_allclose(
        shown[1], picture_by_hand(brightness(centres)[0, 3], ball(centres)[:, 3], whole), atol=step
    )
    predicted = picture_by_hand(brightness(centres)[0, 3], batch[prediction].data[:, 3], whole)
    np.testing.assert_allclose(shown[2], predicted, atol=step)


def test_an_output_without_raw_data_of_its_scale_is_shown_on_black(tmp_path: Path) -> None:
    torch.manual_seed(0)
    nodes = [
        Upsample(["0_input"], ["finer"], (2, 2)),
        ConvPass(["finer"], ["1_output"], 1, 2, [(3, 3)], activation="Sigmoid"),
    ]
    net = LeibNet(nodes, {"0_input": TensorSpec((16, 16), 1)}, ["1_output"])
    outputs = {"1_output": Supervision(FINE, TARGET["1"])}
    with build(RampSource(fields()) + Train(net, {"0_input": RAW["0"]}, outputs, log=TrainingLog(tmp_path, 1, 1))) as p:
        batch = fetch(p, {FINE: ROIS[FINE]})
    black, everywhere = np.zeros(batch[FINE].data.shape[1:]), np.ones(batch[FINE].data.shape[1:])
    shown = parts(images(tmp_path, "1_output")[1])
    assert not shown[0].any()
    np.testing.assert_allclose(shown[2], picture_by_hand(black, batch[FINE].data, everywhere), atol=1.01 / 255)


def test_each_output_is_shown_on_the_input_that_covers_it(tmp_path: Path) -> None:
    """Two inputs of one voxel size, far from each other."""
    nodes = [
        ConvPass(["0_input"], ["0_output"], 1, 1, [(3, 3)], activation="Sigmoid"),
        ConvPass(["1_input"], ["1_output"], 1, 2, [(3, 3)], activation="Sigmoid"),
    ]
    torch.manual_seed(0)
    net = LeibNet(nodes, {n: TensorSpec((8, 8), 1) for n in INPUTS}, ["0_output", "1_output"], name="Pair")
    inputs = dict.fromkeys(INPUTS, RAW["1"])
    data = fields() | {TARGET["0"]: Field((8, 8), fields()[TARGET["0"]].content, interpolatable=False)}
    outputs = {f"{name}_output": Supervision(PREDICTION[name], TARGET[name]) for name in "01"}
    rois = {COARSE: Roi((0, 0), (40, 40)), FINE: Roi((800, 800), (40, 48))}
    with build(RampSource(data) + Train(net, inputs, outputs, log=TrainingLog(tmp_path, 1, 1))) as pipeline:
        fetch(pipeline, rois)
    for name, key in (("0", COARSE), ("1", FINE)):
        raw = texture(voxel_centres(rois[key], (8, 8)))[0]
        np.testing.assert_allclose(parts(images(tmp_path, f"{name}_output")[1])[0][..., 0], raw, atol=1.01 / 255)


def test_a_mask_of_any_positive_value_is_annotation(tmp_path: Path) -> None:
    data = fields()
    mask = data[MASK["1"]]
    data[MASK["1"]] = Field((8, 8), lambda centres: 255 * mask.content(centres), interpolatable=False)
    shown = []
    for folder, content in (("ones", fields()), ("bytes", data)):
        node = Train(small_net(), INPUTS, SUPERVISION, log=TrainingLog(tmp_path / folder, 1, 1))
        with build(RampSource(content) + node) as pipeline:
            fetch(pipeline, ROIS)
        shown.append(images(tmp_path / folder, "1_output")[1])
    np.testing.assert_array_equal(*shown)


def test_going_on_in_the_same_folder_adds_to_it(tmp_path: Path) -> None:
    node = Train(small_net(), INPUTS, SUPERVISION, log=TrainingLog(tmp_path))
    for _ in range(2):
        with build(RampSource(fields()) + node) as pipeline:
            fetch(pipeline, ROIS)
    assert sorted(event.step for event in events(tmp_path).Scalars("loss/total")) == [1, 2]


@pytest.mark.parametrize("arguments", [{"scalars_every": 0}, {"images_every": -1}])
def test_intervals_are_positive(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="have to be from 1 up"):
        TrainingLog(tmp_path, **arguments)
