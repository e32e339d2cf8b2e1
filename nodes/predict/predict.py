"""A network in a gunpowder pipeline, for prediction."""

from __future__ import annotations

from collections.abc import Mapping

import gunpowder as gp
import numpy as np
import torch

from scalenet_gp.kernels import choose_device
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.nodes.arrays import NetworkArrays

__all__ = ["Predict"]


class Predict(gp.BatchFilter):
    """Computes the requested outputs from exactly the inputs that they depend on.

    Predictions of an output that ends in a Sigmoid or Softmax are probabilities.

    The node announces the ROI in which each output can be computed from the arrays upstream. So gunpowder's ``Scan``
    goes over all of it if nothing is requested, and ``ZarrWrite`` and ``Hdf5Write`` make their datasets of its size.

    Args:
        net: the network; it is moved to ``device`` when the pipeline is built, and predicts in evaluation mode.
        inputs: the array of every input, (channel, Z, Y, X) or (batch, channel, Z, Y, X), floats.
        outputs: the array of every output that can be requested; float32, axes as the inputs.
        device: name of a torch device. By default it is the first GPU, or the processor where there is none.

    Attributes:
        net: the network.
        arrays: the arrays of the network's tensors.
        device: the device.

    Raises:
        PipelineError: an input has no array, or a name is unknown; when the pipeline is built: an array upstream has
            another voxel size or number of axes than the network, or is too small for a voxel of an output.
        ArgumentError: the device is not there.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)])
        >>> raw, prediction = gp.ArrayKey("RAW"), gp.ArrayKey("PREDICTION")
        >>> node = Predict(net, {"input": raw}, {"output": prediction}, device="cpu")
        >>> request = gp.BatchRequest({prediction: gp.ArraySpec(roi=net.smallest_plan.outputs["output"])})
        >>> node.prepare(request)[raw].roi == net.smallest_plan.inputs["input"]
        True
    """

    def __init__(
        self,
        net: LeibNet,
        inputs: Mapping[str, gp.ArrayKey],
        outputs: Mapping[str, gp.ArrayKey],
        device: str | torch.device | None = None,
    ) -> None:
        self.net = net
        self.arrays = NetworkArrays(net, inputs, outputs)
        self.device = choose_device(device)

    def setup(self) -> None:
        self.arrays.check_upstream(self.spec)
        for name, key in self.arrays.outputs.items():
            voxel_size = self.net.voxel_size[name]
            roi = self.arrays.largest_output(name, self.spec)
            self.provides(key, gp.ArraySpec(roi, voxel_size, interpolatable=True, dtype=np.float32))
        self.enable_autoskip()
        self.net.to(self.device)

    def prepare(self, request: gp.BatchRequest) -> gp.BatchRequest:
        return self.arrays.input_request(self.arrays.plan(request))

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> gp.Batch:
        plan = self.arrays.plan(request)
        self.net.eval()  # for every batch, because a Train node may share the network
        with torch.inference_mode():
            outputs = self.net(self.arrays.tensors(batch, plan, self.device), plan)
        made = gp.Batch()
        self.arrays.add_outputs(made, outputs, plan, self.arrays.batched(batch, plan))
        return made
