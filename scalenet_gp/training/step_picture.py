"""A picture of raw data, target, prediction and mask of a step."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from scalenet_gp.graph import Plan
from scalenet_gp.pictures import (
    Box,
    as_bytes,
    class_legend,
    enlarge,
    outline,
    overlay,
    side_by_side,
    stack_rows,
    to_grey,
)
from scalenet_gp.training.step_result import StepResult

__all__ = ["training_picture"]

_SMALLEST = 192
"""The least number of pixels of a panel's longer side."""

_FIELD_COLOR = "deepskyblue"
_FIELD_LINE = 3
"""Width in pixels: thinner lines get lost if TensorBoard shows the picture small."""

_LIGHT = 0.8
"""The brightness of a mask where all classes are annotated: darker than the white around the panel."""


def training_picture(
    name: str, result: StepResult, classes: tuple[str, ...], intensities: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    """Return a picture of the central section of a batch's first sample at one scale; in two dimensions all of it.

    It is a row of four panels, each of the ROI of that output:

    1. raw data, with an outline of the ROI of the next finer output if the section cuts it;
    2. the target, dimmed where no class is annotated;
    3. the prediction;
    4. the mask, the brighter the more classes are annotated.

    A voxel is a whole number of pixels.

    Args:
        name: name of the output.
        result: the result of a step.
        classes: names of the output's channels, for a legend. An empty tuple leaves the legend out.
        intensities: raw values that are shown as black and as white.

    Returns:
        (Y, X, 3), bytes.
    """
    dims = result.outputs[name].ndim - 2
    black, white = intensities
    background = to_grey((_section(_raw(name, result), dims) - black) / (white - black))
    true, predicted = (_section(tensors[name][0], dims) for tensors in (result.targets, result.outputs))
    annotated = _section(result.masks[name][0], dims) > 0
    dimmed = overlay(true, background) * (0.5 + 0.5 * np.any(annotated, axis=0)[..., None])
    panels = (background, dimmed, overlay(predicted, background), to_grey(_LIGHT * np.mean(annotated, axis=0)))
    factor = math.ceil(_SMALLEST / max(background.shape))
    raw, *others = (enlarge(as_bytes(panel), factor) for panel in panels)
    field = _finer_field(name, result.plan, factor)
    row = side_by_side(raw if field is None else outline(raw, field, _FIELD_COLOR, _FIELD_LINE), *others)
    return stack_rows(row, class_legend(classes, row.shape[1])) if classes else row


def _raw(name: str, result: StepResult) -> Tensor:
    """Return the first sample's raw data in the ROI and voxel size of an output, (Z, Y, X); zeros if there are none."""
    plan = result.plan
    roi, voxel_size = plan.outputs[name], plan.tensor(name).voxel_size
    for key, planned in plan.input_tensors.items():
        if planned.voxel_size == voxel_size and planned.roi.contains(roi):
            return result.inputs[key][0, 0][tuple(slice(*bounds) for bounds in planned.crop_to(roi))]
    return torch.zeros_like(result.outputs[name][0, 0])


def _section(tensor: Tensor, dims: int) -> np.ndarray:
    """Return the central section (..., Y, X) of a tensor (..., Z, Y, X); in two dimensions all of it."""
    plane = tensor[..., tensor.shape[-3] // 2, :, :] if dims == 3 else tensor
    return plane.detach().float().cpu().numpy()


def _finer_field(name: str, plan: Plan, factor: int) -> Box | None:
    """Return the box of the next finer output in the picture, in pixels; None if the section does not cut one."""
    sizes = {output: math.prod(plan.tensor(output).voxel_size) for output in plan.outputs}
    finer = [output for output, size in sizes.items() if size < sizes[name]]
    if not finer:
        return None
    field, roi = plan.outputs[max(finer, key=sizes.__getitem__)], plan.outputs[name]
    depth, height, width = (1, *plan.tensor(name).voxel_size)[-3:]
    if roi.dims == 3:
        section = roi.begin[0] + roi.shape[0] // depth // 2 * depth
        if section + depth <= field.begin[0] or field.end[0] <= section:
            return None
    top, left = (field.begin - roi.begin)[-2:]
    bottom, right = (field.end - roi.begin)[-2:]
    return (top * factor / height, bottom * factor / height), (left * factor / width, right * factor / width)
