"""Pictures of training batches, against pictures worked out pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from matplotlib.colors import to_rgb

from scalenet_gp import LeibNet, TensorSpec, build_scalenet
from scalenet_gp.layers import ConvPass, Upsample
from scalenet_gp.pictures.panels import class_colors
from scalenet_gp.testing import voxel_centers
from scalenet_gp.training import UpdateResult
from scalenet_gp.training.step_picture import training_picture
from scalenet_gp.training.step_result import StepResult
from tests.nodes.train.two_scales import small_net, texture

SKY = np.asarray(to_rgb("deepskyblue"))
STEP = 0.51 / 255  # eight bits
Panels = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def record(net: LeibNet, rois: dict[str, Roi]) -> StepResult:
    """A batch of two samples of texture; targets and masks at random."""
    random = torch.Generator().manual_seed(0)
    plan = net.plan(rois)
    inputs = {}
    for name, planned in plan.input_tensors.items():
        raw = torch.from_numpy(texture(voxel_centers(planned.roi, Coordinate(planned.voxel_size))))
        inputs[name] = torch.stack([raw, torch.zeros_like(raw)]).expand(-1, planned.channels, *raw.shape[1:])
    outputs = net(inputs, plan)
    targets, masks = (
        {name: (torch.rand(output.shape, generator=random) > 0.5).float() for name, output in outputs.items()}
        for _ in range(2)
    )
    step = UpdateResult(taken=True, skipped=False)
    return StepResult(
        1, 1.0, {}, 1.0, step, 0, 2, 1.0, 0.0, plan, inputs, outputs, targets, masks, lambda *_: torch.zeros(())
    )


def panels(picture: np.ndarray, shape: tuple[int, ...], factor: int) -> Panels:
    """The four, which white keeps apart, in [0, 1]."""
    assert picture.dtype == np.uint8
    picture = picture / 255
    height, width = (size * factor for size in shape)
    assert picture.shape == (height, 4 * width + 6, 3)
    for index in (1, 2, 3):
        np.testing.assert_array_equal(picture[:, index * (width + 2) - 2 : index * (width + 2)], 1)
    first, second, third, fourth = (picture[:, i * (width + 2) :][:, :width] for i in range(4))
    return first, second, third, fourth


def by_hand(raw: np.ndarray, classes: np.ndarray, bright: np.ndarray, factor: int) -> np.ndarray:
    """Classes (C, Y, X) over ``raw`` (Y, X), six tenths opaque, halved where not ``bright``, voxel by voxel."""
    picture = np.empty((*raw.shape, 3))
    for voxel in np.ndindex(raw.shape):
        color = np.full(3, raw[voxel])
        for value, of_class in zip(classes[:, *voxel], class_colors(len(classes)), strict=True):
            color = (1 - 0.6 * value) * color + 0.6 * value * of_class
        picture[voxel] = color * (1 if bright[voxel] else 0.5)
    return np.kron(picture, np.ones((factor, factor, 1)))


def field_by_hand(roi: Roi, voxel_size: Coordinate, field: Roi, factor: int) -> np.ndarray:
    """Pixels (Y, X) within 3 of the edge of the field, from inside; y and x alone."""
    height, width = (int(s) * factor for s in (roi.shape / voxel_size)[-2:])
    line = np.zeros((height, width), bool)
    edges = [
        (
            round((field.begin[a] - roi.begin[a]) / voxel_size[a] * factor),
            round((field.end[a] - roi.begin[a]) / voxel_size[a] * factor),
        )
        for a in (-2, -1)
    ]
    for y, x in np.ndindex(height, width):
        inside = all(begin <= at < end for at, (begin, end) in zip((y, x), edges, strict=True))
        near = any(at - begin < 3 or end - 1 - at < 3 for at, (begin, end) in zip((y, x), edges, strict=True))
        line[y, x] = inside and near
    return line


def is_line(panel: np.ndarray) -> np.ndarray:
    return np.isclose(panel, SKY, atol=STEP).all(axis=-1)


@pytest.mark.parametrize("name", ["0_output", "1_output"])
def test_raw_target_prediction_and_mask_in_two_dimensions(name: str) -> None:
    rois = {"0_output": Roi((-32, 16), (80, 64)), "1_output": Roi((400, 400), (56, 72))}  # far from each other
    batch = record(small_net(), rois)
    batch.targets[name][0, :, :2] = 0
    batch.masks[name][0, :, :3] = 0
    shape = tuple(batch.outputs[name].shape[2:])
    factor = {"0_output": 39, "1_output": 22}[name]  # 192 / 5, 192 / 9
    raw, target, prediction, mask = panels(training_picture(name, batch, ()), shape, factor)
    size = Coordinate(batch.plan.tensor(name).voxel_size)
    expected = texture(voxel_centers(rois[name], size))[0]
    true, annotated = batch.targets[name][0].numpy(), batch.masks[name][0].numpy()
    nothing = np.zeros((0, *shape))
    everywhere = np.ones(shape)
    np.testing.assert_allclose(raw, by_hand(expected, nothing, everywhere, factor), atol=STEP)
    np.testing.assert_allclose(target, by_hand(expected, true, annotated.any(axis=0), factor), atol=STEP)
    predicted = batch.outputs[name][0].detach().numpy()
    np.testing.assert_allclose(prediction, by_hand(expected, predicted, everywhere, factor), atol=STEP)
    np.testing.assert_allclose(mask, by_hand(0.8 * annotated.mean(axis=0), nothing, everywhere, factor), atol=STEP)


def three_dimensional(finer: Roi) -> StepResult:
    common = {"base_nc": 1, "downsample_factors": [(1, 2, 2)], "output_nc": 2, "norm_layer": None}
    torch.manual_seed(0)
    net = build_scalenet([{"top_resolution": size, **common} for size in ((32, 32, 32), (16, 8, 8))])
    return record(net, {"0_output": Roi((-96, -96, -128), (192, 192, 256)), "1_output": finer})


def test_in_three_dimensions_the_section_amid_z_is_shown() -> None:
    batch = three_dimensional(Roi((-32, -48, -48), (80, 80, 96)))
    for name, middle, factor in (("0_output", 3, 24), ("1_output", 2, 16)):
        shape = tuple(batch.outputs[name].shape[3:])
        raw, target, prediction, mask = panels(training_picture(name, batch, ()), shape, factor)
        size = Coordinate(batch.plan.tensor(name).voxel_size)
        expected = texture(voxel_centers(batch.plan.outputs[name], size))[0][middle]
        true, annotated, predicted = (
            of[name][0, :, middle].detach().numpy() for of in (batch.targets, batch.masks, batch.outputs)
        )
        outlined = is_line(raw)
        grey = by_hand(expected, np.zeros((0, *shape)), np.ones(shape), factor)
        np.testing.assert_allclose(raw[~outlined], grey[~outlined], atol=STEP)
        np.testing.assert_allclose(target, by_hand(expected, true, annotated.any(axis=0), factor), atol=STEP)
        np.testing.assert_allclose(prediction, by_hand(expected, predicted, np.ones(shape), factor), atol=STEP)
        assert np.unique(mask) == pytest.approx([0, 0.4, 0.8], abs=STEP)


@pytest.mark.parametrize(
    ("begin", "shape"),
    [
        ((-32, -48, -48), (80, 80, 96)),  # within
        ((-32, -40, -8), (80, 80, 96)),  # between the coarse voxels
        ((16, -160, 64), (80, 160, 160)),  # beyond two edges; the section begins at z = 0 and ends at 32
        ((-32, -96, -128), (80, 192, 256)),  # all of it
    ],
)
def test_the_field_of_the_finer_output_is_outlined_on_the_raw_data(
    begin: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    field = Roi(begin, shape)
    batch = three_dimensional(field)
    raw, *others = panels(training_picture("0_output", batch, ()), (6, 8), 24)
    expected = field_by_hand(batch.plan.outputs["0_output"], Coordinate(32, 32, 32), field, 24)
    assert expected.any()
    np.testing.assert_array_equal(is_line(raw), expected)
    assert not any(is_line(panel).any() for panel in others)
    assert not is_line(training_picture("1_output", batch, ()) / 255).any()  # there is none finer


@pytest.mark.parametrize(
    ("begin", "shape"),
    [((-80, -48, -48), (80, 80, 96)), ((32, -48, -48), (80, 80, 96)), ((-32, 160, 0), (80, 80, 96))],
)
def test_a_field_that_the_section_does_not_cut_is_not_outlined(begin: tuple[int, ...], shape: tuple[int, ...]) -> None:
    batch = three_dimensional(Roi(begin, shape))
    assert not is_line(training_picture("0_output", batch, ()) / 255).any()


def test_of_several_finer_outputs_the_next_is_outlined() -> None:
    torch.manual_seed(0)
    common = {"base_nc": 1, "downsample_factors": [(2, 2)], "output_nc": 1, "norm_layer": None}
    net = build_scalenet([{"top_resolution": (size, size), **common} for size in (32, 16, 8)])
    fields = {
        "0_output": Roi((0, 0), (256, 256)),
        "1_output": Roi((64, 64), (128, 128)),
        "2_output": Roi((96, 96), (64, 64)),
    }
    batch = record(net, fields)
    raw = panels(training_picture("0_output", batch, ()), (8, 8), 24)[0]
    expected = field_by_hand(fields["0_output"], Coordinate(32, 32), fields["1_output"], 24)
    np.testing.assert_array_equal(is_line(raw), expected)


def test_a_large_section_is_not_enlarged_and_the_legend_is_below() -> None:
    batch = record(small_net(), {"1_output": Roi((0, 0), (200 * 8, 100 * 8))})
    row = training_picture("1_output", batch, ())
    panels(row, (200, 100), 1)
    picture = training_picture("1_output", batch, ("mito", "er"))
    assert picture.shape[0] > 200
    np.testing.assert_array_equal(picture[:200, : row.shape[1]], row)
    for color in class_colors(2):
        assert np.isclose(picture[200:] / 255, color, atol=0.01).all(axis=-1).sum() > 50


def test_nothing_annotated_and_nothing_finite_can_be_shown() -> None:
    batch = record(small_net(), {"1_output": Roi((0, 0), (96, 96))})
    outputs = {"1_output": batch.outputs["1_output"] * torch.nan}
    inputs = {name: tensor * torch.nan for name, tensor in batch.inputs.items()}
    masks = {"1_output": torch.zeros_like(batch.masks["1_output"])}
    raw, target, prediction, mask = panels(
        training_picture("1_output", replace(batch, inputs=inputs, outputs=outputs, masks=masks), ()), (12, 12), 16
    )
    for black in (raw, prediction, mask):
        assert not black.any()
    assert 0 < target.max() <= 0.5 + STEP


def test_an_output_without_raw_data_of_its_scale_is_shown_on_black() -> None:
    nodes = [
        Upsample(["0_input"], ["finer"], (2, 2)),
        ConvPass(["finer"], ["1_output"], 1, 2, [(3, 3)], activation="Sigmoid"),
    ]
    net = LeibNet(nodes, {"0_input": TensorSpec((16, 16), 1)}, ["1_output"])
    batch = record(net, {"1_output": Roi((0, 0), (96, 96))})
    raw, _, prediction, _ = panels(training_picture("1_output", batch, ()), (12, 12), 16)
    assert not raw.any()
    predicted = batch.outputs["1_output"][0].detach().numpy()
    expected = by_hand(np.zeros((12, 12)), predicted, np.ones((12, 12)), 16)
    np.testing.assert_allclose(prediction, expected, atol=STEP)


def test_each_output_is_shown_on_the_input_that_covers_it() -> None:
    """Two inputs of one voxel size, far from each other."""
    names = ("0", "1")
    nodes = [ConvPass([f"{n}_input"], [f"{n}_output"], 1, 1, [(3, 3)], activation="Sigmoid") for n in names]
    specs = {f"{n}_input": TensorSpec((8, 8), 1) for n in names}
    net = LeibNet(nodes, specs, [f"{n}_output" for n in names], name="Pair")
    rois = {"0_output": Roi((0, 0), (96, 96)), "1_output": Roi((800, 800), (96, 96))}
    batch = record(net, rois)
    for name, roi in rois.items():
        raw = panels(training_picture(name, batch, ()), (12, 12), 16)[0]
        expected = texture(voxel_centers(roi, Coordinate(8, 8)))[0]
        np.testing.assert_allclose(raw[::16, ::16, 0], expected, atol=STEP)


def test_intensities_are_those_of_black_and_white() -> None:
    batch = record(small_net(), {"1_output": Roi((0, 0), (96, 96))})
    raw = panels(training_picture("1_output", batch, (), (0.25, 0.75)), (12, 12), 16)[0]
    expected = texture(voxel_centers(Roi((0, 0), (96, 96)), Coordinate(8, 8)))[0]
    np.testing.assert_allclose(raw[::16, ::16, 1], np.clip((expected - 0.25) / 0.5, 0, 1), atol=STEP)
