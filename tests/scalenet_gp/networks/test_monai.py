"""MONAI as a referee: its networks under our trainer, and their sizes. Skipped where it is not installed."""

import importlib.util
from pathlib import Path

import pytest
import torch

from scalenet_gp import LeibNet, TensorSpec
from scalenet_gp.training import ComputeConfig, Optimization, Trainer

nets = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed: pip install --no-deps monai")

PEER = Path(__file__).parents[3] / "benchmarks" / "monai_peer.py"


def parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_sizes_that_ours_are_compared_with_are_those_of_monai():
    kernels, strides, filters = [3] * 6, [1, *[2] * 5], [32, 64, 128, 256, 320, 320]
    with torch.device("meta"):
        assert parameters(nets.DynUNet(3, 1, 2, kernels, strides, strides[1:], filters)) == 31_189_410
        assert parameters(nets.AttentionUnet(3, 1, 1, (16, 32, 64), (2, 2))) == 355_281


@pytest.mark.parametrize(("network", "halvings"), [("DynUNet", 2), ("BasicUNet", 4)])
def test_our_trainer_teaches_a_network_of_monai(network, halvings):
    spec = importlib.util.spec_from_file_location("monai_peer", PEER)
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    torch.manual_seed(0)
    node = peer.MonaiNetwork(["raw"], ["made"], network, 1, 2, [(2, 2)] * halvings, (3, 3))
    net = LeibNet([node], {"raw": TensorSpec((8, 8), 1)}, ["made"])
    plan = net.plan({"made": net.smallest_plan.outputs["made"].grow((0, 0), (248, 248))})
    raw = torch.rand(2, 1, *plan.tensor("raw").shape)
    optimization = Optimization(learning_rate=0.01)
    trainer = Trainer(net, optimization=optimization, compute=ComputeConfig(device="cpu"), seed=1)
    losses = [trainer.step({"raw": raw}, {"made": raw > 0.5}, plan=plan).loss for _ in range(20)]
    assert losses[-1] < losses[0] - 0.05
    with pytest.raises(SystemExit, match="halves the voxels four times"):
        peer.MonaiNetwork(["raw"], ["made"], "BasicUNet", 1, 2, [(2, 2)], (3, 3))
