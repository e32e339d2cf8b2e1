"""The tester that every builder of networks goes through."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from funlib.geometry import Roi

from scalenet_gp.leibnet import LeibNet
from scalenet_gp.testing.node_tester import crop_inputs, dependence, halves
from scalenet_gp.testing.tensors import crop_to_roi, random_inputs, randomize

__all__ = ["NetworkCase", "NetworkTester"]


@dataclass(frozen=True)
class NetworkCase:
    """One network of a builder.

    Args:
        build: builds the network, given the number of spatial axes, 2 or 3. Rectifiers and maxima hide voxels from a
            gradient, so choose an activation without zeros and mean pooling.
        output: the output whose request is followed; the finest should be.
        channels: the expected channels of some tensors by name, in any number of dimensions.
        dims: the numbers of axes that it can have.

    Example:
        >>> from scalenet_gp import build_unet
        >>> NetworkCase(lambda dims: build_unet((8,) * dims, base_nc=1), channels={"bottleneck": 4}).net(2).name
        'UNet'
    """

    build: Callable[[int], LeibNet]
    output: str = "output"
    channels: Mapping[str, int] = field(default_factory=dict)
    dims: tuple[int, ...] = (2, 3)

    def net(self, dims: int) -> LeibNet:
        """Return the network with random weights in float64 and evaluation mode."""
        return randomize(self.build(dims))

    def box(self, net: LeibNet) -> Roi:
        """Return a box of two voxels of the output and more along the last axis, off the coarse lattices."""
        size = net.voxel_size[self.output]
        return Roi(size, [length * (2, 3)[axis == net.dims - 1] for axis, length in enumerate(size)])


class NetworkTester:
    """The tests of networks that builders make; subclass it as ``class TestMyNetworks(NetworkTester)``.

    It tests the channels of tensors, that the planned inputs are exactly those that the output depends on (by
    autograd), that tiles agree with the whole where the network says so, that the spec rebuilds it, and that gradients
    reach every parameter.

    Attributes:
        cases: by name, a :class:`NetworkCase` for every network.

    Example:
        >>> from scalenet_gp import build_unet
        >>> class TestUNet(NetworkTester):
        ...     cases = {"deep": NetworkCase(lambda dims: build_unet((8,) * dims, base_nc=1, activation="Softplus"))}
        >>> TestUNet().test_the_spec_rebuilds_it((TestUNet.cases["deep"], 2))
    """

    cases: ClassVar[dict[str, NetworkCase]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            runs = {f"{name}-{dims}d": (case, dims) for name, case in self.cases.items() for dims in case.dims}
            metafunc.parametrize(("case", "dims"), runs.values(), ids=runs)
        if "any_dims" in metafunc.fixturenames:  # for rules that do not depend on their number
            metafunc.parametrize("any_dims", [(case, min(case.dims)) for case in self.cases.values()], ids=self.cases)

    def test_the_planned_inputs_are_what_the_output_depends_on(self, case: NetworkCase, dims: int) -> None:
        """Every face of the planned ROIs matters by autograd, and, computed as part of more, nothing outside."""
        net = case.net(dims)
        assert {name: net.specs[name].channels for name in case.channels} == case.channels
        request = {case.output: case.box(net)}
        plan = net.plan(request)
        assert dependence(net, request, request, samples=2) == plan.inputs, "not every face matters"
        if net.tileable:
            size = net.voxel_size[case.output]
            more = {key: roi.grow(size, size) for key, roi in request.items()}
            assert dependence(net, more, request, samples=2) == plan.inputs, "other than the plan's inputs matter"

    def test_tiles_agree_with_the_whole_where_the_network_says_so_and_only_there(
        self, case: NetworkCase, dims: int
    ) -> None:
        net = case.net(dims)
        size, box = net.voxel_size[case.output], case.box(net)
        whole = net.plan({case.output: box})
        inputs = random_inputs(whole, batch=2)
        worst = 0.0
        with torch.no_grad():
            together = net(inputs, whole)[case.output]
            for tile in halves(box, size, 1)[:: 2**dims - 1]:  # the first and the last
                plan = net.plan({case.output: tile})
                alone = net(crop_inputs(net, inputs, whole, plan), plan)[case.output]
                worst = max(worst, (alone - crop_to_roi(together, box, tile, size)).abs().max().item())
        assert (worst < 1e-9) == net.tileable, f"tileable is {net.tileable}, and tiles differ by {worst}"

    def test_the_spec_rebuilds_it(self, any_dims: tuple[NetworkCase, int]) -> None:
        case, dims = any_dims
        net = case.net(dims)
        twin = LeibNet.from_spec(json.loads(json.dumps(net.to_spec())))
        assert (twin.fingerprint, twin.name) == (net.fingerprint, net.name)
        assert {name: tensor.shape for name, tensor in twin.state_dict().items()} == {
            name: tensor.shape for name, tensor in net.state_dict().items()
        }

    def test_gradients_reach_every_parameter(self, any_dims: tuple[NetworkCase, int]) -> None:
        case, dims = any_dims
        net = case.net(dims).train()
        plan = net.smallest_plan
        made = net(random_inputs(plan, batch=2), plan)
        torch.stack([tensor.square().mean() for tensor in made.values()]).sum().backward()
        silent = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
        assert silent == []
