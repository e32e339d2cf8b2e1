"""What TensorBoard shows of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from scalenet_gp.nodes.learning.panels import grey, overlay, side_by_side
from scalenet_gp.plan import Plan

__all__ = ["TrainingLog"]


class TrainingLog:
    """Losses and learning rate as scalars; raw data, target and prediction of every scale as images.

    Args:
        folder: where TensorBoard's event files go; ``tensorboard --logdir`` shows it.
        scalars_every: iterations from one set of scalars to the next.
        images_every: iterations from one set of images to the next.
        intensities: of the raw data, those that are shown as black and white.
    """

    def __init__(
        self,
        folder: str | Path,
        scalars_every: int = 1,
        images_every: int = 100,
        intensities: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if scalars_every < 1 or images_every < 1:
            raise ValueError(f"scalars_every {scalars_every} and images_every {images_every} have to be from 1 up")
        self.folder = Path(folder)
        self.scalars_every = scalars_every
        self.images_every = images_every
        self.intensities = intensities
        self._open_writer: SummaryWriter | None = None

    def write(
        self,
        iteration: int,
        loss: float,
        losses: Mapping[str, float],
        optimizer: torch.optim.Optimizer,
        plan: Plan,
        inputs: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
    ) -> None:
        """Write what is due after ``iteration`` steps. Tensors are (B, C, Z, Y, X)."""
        if iteration % self.scalars_every == 0:
            self._writer.add_scalar("loss/total", loss, iteration)
            for name, value in losses.items():
                self._writer.add_scalar(f"loss/{name}", value, iteration)
            self._writer.add_scalar("learning_rate", optimizer.param_groups[0]["lr"], iteration)
        if iteration % self.images_every == 0:
            for name in outputs:
                raw = _raw(name, plan, inputs, outputs[name])
                black, white = self.intensities
                picture = _picture((raw - black) / (white - black), targets[name], masks[name], outputs[name])
                self._writer.add_image(f"raw, target, prediction/{name}", picture, iteration, dataformats="HWC")

    def close(self) -> None:
        """Write what is waiting to be written."""
        if self._open_writer is not None:
            self._open_writer.close()
            self._open_writer = None

    @property
    def _writer(self) -> SummaryWriter:
        if self._open_writer is None:
            self._open_writer = SummaryWriter(str(self.folder))
        return self._open_writer


def _raw(name: str, plan: Plan, inputs: Mapping[str, Tensor], prediction: Tensor) -> Tensor:
    """What the batch's first sample holds where and as finely as the output, (Z, Y, X); zero if no input does."""
    roi, voxel_size = plan.outputs[name], plan.tensor(name).voxel_size
    for key, planned in plan.input_tensors.items():
        if planned.voxel_size == voxel_size and planned.roi.contains(roi):
            return inputs[key][0, 0][tuple(slice(*bounds) for bounds in planned.crop_to(roi))]
    return torch.zeros_like(prediction[0, 0])


def _picture(raw: Tensor, target: Tensor, mask: Tensor, prediction: Tensor) -> np.ndarray:
    """The central section of the batch's first sample: raw, target (unannotated dimmed) and prediction, (Y, X, 3)."""
    dims = raw.ndim
    background = grey(_section(raw, dims))
    annotated = np.any(_section(mask[0], dims) > 0, axis=0)[..., np.newaxis]
    true = overlay(_section(target[0], dims), background) * (0.5 + 0.5 * annotated)
    return side_by_side(background, true, overlay(_section(prediction[0], dims), background))


def _section(tensor: Tensor, dims: int) -> np.ndarray:
    """The central section (..., Y, X) of a tensor (..., Z, Y, X); in two dimensions all of it."""
    array = tensor.detach().float().cpu().numpy()
    return array[..., array.shape[-3] // 2, :, :] if dims == 3 else array
