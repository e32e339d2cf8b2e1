"""Running a plan: each node in its turn on crops of what the others made; no geometry is done here."""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType

import torch
from torch import Tensor, nn

from scalenet_gp.plan import Crop, Plan

__all__ = ["Specialised", "channels_last", "execute"]


def execute(plan: Plan, nodes: Mapping[str, nn.Module], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs of ``plan``, (B, C, Z, Y, X) each, from ``tensors``, which holds its inputs and is emptied.

    A tensor in between is let go of as soon as no node needs it any more.

    Raises:
        ValueError: a node makes other than its ROI rules say.
    """
    for name in plan.inputs:
        tensors[name] = channels_last(tensors[name])
    for step in plan.steps:
        made = nodes[step.node](*(_cropped(tensors[name], crop) for name, crop in step.reads))
        made = (made,) if isinstance(made, Tensor) else made
        for (name, crop), shape, tensor in zip(step.keeps, step.makes, made, strict=True):
            if tuple(tensor.shape[2:]) != shape:
                raise ValueError(
                    f"node {step.node!r} made {tuple(tensor.shape[2:])} voxels of {name!r} where its output_roi "
                    f"says {shape}"
                )
            if crop is not None:
                tensors[name] = _cropped(tensor, crop)
        del made, tensor
        for name in step.frees:
            del tensors[name]
    planned = {tensor.name: tensor for tensor in plan.tensors}
    return {key: _cropped(tensors[key], planned[key].crop_to(roi)) for key, roi in plan.outputs.items()}


class Specialised(nn.Module):
    """A network for one plan, for :func:`torch.compile`, :func:`torch.export.export` and :func:`torch.onnx.export`.

    Takes the tensors of ``input_keys`` one after another, (B, C, Z, Y, X) each and of exactly the planned shape, and
    returns those of ``output_keys`` as a tuple. It shares its nodes, and so its weights, with the network, and is in
    the same mode, training or evaluation, as that is when it is made.

    Attributes:
        plan: the plan that it runs.
        input_keys: names of the inputs, in the order in which they are taken.
        output_keys: names of the outputs, in the order in which they are returned.
    """

    def __init__(self, plan: Plan, nodes: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.plan = plan
        self.input_keys = tuple(plan.inputs)
        self.output_keys = tuple(plan.outputs)
        self.nodes = nn.ModuleDict({step.node: nodes[step.node] for step in plan.steps})
        self.training = self.nodes.training = any(node.training for node in self.nodes.values())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The planned outputs of the planned inputs.

        Raises:
            ValueError: there are more or fewer inputs than planned.
        """
        tensors = dict(zip(self.input_keys, inputs, strict=True))
        return tuple(execute(self.plan, self.nodes, tensors).values())  # type: ignore[arg-type]


def channels_last(tensor: Tensor) -> Tensor:
    """``tensor`` (B, C, Z, Y, X) with the channels of a voxel side by side in memory, where convolutions are fast.

    torch calls both layouts of a tensor with one channel the same, but its convolutions look at the strides.
    """
    if tensor.shape[1] == 1:
        return tensor[:, 0].contiguous().unsqueeze(-1).movedim(-1, 1)
    return tensor.contiguous(memory_format=torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d)


def _cropped(tensor: Tensor, crop: Crop) -> Tensor:
    index: tuple[EllipsisType | slice, ...] = (..., *(slice(first, past) for first, past in crop))
    return tensor[index]
