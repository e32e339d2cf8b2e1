"""LatentHead and GlobalMean: through the tester, and against the formula voxel by voxel."""

import copy

import pytest
import torch

from scalenet_gp import LeibNet, TensorSpec
from scalenet_gp.layers import GlobalMean, LatentHead
from scalenet_gp.testing import NodeCase, NodeTester

SIZE = (8, 4, 4)
READ = ["f", "m", "v"]
SPECS = {"f": TensorSpec(SIZE, 2), "m": TensorSpec(SIZE, 1), "v": TensorSpec(SIZE, 1)}
SAMPLES = ["mean", "variance", "s0", "s1"]


class TestLatentHead(NodeTester):
    cases = {  # noqa: RUF012
        "one": NodeCase(lambda dims: LatentHead(READ, ["o"], 2, 1, 1, dims=dims), SPECS, dims=(2,)),
        "samples": NodeCase(
            lambda dims: LatentHead(
                READ, SAMPLES, 2, 1, 2, [3], "Softplus", "Softmax", samples=2, identifier="head", dims=dims
            ),
            SPECS,
            dims=(3,),
        ),
    }
    wrong = {  # noqa: RUF012
        "outputs": (lambda: LatentHead(READ, ["o"], 2, 1, 1, samples=1), "makes 3 outputs"),
        "seed": (lambda: LatentHead(READ, ["o"], 2, 1, 1, seed=-1), "from 0 up, not 0 and -1"),
        "channels": (lambda: LatentHead(READ, ["o"], 2, 0, 1), "latent_nc is a whole number"),
        "other channels": (lambda: net_of(LatentHead(READ, ["o"], 2, 3, 1, dims=2)), "it reads tensors of (2, 3, 3)"),
        "no such node": (lambda: net_of(LatentHead(READ, ["o"], 2, 1, 1, weights_of="p", dims=2)), "weights_of is 'p'"),
    }


class TestGlobalMean(NodeTester):
    cases = {"": NodeCase(lambda dims: GlobalMean(["a"], ["b"]), {"a": TensorSpec(SIZE, 2)}, dims=(2,))}  # noqa: RUF012


def net_of(*nodes):
    return LeibNet(nodes, {key: TensorSpec((4, 4), spec.channels) for key, spec in SPECS.items()}, outputs_of(nodes))


def outputs_of(nodes):
    return [key for node in nodes for key in node.output_keys]


def tensors(dims=2, batch=2):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, spec.channels, *(3, 4, 2)[:dims], generator=generator) for spec in SPECS.values()]


def test_samples_are_those_of_the_formula_the_same_for_any_number():
    few, many = (
        LatentHead(READ, ["mean", "variance", *(f"s{i}" for i in range(n))], 2, 1, 1, samples=n, seed=3, dims=2)
        for n in (2, 5)
    )
    many.load_state_dict({**few.state_dict(), "noise": many.noise})
    features, mean, log_variance = tensors()
    average, variance, *made = few(features, mean, log_variance)
    for noise, sample in zip(few.noise, made, strict=True):
        latent = mean + noise.view(1, -1, 1, 1) * torch.exp(log_variance / 2)
        weights = torch.cat([part.weight for part in (few.of_features, few.of_latent)], dim=1)
        joined = torch.cat([features, latent], dim=1)
        expected = torch.conv2d(joined, weights, few.of_features.bias).sigmoid()
        torch.testing.assert_close(sample, expected)
    torch.testing.assert_close(average, (made[0] + made[1]) / 2)
    torch.testing.assert_close(variance, ((made[0] - made[1]) / 2) ** 2)
    assert variance.max() > 0
    for one, other in zip(made, many(features, mean, log_variance)[2:], strict=False):
        assert torch.equal(one, other)


def test_training_draws_a_noise_for_each_sample_of_the_batch_and_one_for_all_voxels():
    node = LatentHead(READ, ["o"], 2, 1, 1, final_activation=None, dims=2)
    same = [torch.ones(2, spec.channels, 3, 4) for spec in SPECS.values()]
    torch.manual_seed(0)
    drawn = node.train()(*same)
    assert (drawn.flatten(2).std(dim=2) < 1e-6).all()
    assert drawn[0].mean() != drawn[1].mean()
    fixed = node.eval()(*same)
    assert torch.equal(fixed, node(*same))
    assert torch.equal(fixed[0], fixed[1])


def test_weights_are_shared_also_after_a_copy_and_from_a_spec():
    own = LatentHead(READ, ["o"], 2, 1, 1, dims=2)
    keys = ["mean", "variance", "s0"]
    net = net_of(own, LatentHead(READ, keys, 2, 1, 1, samples=1, weights_of="o", dims=2))
    twin = LeibNet.from_spec(net.to_spec())
    twin.load_state_dict(net.state_dict())
    for each in (net, copy.deepcopy(net), twin):
        assert each.nodes["o"].layers is each.nodes["mean"].layers
        assert sum(parameter.numel() for parameter in each.parameters()) == 4


def test_weights_of_a_node_of_another_form_are_refused():
    other = LatentHead(READ, ["o"], 2, 1, 1, final_activation=None, dims=2)
    with pytest.raises(ValueError, match="of the same channels and activations"):
        net_of(other, LatentHead(READ, ["p"], 2, 1, 1, weights_of="o", dims=2))
