"""A network as the model of gunpowder's own torch nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gunpowder as gp
import torch
from torch import Tensor, nn

from scalenet_gp.errors import PipelineError
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet

__all__ = ["GunpowderModel"]


class GunpowderModel(nn.Module):
    """Wraps a network for one plan as a model for ``gunpowder.torch.Train`` and ``gunpowder.torch.Predict``.

    gunpowder's nodes do not know the ROIs inside a model: they pass the request upstream as it is. So a request has to
    name the inputs beside the outputs, each with the plan's ROI or with a shifted one of the same shape.
    :meth:`request` makes such a request. :class:`scalenet_gp.nodes.Train` and :class:`scalenet_gp.nodes.Predict` find
    the inputs themselves.

    Inputs and outputs are named as in the network, or numbered in the order of ``plan.inputs`` and ``plan.outputs``.
    Arrays are (channel, Z, Y, X) or (batch, channel, Z, Y, X), floats. The network computes and returns them in the
    precision of its weights, but bfloat16, which numpy does not have, is returned as float32.

    Args:
        net: the network; the module shares its weights.
        plan: a plan of the network.

    Attributes:
        net: the network.
        plan: the plan.

    Raises:
        GraphError: the plan is another network's.
        PipelineError: an output has the name of another attribute of the module, such as ``"plan"`` or ``"training"``:
            gunpowder finds an output as the attribute of its name.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)])
        >>> model = GunpowderModel(net, net.smallest_plan)
        >>> raw, prediction = gp.ArrayKey("RAW"), gp.ArrayKey("PREDICTION")
        >>> model.request({"input": raw, "output": prediction})[raw].roi == net.smallest_plan.inputs["input"]
        True
    """

    def __init__(self, net: LeibNet, plan: Plan) -> None:
        super().__init__()
        self.net = net
        self.plan = plan
        net.graph.check_plan(plan)  # before the first batch
        taken = [name for name in plan.outputs if hasattr(self, name)]
        if taken:
            raise PipelineError(
                f"gunpowder finds an output of a model as the attribute of its name, and a {type(self).__name__} has "
                f"attributes {taken} that are something else; give these outputs of {net.name} other names"
            )
        self._passing_on = {name: nn.Identity() for name in plan.outputs}

    def __getattr__(self, name: str) -> Any:
        """Return the module of an output's name: gunpowder hooks into it to get the output."""
        passing_on = self.__dict__.get("_passing_on", {})
        return passing_on[name] if name in passing_on else super().__getattr__(name)

    def forward(self, *numbered: Tensor, **named: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the plan, with a batch axis if the inputs have one.

        Args:
            numbered: the first inputs of the plan.
            named: the others.

        Raises:
            PipelineError: an input is missing, unknown or given twice, holds integers, or has other axes than planned.
            GraphError: an input has other channels or voxels than planned.
        """
        names = tuple(self.plan.inputs)
        inputs = dict(zip(names, numbered, strict=False)) | named
        if len(numbered) + len(named) != len(inputs) or set(inputs) != set(names):
            raise PipelineError(
                f"{self.net.name} takes {', '.join(names)} by number or name, not {len(numbered)} by number and "
                f"{', '.join(named) or 'none'} by name"
            )
        axes = {inputs[name].ndim for name in names}
        if axes not in ({self.net.dims + 1}, {self.net.dims + 2}):
            shapes = ", ".join(f"{name!r} {tuple(inputs[name].shape)}" for name in names)
            raise PipelineError(
                f"all inputs are (batch, channel, {self.net.dims} spatial axes) or all are (channel, {self.net.dims} "
                f"spatial axes), but the shapes are {shapes}"
            )
        integers = [name for name in names if not inputs[name].is_floating_point()]
        if integers:
            raise PipelineError(
                f"{integers} hold integers; a network takes floats, so put gunpowder's Normalize before it"
            )
        batched = axes == {self.net.dims + 2}
        dtype = self._dtype
        outputs = self.net({name: (x if batched else x[None]).to(dtype) for name, x in inputs.items()}, self.plan)
        made = {name: output.to(self._returned_dtype) for name, output in outputs.items()}
        return tuple(self._passing_on[name](output if batched else output[0]) for name, output in made.items())

    def request(self, arrays: Mapping[str, gp.ArrayKey]) -> gp.BatchRequest:
        """Return a request for the plan's ROIs.

        Args:
            arrays: the array of each input of the plan, and of each requested output.

        Raises:
            PipelineError: an input of the plan has no array, a name is unknown, or two names share an array.
        """
        rois = {**self.plan.inputs, **self.plan.outputs}
        unknown = [name for name in arrays if name not in rois]
        missing = [name for name in self.plan.inputs if name not in arrays]
        if unknown or missing:
            raise PipelineError(
                f"the plan has {', '.join(rois)}; it has nothing called {unknown}, and {missing} are given no array"
            )
        if len(set(arrays.values())) < len(arrays):
            listed = ", ".join(f"{name!r}: {key}" for name, key in arrays.items())
            raise PipelineError(f"each input and output needs an array of its own, not {listed}")
        request = gp.BatchRequest()
        for name, key in arrays.items():
            request[key] = gp.ArraySpec(roi=rois[name])
        return request

    def array_specs(self, outputs: Mapping[str, gp.ArrayKey]) -> dict[gp.ArrayKey, gp.ArraySpec]:
        """Return the argument ``array_specs`` of gunpowder's nodes, which tells them the voxel size of outputs.

        Args:
            outputs: the array of each output.

        Raises:
            PipelineError: the plan has no output of a name.
        """
        unknown = [name for name in outputs if name not in self.plan.outputs]
        if unknown:
            raise PipelineError(f"the plan has the outputs {', '.join(self.plan.outputs)}, but no {unknown}")
        dtype = torch.empty(0, dtype=self._returned_dtype).numpy().dtype
        return {
            key: gp.ArraySpec(voxel_size=self.net.voxel_size[name], interpolatable=True, dtype=dtype)
            for name, key in outputs.items()
        }

    @property
    def _dtype(self) -> torch.dtype:
        weights = (parameter.dtype for parameter in self.net.parameters() if parameter.is_floating_point())
        return next(weights, torch.get_default_dtype())

    @property
    def _returned_dtype(self) -> torch.dtype:
        return torch.float32 if self._dtype is torch.bfloat16 else self._dtype
