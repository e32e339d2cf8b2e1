"""Validation against numpy: the voxels of the samples, the counts, and all that validation must not change."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional

from scalenet_gp.losses import BinaryCrossEntropy, apply_activation
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.evaluation.validation import Validation, validation_chain
from scalenet_gp.training import ComputeConfig, Optimization, TrainingState
from tests.pipelines.conftest import CLASSES, EVALUATED, OUTPUTS, tiny_config, tissue, truth_at, write_array

LEARNED = Region(begin=[None] * 3, end=[None, None, 99])
HELD_OUT = Region(begin=[None, None, 99], end=[None] * 3)
SAMPLE = 8  # voxels of 4.5 nm along an edge


def squared_error(name, prediction, target, mask, activation=None):
    prediction = prediction if activation is None else apply_activation(prediction, activation)
    return ((prediction - target) ** 2 * mask).sum() / mask.sum()


def validation_of(volume, region=HELD_OUT, config=None, loss=squared_error, size=36, **options):
    config = config or tiny_config()
    net = config.build_network()
    dataset = Dataset.open(volume, config, net)
    boxes = dataset.boxes((Fraction(size),) * 3, "the size of a sample")
    apart_from = options.pop("apart_from", None)
    return net, Validation(dataset, validation_chain(dataset, region, apart_from), boxes, loss, **options)


def read_off(net, monkeypatch):
    """Has the network predict of every voxel how bright it is, and how dark; what it saw of them, sample by sample."""
    seen = []

    def forward(inputs, plan, logits=False):
        outputs = {}
        for name, roi in plan.outputs.items():
            there = plan.inputs[name.replace("output", "input")]
            size = net.voxel_size[name]
            box = ((roi - there.begin) / size).to_slices()
            brightness = (inputs[name.replace("output", "input")][(slice(None), slice(None), *box)] + 1) / 2
            outputs[name] = torch.cat([brightness, 1 - brightness], dim=1)
        seen.append({name: tensor[0].numpy() for name, tensor in outputs.items()})
        return outputs

    monkeypatch.setattr(net, "forward", forward)
    monkeypatch.setattr(net, "output_activation", lambda _: None)
    return seen


def places(brightness):
    """The places in the volume of a box of such brightness, (z, y, x): its first voxel, looked for everywhere."""
    raw, _ = tissue()
    wanted = np.round(brightness * 255).astype(np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(raw, wanted.shape)
    return np.argwhere((windows == wanted).all(axis=(3, 4, 5))).tolist()


def draw(*_):
    """Draw random numbers as a layer may do in evaluation, too."""
    torch.rand(3)


def generators():
    """The states of the global random generators."""
    python, numpy, processor = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    return python, tuple(map(str, numpy)), processor.tolist()


@pytest.mark.parametrize("threshold", [0.5, 0.4])
def test_counts_and_loss_are_those_of_numpy_at_the_places_of_the_samples(volume, monkeypatch, threshold):
    net, validation = validation_of(volume, samples=6, threshold=threshold, groups={"shade": CLASSES})
    seen = read_off(net, monkeypatch)
    with validation:
        result = validation.validate(net)
    assert len(seen) == 6
    expected = {name: {label: np.zeros(3, int) for label in CLASSES} for name in OUTPUTS}
    groups = {name: np.zeros((2, 2)) for name in OUTPUTS}
    losses = []
    for prediction in seen:
        (place,) = places(prediction["1_output"][0])
        assert all(low <= at and at + SAMPLE <= high for at, (low, high) in zip(place, EVALUATED, strict=True))
        for name, factor in OUTPUTS.items():
            begins = [(at - low) // factor for at, (low, _) in zip(place, EVALUATED, strict=True)]
            box = (slice(None), *(slice(at, at + SAMPLE // factor) for at in begins))
            truth, annotated = (array[box] for array in truth_at(factor))
            error = (prediction[name] - truth) ** 2
            losses.append(error[annotated].mean())
            alone = truth & annotated.all(axis=0)
            higher = prediction[name] > prediction[name][::-1]
            ties = prediction[name] == prediction[name][::-1]
            groups[name] += [alone.sum(axis=(1, 2, 3)), (alone * (higher + ties / 2)).sum(axis=(1, 2, 3))]
            for label, p, t, a in zip(CLASSES, prediction[name] >= threshold, truth, annotated, strict=True):
                expected[name][label] += [(p & t & a).sum(), (p & ~t & a).sum(), (~p & t & a).sum()]
    for name, label in ((name, label) for name in OUTPUTS for label in CLASSES):
        found = result.scores[name][label]
        assert [found.true_positive, found.false_positive, found.false_negative] == expected[name][label].tolist()
        assert expected[name][label].sum() > 0
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-5)
    for name, (total, right) in groups.items():
        assert result.groups[name]["shade"].total == tuple(total)
        assert result.groups[name]["shade"].right == tuple(right)


def test_the_samples_are_the_same_in_every_validation_whatever_was_drawn_in_between(volume, monkeypatch):
    net, validation = validation_of(volume, samples=5, seed=3)
    seen = read_off(net, monkeypatch)
    with validation:
        for seed in (0, 1):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            validation.validate(net)
    begins = [places(prediction["1_output"][0]) for prediction in seen]
    assert begins[:5] == begins[5:]
    assert len({str(begin) for begin in begins}) > 1
    other_net, other = validation_of(volume, samples=5, seed=4)
    others = read_off(other_net, monkeypatch)
    with other:
        other.validate(other_net)
    assert [places(prediction["1_output"][0]) for prediction in others] != begins[:5]


def test_a_network_that_is_sure_of_nothing_has_the_scores_that_follow(volume):
    """All weights are zero, so that every probability is one half."""
    cross_entropy = BinaryCrossEntropy()
    found = {}
    for threshold in (0.5, 0.51):
        net, validation = validation_of(
            volume,
            loss=lambda name, *given: cross_entropy(*given[:3], activation=given[3]),
            samples=3,
            threshold=threshold,
        )
        for parameter in net.parameters():
            torch.nn.init.zeros_(parameter)
        with validation:
            found[threshold] = validation.validate(net)
    everything, nothing = found[0.5], found[0.51]
    assert everything.loss == nothing.loss == pytest.approx(math.log(2))
    assert everything.metric("recall") == 1
    assert 0 < everything.metric("precision") < 1
    assert (nothing.metric("recall"), nothing.metric("dice")) == (0, 0)
    assert math.isnan(nothing.metric("precision"))


def test_validation_leaves_random_generators_modes_gradients_and_statistics_alone(volume):
    config = tiny_config(network__subnets__1__dropout_prob=0.5, network__subnets__0__norm_layer="batch")
    net, validation = validation_of(volume, config=config, samples=2)
    net.register_forward_pre_hook(draw)
    frozen = next(module for module in net.modules() if isinstance(module, torch.nn.BatchNorm3d))
    net.train()
    frozen.eval()
    modes = [module.training for module in net.modules()]
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    before = generators()
    with validation:
        first, second = validation.validate(net), validation.validate(net)
    assert generators() == before
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert first == second


def test_modes_are_restored_after_an_error(volume, monkeypatch):
    net, validation = validation_of(volume)
    monkeypatch.setattr(net, "forward", lambda *_, **__: 1 / 0)
    net.train()
    before = generators()
    with validation, pytest.raises(ZeroDivisionError):
        validation.validate(net)
    assert net.training
    assert torch.is_grad_enabled()
    assert generators() == before


def test_a_run_that_is_validated_ends_with_the_weights_of_one_that_is_not(volume):
    """Training draws from the global generators: inputs and dropout; the averaged network is validated."""

    def trained(validating):
        config = tiny_config(network__subnets__1__dropout_prob=0.3, network__subnets__0__norm_layer="batch")
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        random.seed(5)
        net, validation = validation_of(volume, config=config, samples=2)
        state = TrainingState(net, Optimization(ema_decay=0.9), ComputeConfig(device="cpu"))
        plan, results = net.smallest_plan, []
        with validation:
            for _ in range(4):
                state.begin()
                shapes = {name: plan.inputs[name].shape / net.voxel_size[name] for name in plan.inputs}
                inputs = {name: torch.randn(2, 1, *shape) for name, shape in shapes.items()}
                target = random.random() * float(np.random.random())  # noqa: NPY002
                outputs = state.forward(inputs, plan)
                losses = [functional.mse_loss(o, torch.full_like(o, target)) for o in outputs.values()]
                state.advance(sum(losses))
                if validating:
                    results.append(validation.validate(state.eval_net))
        return net.state_dict(), state.average.state_dict(), results

    *validated, results = trained(True)
    *alone, _ = trained(False)
    for one, other in zip(validated, alone, strict=True):
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert len({result.loss for result in results}) > 1


def test_a_network_that_has_diverged_has_no_loss_and_is_never_the_best(volume, monkeypatch):
    net, validation = validation_of(volume, samples=2)
    with validation:
        sound = validation.validate(net)
        torch.nn.init.constant_(next(net.parameters()), math.nan)
        diverged = validation.validate(net)
    assert math.isnan(diverged.loss)
    assert diverged.metric("recall") == 0
    assert not diverged.better_than(sound, "loss")
    assert sound.better_than(diverged, "loss")


def test_samples_with_raw_data_that_are_no_numbers_do_not_count(volume, tmp_path, monkeypatch):
    raw, _ = tissue()
    spoiled = (raw / 255).astype(np.float32)
    spoiled[:, :, 30:] = np.nan
    for name, data in (("whole", (raw / 255).astype(np.float32)), ("spoiled", spoiled), ("nothing", spoiled * np.nan)):
        write_array(tmp_path / name / "em" / "raw", data, levels=3)
        (tmp_path / name / "labels").symlink_to(volume / "labels")
    seen = {}
    for name in ("whole", "spoiled"):
        net, validation = validation_of(tmp_path / name, Region(begin=[None] * 3, end=[None] * 3), samples=8)
        seen[name] = read_off(net, monkeypatch)
        with validation:
            assert math.isfinite(validation.validate(net).loss)
    assert len(seen["whole"]) == 8
    assert 0 < len(seen["spoiled"]) < 8
    assert all(any(np.array_equal(s["1_output"], w["1_output"]) for w in seen["whole"]) for s in seen["spoiled"])
    net, validation = validation_of(tmp_path / "nothing", samples=2)
    with validation, pytest.raises(ValueError, match=r"none of 2 samples .* and raw data that are finite"):
        validation.validate(net)


def test_a_sample_that_is_larger_than_the_region_counts_only_what_lies_in_it(volume, monkeypatch):
    region = Region(begin=[18, 36, 99], end=[36, 54, 117])  # four voxels along each axis
    net, validation = validation_of(volume, region, samples=3, threshold=0.001)
    read_off(net, monkeypatch)
    with validation:
        result = validation.validate(net)
    truth, annotated = truth_at(1)
    assert annotated[0, :4, :4, :4].all()
    found = result.scores["1_output"]["bright"]
    assert found.true_positive + found.false_positive == 3 * 4**3
    assert found.true_positive == 3 * truth[0, :4, :4, :4].sum()


def test_a_region_that_overlaps_one_to_learn_from_is_refused(volume):
    region = Region(begin=[None, None, 90], end=[None] * 3)
    message = (
        r"region of the validation, \[null, null, 90\] to \[null, null, null\] nm, "
        r"shares annotated voxels with training.region, \[null, null, null\] to \[null, null, 99\] nm"
    )
    with pytest.raises(ValueError, match=message):
        validation_of(volume, region, apart_from={"training.region": LEARNED})
    validation_of(volume, HELD_OUT, apart_from={"training.region": LEARNED})
    with pytest.raises(ValueError, match="shares annotated voxels with evaluation"):
        validation_of(volume, HELD_OUT, apart_from={"training.region": LEARNED, "evaluation": HELD_OUT})


def test_a_region_without_annotation_is_refused(volume):
    with pytest.raises(ValueError, match=r"nothing is annotated in the region \[0, 0, 0\] to \[18, 18, 18\] nm"):
        validation_of(volume, Region(begin=[0] * 3, end=[18] * 3))


def test_samples_without_annotation_are_refused(volume, tmp_path):
    """Two classes are annotated at opposite ends of the volume: the box of both is empty in between."""
    (tmp_path / "em").symlink_to(volume / "em")
    for name, first in zip(CLASSES, ((0, 0, 0), (20, 36, 36)), strict=True):
        write_array(tmp_path / "labels" / "crop" / name, np.ones((4, 4, 4), np.uint8), first, labels=True)
    everywhere = Region(begin=[None] * 3, end=[None] * 3)
    net, validation = validation_of(tmp_path, everywhere, samples=2, size=18)
    with (
        validation,
        pytest.raises(ValueError, match=r"none of 2 samples .* has a whole voxel annotated and raw data"),
    ):
        validation.validate(net)


def test_validation_needs_the_with_block_and_numbers_their_range(volume):
    net, validation = validation_of(volume, samples=1)
    with pytest.raises(RuntimeError, match="within its with block"):
        validation.validate(net)
    with validation:
        first = validation.validate(net)
    with pytest.raises(RuntimeError, match="within its with block"):
        validation.validate(net)
    with validation:
        assert validation.validate(net) == first
    for options in ({"samples": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="one sample is the least, 0 the lowest seed"):
            validation_of(volume, **options)


def test_another_network_is_refused(volume):
    _, validation = validation_of(volume)
    with validation, pytest.raises(ValueError, match="the plan is for network"):
        validation.validate(tiny_config(network__subnets__1__base_nc=3).build_network())
