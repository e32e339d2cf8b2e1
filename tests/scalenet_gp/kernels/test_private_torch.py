"""Names of torch that are not public: without one, results stay right and a warning says once what is lost."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.utils import flop_counter

from scalenet_gp import LeibNet, TensorSpec, build_unet
from scalenet_gp.analysis import predict_cost
from scalenet_gp.kernels import OneDnnConvolutions, private_torch
from scalenet_gp.kernels.joined_convolution import accepts_unfused_inputs
from scalenet_gp.kernels.onednn_convolutions import is_handed_over
from scalenet_gp.layers import TransformerBlock


@pytest.fixture(autouse=True)
def _warn_anew():
    private_torch._warn.cache_clear()
    yield
    private_torch._warn.cache_clear()


@pytest.fixture
def net():
    return build_unet((8, 8, 8), base_nc=4, downsample_factors=[(2, 2, 2)])


def peaks(net, **options):
    return predict_cost(net.graph, net.smallest_plan, **options)


@pytest.mark.parametrize("name", ["_select_conv_backend", "_conv_determine_backend_memory_format"])
def test_without_the_choice_of_convolutions_memory_is_predicted_without_workspace(net, monkeypatch, caplog, name):
    whole = peaks(net)
    monkeypatch.delattr(torch._C, name)
    with caplog.at_level(logging.WARNING):
        rest = peaks(net)
        peaks(net)
    assert rest.macs == whole.macs
    assert rest.weights < rest.peak < whole.peak
    assert [record.message for record in caplog.records] == [
        "this torch does not tell how it convolves: the workspace of convolutions is left out of predictions"
    ]


def test_without_fake_tensors_memory_is_predicted_on_the_meta_device(net, monkeypatch):
    whole = peaks(net, training=True)
    find = private_torch._find  # torch itself needs the names, so they are only hidden from us
    monkeypatch.setattr(
        private_torch, "_find", lambda module, name: None if name.startswith("FakeTensor") else find(module, name)
    )
    rest = peaks(net, training=True)
    assert rest.macs == whole.macs
    assert (rest.weights, rest.gradients) == (whole.weights, whole.gradients)
    assert rest.weights < rest.peak <= whole.peak
    assert not private_torch.is_fake(torch.zeros(1))


def test_without_dispatch_modes_only_results_of_modules_count(net, monkeypatch, caplog):
    whole = peaks(net)
    monkeypatch.delattr("torch.utils._python_dispatch.TorchDispatchMode")
    with caplog.at_level(logging.WARNING):
        rest = peaks(net)
    assert rest.macs == whole.macs
    assert whole.weights < rest.peak < whole.peak
    assert "this torch has no dispatch modes" in caplog.text


def test_without_its_name_convolutions_are_left_to_torch(monkeypatch):
    convolution, x = nn.Conv3d(8, 12, 3), torch.rand(1, 8, 10, 10, 10)
    with torch.no_grad():
        expected = convolution(x)
        monkeypatch.delattr(torch, "mkldnn_convolution")
        assert not is_handed_over(x, convolution.weight, convolution.bias, 0, 3)
        with OneDnnConvolutions():
            assert torch.equal(convolution(x), expected)


def test_without_the_names_of_hooks_nothing_is_fused(monkeypatch):
    layer = nn.Conv3d(1, 1, 3, padding="valid")
    assert accepts_unfused_inputs(layer)
    monkeypatch.delattr(layer, "_forward_pre_hooks")
    assert not accepts_unfused_inputs(layer)


def test_without_its_operation_attention_is_not_counted(monkeypatch, caplog):
    block = TransformerBlock(["a"], ["b"], 8, 2, dims=2)
    net = LeibNet([block], {"a": TensorSpec((8, 8), 8)}, ["b"])
    whole = peaks(net).total_macs
    monkeypatch.delattr(flop_counter, "sdpa_flop_count")
    with caplog.at_level(logging.WARNING):
        formulas = private_torch.attention_flop_formulas()
        assert peaks(net).total_macs <= whole
    assert len(formulas) == 1
    assert "attention are not counted" in caplog.text


def test_everything_private_is_found_in_this_torch(caplog):
    with caplog.at_level(logging.WARNING):
        assert len(private_torch.attention_flop_formulas()) == 2
        assert private_torch.has_fake_tensors()
        predict_cost(build_unet((8, 8), base_nc=1).graph, build_unet((8, 8), base_nc=1).smallest_plan, training=True)
    assert not caplog.records
