"""Ensembles against the whole turned world, predicted at once and looked up voxel by voxel, and against numpy."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import numpy as np
import pytest
import scipy.stats
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from scalenet_gp import LeibNet, TensorSpec, build_attentive_scalenet, build_scalenet, build_unet
from scalenet_gp.graph.planning import Planner
from scalenet_gp.inference import Ensemble, Symmetry, lattice_symmetries
from scalenet_gp.inference.running_moments import RunningMoments
from scalenet_gp.layers import ConvPass, Head, Pool, Upsample
from scalenet_gp.testing import randomize
from tests.scalenet_gp.graph.strategies import networks, requests
from tests.scalenet_gp.helpers import values

IDENTITY = Symmetry.identity(2)
MIRROR = Symmetry((0, 1), frozenset({1}))


def compute(net: LeibNet, inputs: Mapping[str, Tensor], outputs: Mapping[str, Roi]) -> dict[str, Tensor]:
    return net(inputs, net.plan(outputs))


def matrix(symmetry: Symmetry) -> np.ndarray:
    result = np.zeros((symmetry.dims, symmetry.dims))
    for axis, was in enumerate(symmetry.axes):
        result[axis, was] = -1 if axis in symmetry.mirrored else 1
    return result


def centres(begin, shape, voxel_size) -> np.ndarray:
    along = [b + (np.arange(n) + 0.5) * v for b, n, v in zip(begin, shape, voxel_size, strict=True)]
    return np.stack(np.meshgrid(*along, indexing="ij"), axis=-1)


def world(key: str, channels: int, points: np.ndarray) -> Tensor:
    """The values at some points of a world without any symmetry, (1, C, Z, Y, X)."""
    generator = np.random.default_rng(len(key) + ord(key[0]))
    waves = generator.uniform(-0.3, 0.3, (channels, points.shape[-1]))
    phases = generator.uniform(0, 6, channels)
    return torch.from_numpy(np.moveaxis(np.sin(points @ waves.T + phases), -1, 0)[None])


def world_inputs(net: LeibNet, rois: Mapping[str, Roi]) -> dict[str, Tensor]:
    return {
        key: world(
            key,
            net.specs[key].channels,
            centres(roi.begin, roi.shape / net.voxel_size[key], net.voxel_size[key]),
        )
        for key, roi in rois.items()
    }


def whole_turned(net: LeibNet, symmetry: Symmetry, key: str, roi: Roi) -> np.ndarray:
    """A member's prediction of ``roi``: the turned world is predicted well beyond it, and looked up point by point."""
    turn, size = matrix(symmetry), np.array(net.voxel_size[key])
    corners = np.stack([turn @ roi.begin, turn @ roi.end])
    low, high = corners.min(axis=0) - 3 * size, corners.max(axis=0) + 2 * size
    plan = net.plan({key: Roi(low.astype(int), (high - low).astype(int))})
    inputs = {
        name: world(name, t.channels, centres(t.begin, t.shape, t.voxel_size) @ turn)  # its inverse is its transpose
        for name, t in plan.input_tensors.items()
    }
    with torch.no_grad():
        predicted = net(inputs, plan)[key].numpy()
    points = centres(roi.begin, roi.shape / net.voxel_size[key], size) @ turn.T
    index = ((points - low) / size - 0.5).astype(int)
    return predicted[(slice(None), slice(None), *np.moveaxis(index, -1, 0))]


def check_against_the_whole(net: LeibNet, symmetries, outputs: Mapping[str, Roi]) -> None:
    ensemble = Ensemble([net], symmetries=symmetries, products=("mean", "variance")[: len(symmetries)])
    rois = ensemble.inputs(outputs)
    made = ensemble.predict(world_inputs(net, rois), outputs, compute)
    for key, roi in outputs.items():
        members = np.stack([whole_turned(net, symmetry, key, roi) for symmetry in symmetries])
        assert tuple(made[key].shape[2:]) == tuple(roi.shape / net.voxel_size[key])
        np.testing.assert_allclose(made[key].numpy(), members.mean(axis=0), rtol=1e-9, atol=1e-9)
        if len(symmetries) > 1:
            np.testing.assert_allclose(made[f"{key}/variance"].numpy(), members.var(axis=0), rtol=1e-7, atol=1e-12)


def subnets(*voxel_sizes, **arguments) -> list[dict]:
    return [{"top_resolution": voxel_size, "base_nc": 2, **arguments} for voxel_size in voxel_sizes]


SHALLOW = {"base_nc": 1, "convs_per_level": 1, "activation": "Tanh"}  # unlike ReLU, it lets random weights through
NETWORKS = {
    "U-Net": (48, lambda: build_unet((8, 8, 8), downsample_factors=[(2, 2, 2)], **SHALLOW)),
    "fractional": (16, lambda: build_unet(("50", "4.6", "4.6"), downsample_factors=[(1, 3, 3)], **SHALLOW)),
    "two scales": (8, lambda: build_scalenet(subnets((32, 32), (8, 8), activation="Tanh"))),
    "three scales": (8, lambda: build_attentive_scalenet(subnets((128, 128), (32, 32), (8, 8), activation="Tanh"))),
    "sections": (
        16,
        lambda: build_scalenet(
            subnets((40, 32, 32), (40, 16, 16), (40, 4, 4), downsample_factors=[(1, 2, 2)], **SHALLOW)
        ),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_members_agree_with_the_whole_turned_world(name):
    count, build = NETWORKS[name]
    net = randomize(build())
    key = net.output_keys[-1]
    size = net.voxel_size[key]
    roi = Roi(Coordinate((-3, 5, 1)[: net.dims]) * size, Coordinate((3, 4, 5)[: net.dims]) * size)
    symmetries = lattice_symmetries(net)
    assert len(symmetries) == count
    check_against_the_whole(net, symmetries, {key: roi})
    members = np.stack([whole_turned(net, symmetry, key, roi) for symmetry in symmetries])
    assert np.ptp(members, axis=0).min() > 1e-4, "members that agree anyway test nothing"


@given(st.data())
@settings(max_examples=25)
def test_members_of_any_network_agree_with_the_whole_turned_world(data):
    net = data.draw(networks(linear=False))
    outputs = data.draw(requests(net))
    assume(values(net.plan(outputs)) < 60_000)
    group = lattice_symmetries(net)
    symmetries = data.draw(st.lists(st.sampled_from(group), min_size=1, max_size=3, unique=True))
    check_against_the_whole(randomize(net), symmetries, outputs)


@given(st.data())
@settings(max_examples=25)
def test_the_inputs_are_the_box_of_what_the_members_need(data):
    """Wherever the block lies: by plain arithmetic on each member's own plan, none of them kept from another block."""
    net = data.draw(networks(linear=False))
    symmetries = data.draw(st.lists(st.sampled_from(lattice_symmetries(net)), min_size=1, max_size=4, unique=True))
    ensemble = Ensemble([net], symmetries=symmetries)
    outputs = data.draw(requests(net))
    for shift in ((0,) * net.dims, data.draw(st.tuples(*[st.integers(-9, 9)] * net.dims))):
        step = Coordinate(np.lcm.reduce([tuple(net.voxel_size[key]) for key in net.output_keys], axis=0).tolist())
        asked = {key: roi.shift(step * Coordinate(shift)) for key, roi in outputs.items()}
        corners: dict[str, list[np.ndarray]] = {}
        for symmetry in symmetries:
            turn = matrix(symmetry)
            seen = {}
            for key, roi in asked.items():
                ends = np.sort(np.stack([turn @ roi.begin, turn @ roi.end]), axis=0).astype(int)
                seen[key] = Roi(ends[0], ends[1] - ends[0])
            for key, roi in net.plan(seen).inputs.items():
                corners.setdefault(key, []).extend([turn.T @ roi.begin, turn.T @ roi.end])
        assert ensemble.inputs(asked) == {
            key: Roi(np.min(ends, axis=0).astype(int), np.ptp(ends, axis=0).astype(int))
            for key, ends in corners.items()
        }


def test_blocks_whole_steps_apart_share_a_plan(monkeypatch):
    net = build_unet((8, 8), base_nc=1)
    ensemble = Ensemble([net, build_unet((8, 8), base_nc=1)], symmetries=lattice_symmetries(net))
    planned = []
    plan = Planner.plan
    monkeypatch.setattr(Planner, "plan", lambda *arguments: planned.append(1) or plan(*arguments))
    for begin in (0, 32, 64, -320):
        ensemble.inputs({"output": Roi((begin, 0), (32, 32))})
    assert len(planned) == 1  # a square block's mirror images are the block, shifted; both networks are built alike


def classes(count: int, seed: int = 0) -> LeibNet:
    """Classes that a voxel can have together, in float64. Weights are torch's own, which depend on the seed."""
    torch.manual_seed(seed)
    coarse, fine = subnets((16, 16), (8, 8), convs_per_level=1, downsample_factors=[(2, 2)])
    return build_scalenet([coarse, {**fine, "output_nc": count}]).to(torch.float64).eval()


def softmaxes(channels: int, seed: int = 0) -> LeibNet:
    torch.manual_seed(seed)
    net = LeibNet(
        [
            ConvPass(["in"], ["features"], 1, 4, [(3, 3)]),
            Head(["features"], ["out"], 4, [str(c) for c in range(channels)], final_activation="Softmax", dims=2),
        ],
        {"in": TensorSpec((8, 8), 1)},
        ["out"],
    )
    net.to(torch.float64).eval()
    return net


def stacked(ensemble: Ensemble, key: str, roi: Roi) -> np.ndarray:
    """All members' predictions, the symmetries of a network side by side."""
    return np.stack([whole_turned(net, g, key, roi) for net in ensemble.networks for g in ensemble.symmetries])


ROI = Roi((24, -40), (40, 24))


@pytest.mark.parametrize(
    ("weights", "numbers"),
    [
        (None, [[1, 1, 1]] * 2),
        ((2.0, 0.5), [[2] * 3, [0.5] * 3]),
        (({"1_output": [0, 1, 3]}, {"1_output": [2, 0, 0.25]}), [[0, 1, 3], [2, 0, 0.25]]),
        (({"1_output": [0, 1, 3]}, 2.0), [[0, 1, 3], [2, 2, 2]]),
    ],
)
def test_products_are_those_of_numpy(weights, numbers):
    nets = [classes(3), classes(3, seed=1)]
    products = ("variance", "mean", "entropy")
    ensemble = Ensemble(nets, weights, lattice_symmetries(nets[0], mirror_axes=(0, 1)), products)
    outputs = {"1_output": ROI}
    made = ensemble.predict(world_inputs(nets[0], ensemble.inputs(outputs)), outputs, compute)
    assert {name: tensor.shape[1] for name, tensor in made.items()} == ensemble.produced(outputs)
    assert list(made) == ["1_output/variance", "1_output", "1_output/entropy"]

    members = stacked(ensemble, "1_output", ROI)
    every = np.repeat(np.array(numbers, float), 8, axis=0)[:, None, :, None, None] * np.ones_like(members)
    mean = np.average(members, axis=0, weights=every)
    np.testing.assert_allclose(made["1_output"], mean, rtol=1e-12)
    variance = np.average((members - mean) ** 2, axis=0, weights=every)
    np.testing.assert_allclose(made["1_output/variance"], variance, rtol=1e-9)
    entropy = scipy.stats.entropy(np.stack([mean, 1 - mean]), base=2, axis=0)
    np.testing.assert_allclose(made["1_output/entropy"], entropy, rtol=1e-9)
    assert variance.max() > 1e-6


def test_networks_may_look_at_more_or_less_of_the_world():
    small, large = build_unet((8, 8), base_nc=1, convs_per_level=1), build_unet((8, 8), base_nc=2, convs_per_level=3)
    nets = [randomize(small), randomize(large)]
    ensemble = Ensemble(nets, (1, 3), (IDENTITY, MIRROR))
    outputs = {"output": ROI}
    rois = ensemble.inputs(outputs)
    assert rois["input"].contains(large.plan(outputs).inputs["input"])
    made = ensemble.predict(world_inputs(small, rois), outputs, compute)
    members = stacked(ensemble, "output", ROI)
    np.testing.assert_allclose(made["output"], np.average(members, axis=0, weights=(1, 1, 3, 3)), rtol=1e-12)


@pytest.mark.parametrize("channels", [2, 5])
def test_exclusive_classes_have_one_entropy(channels):
    nets = [softmaxes(channels), softmaxes(channels, seed=1)]
    ensemble = Ensemble(nets, (1, 2), (IDENTITY, MIRROR), ("mean", "entropy"), exclusive=True)
    outputs = {"out": ROI}
    made = ensemble.predict(world_inputs(nets[0], ensemble.inputs(outputs)), outputs, compute)
    mean = np.average(stacked(ensemble, "out", ROI), axis=0, weights=(1, 1, 2, 2))
    np.testing.assert_allclose(
        made["out/entropy"], scipy.stats.entropy(mean, base=channels, axis=1)[:, None], rtol=1e-9
    )
    assert ensemble.produced(outputs) == {"out": channels, "out/entropy": 1}


def test_entropy_is_that_of_certainty_and_of_indecision():
    net = softmaxes(2)
    for values_, expected in (((0.0, 1.0), 0.0), ((0.5, 0.5), 1.0)):
        fixed = torch.tensor(values_, dtype=torch.bfloat16).reshape(1, 2, 1, 1).expand(1, 2, 5, 3)
        for exclusive in (False, True):
            ensemble = Ensemble([net], products=("entropy",), exclusive=exclusive)
            inputs = world_inputs(net, ensemble.inputs({"out": ROI}))
            made = ensemble.predict(inputs, {"out": ROI}, lambda *_, fixed=fixed: {"out": fixed})
            assert list(made) == ["out/entropy"]
            assert made["out/entropy"].dtype == torch.float32
            assert (made["out/entropy"] == expected).all()


def test_one_member_costs_nothing():
    net = classes(3)
    ensemble = Ensemble([net])
    outputs = {"1_output": ROI, "0_output": Roi((0, 0), (16, 16))}
    assert ensemble.inputs(outputs) == net.plan(outputs).inputs
    inputs = world_inputs(net, ensemble.inputs(outputs))
    given_to, returned = [], []

    def spying(net, inputs, outputs):
        given_to.append(inputs)
        returned.append(compute(net, inputs, outputs))
        return returned[-1]

    made = ensemble.predict(inputs, outputs, spying)
    assert all(given_to[0][key] is inputs[key] for key in inputs)
    assert all(made[key] is returned[0][key] for key in outputs)
    assert set(made) == set(outputs)
    assert not made["1_output"].requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_nothing_that_is_given_is_changed(dtype, mode):
    ensemble = Ensemble([classes(2), classes(2, seed=1)], (1, 2), products=("mean", "variance"))
    inputs = world_inputs(ensemble.networks[0], ensemble.inputs({"1_output": ROI}))
    copies = {key: tensor.clone() for key, tensor in inputs.items()}
    with mode():
        predictions = [torch.full((1, 2, 5, 3), value, dtype=dtype) for value in (0.25, 1.0)]
    to_give = iter(predictions)
    made = ensemble.predict(inputs, {"1_output": ROI}, lambda *_: {"1_output": next(to_give)})
    assert made["1_output"].dtype == made["1_output/variance"].dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(made["1_output"], torch.full_like(made["1_output"], 0.75))
    torch.testing.assert_close(made["1_output/variance"], torch.full_like(made["1_output"], 0.125))
    assert [(p == value).all() for p, value in zip(predictions, (0.25, 1.0), strict=True)] == [True, True]
    assert all(torch.equal(inputs[key], copies[key]) for key in inputs)


def test_predictions_are_not_kept():
    """The prediction of a member is let go of before the next member runs."""
    net = classes(1)
    alive: list[weakref.ref] = []
    most = []

    def watched(net, inputs, outputs):
        most.append(sum(ref() is not None for ref in alive))
        made = compute(net, inputs, outputs)
        alive.append(weakref.ref(made["1_output"]))
        return made

    ensemble = Ensemble([net], symmetries=lattice_symmetries(net), products=("mean", "variance"))
    ensemble.predict(world_inputs(net, ensemble.inputs({"1_output": ROI})), {"1_output": ROI}, watched)
    assert most == [0, 1, *[0] * 6]  # the first one is the mean until there is a second


def test_small_deviations_from_a_large_mean_are_not_lost():
    """The textbook's mean of squares less the square of the mean is negative here, in float32."""
    generator = np.random.default_rng(0)
    data = (1000 + 0.01 * generator.standard_normal((200, 1, 2, 30))).astype(np.float32)
    weights = generator.uniform(0.1, 3, 200)
    moments = RunningMoments(torch.from_numpy(data[0]), with_variance=True)
    for index in range(1, 200):
        share = weights[index] / weights[: index + 1].sum()
        moments.add(torch.from_numpy(data[index]), torch.tensor([share], dtype=torch.float64))
    exact = data.astype(float)
    mean = np.average(exact, axis=0, weights=weights)
    variance = np.average((exact - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(moments.variance, variance, rtol=0.02)
    textbook = (data**2).mean(axis=0) - data.mean(axis=0) ** 2
    assert np.abs(textbook / variance - 1).max() > 1


def head(channels: int, names: str = "ab", size=(8, 8), key: str = "out", read: str = "in") -> LeibNet:
    return LeibNet(
        [Head([read], [key], 1, list(names[:channels]), dims=2)], {read: TensorSpec(size, 1)}, [key], name="heads"
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: head(1), r"'out', but network 1 has 1 channels of 8 × 8 nm and network 0 2 channels of 8 × 8 nm"),
        (lambda: head(2, "ba"), "classes, also of 'out', but network 1 has b, a and network 0 a, b"),
        (lambda: head(2, size=(16, 8)), r"'in', but network 1 has 1 channels of 16 × 8 nm"),
        (lambda: head(2, key="other"), "outputs, but network 1 has other and network 0 out"),
        (lambda: head(2, read="raw"), "inputs, but network 1 has raw and network 0 in"),
    ],
)
def test_networks_that_do_not_match_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        Ensemble([head(2), other()])


def test_networks_with_other_world_units_are_refused():
    """Voxels that only one of them makes: its ROIs count in thirds of a nanometre."""
    finer = LeibNet(
        [
            Upsample(["input"], ["fine"], (3, 3)),
            Pool(["fine"], ["coarse"], (3, 3)),
            Head(["coarse"], ["output"], 1, ["a"], dims=2),
        ],
        {"input": TensorSpec((8, 8), 1)},
        ["output"],
    )
    with pytest.raises(ValueError, match=r"network 1 has 1/3 nm and network 0 1 nm"):
        Ensemble([build_unet((8, 8), base_nc=1), finer])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": (1,)}, "1 weights for 2 networks"),
        ({"weights": (1, 0)}, "network 1 weighs 0.*leave the network out"),
        ({"weights": (1, float("nan"))}, "network 1 weighs nan"),
        ({"weights": (1, {"output": [1, 1]})}, "network 1 has weights for 'output'; the outputs are out"),
        ({"weights": (1, {"out": [1]})}, r"network 1 has weights \[1\] for 'out'.*2 channels"),
        ({"weights": (1, {"out": [1, -1]})}, r"\[1, -1\]"),
        ({"weights": [{"out": [1, 0]}] * 2}, "channel 1 of 'out'"),
        ({"weights": [{"out": [1, 1]}, {"out": [1, 0]}], "products": ("variance",)}, "only one has a weight in chan"),
        ({"products": ("median",)}, "mean, entropy, variance"),
        ({"products": ()}, "mean, entropy, variance"),
        ({"products": ("mean", "mean")}, "each once"),
        ({"symmetries": ()}, "at least one symmetry"),
        ({"symmetries": (MIRROR, MIRROR)}, "each once"),
        ({"symmetries": (Symmetry.identity(3),)}, "3 axes, heads has 2"),
        ({"weights": [{"out": [1, 1]}] * 2, "exclusive": True}, "do not sum to 1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Ensemble([head(2), head(2)], **arguments)


def test_a_symmetry_that_leaves_a_lattice_is_refused():
    net = build_unet((8, 8), downsample_factors=[(1, 2)], base_nc=1)
    with pytest.raises(ValueError, match=r"symmetry \(1, 0\) does not keep .* 'downsample_0' of UNet, .* \(8, 16\)"):
        Ensemble([net], symmetries=(IDENTITY, Symmetry((1, 0))))


def test_what_makes_no_ensemble_is_refused():
    with pytest.raises(ValueError, match="at least one network"):
        Ensemble([])
    with pytest.raises(ValueError, match=r"two or more members.*give more networks or symmetries"):
        Ensemble([head(2)], products=("mean", "variance"))
    with pytest.raises(ValueError, match="'out' has one channel"):
        Ensemble([head(1)], exclusive=True)


def test_requests_and_inputs_that_do_not_fit_are_refused():
    net = classes(3)
    weights = {"1_output": [1, 2, 3]}
    ensemble = Ensemble([net], [weights], (IDENTITY, MIRROR))
    with pytest.raises(KeyError, match="no output 'x'"):
        ensemble.inputs({"x": ROI})
    with pytest.raises(KeyError, match="no output 'x'"):
        ensemble.produced(["x"])
    with pytest.raises(ValueError, match="off the lattice"):
        ensemble.inputs({"1_output": Roi((0, 1), (8, 8))})
    with pytest.raises(ValueError, match="3 axes"):
        ensemble.inputs({"1_output": Roi((0, 0, 0), (8, 8, 8))})
    with pytest.raises(ValueError, match="not for '0_output'; only for 1_output"):
        ensemble.inputs({"0_output": Roi((0, 0), (16, 16))})
    inputs = world_inputs(net, ensemble.inputs({"1_output": ROI}))
    with pytest.raises(KeyError, match=r"needs '0_input'; there are only \['1_input'\]"):
        ensemble.predict({"1_input": inputs["1_input"]}, {"1_output": ROI}, compute)
    with pytest.raises(ValueError, match=r"'0_input' has shape.*members together need"):
        ensemble.predict(inputs | {"0_input": inputs["0_input"][..., 1:]}, {"1_output": ROI}, compute)


@pytest.mark.parametrize(
    ("value", "exclusive", "message"),
    [
        (-0.5, False, r"'out' is -0.5 to -0.5.*Sigmoid"),
        (7.0, True, "'out' is 7 to 7"),
        (float("nan"), False, "nan"),
        (0.9, True, r"sum to 1.8 to 1.8.*exclusive is False"),
    ],
)
def test_an_entropy_of_what_are_no_probabilities_is_refused(value, exclusive, message):
    net = head(2)
    ensemble = Ensemble([net], products=("entropy",), exclusive=exclusive)
    inputs = world_inputs(net, ensemble.inputs({"out": ROI}))
    with pytest.raises(ValueError, match=message):
        ensemble.predict(inputs, {"out": ROI}, lambda *_: {"out": torch.full((1, 2, 5, 3), value)})
