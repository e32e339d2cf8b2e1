"""Configs: exact, checked when they are read, and the same in YAML."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp import build_attentive_scalenet, build_autoencoder, build_scalenet, build_unet, losses
from scalenet_gp.errors import ConfigError
from scalenet_gp.losses import (
    BinaryCrossEntropy,
    Boundary,
    CenterlineDice,
    CrossEntropy,
    CrossEntropyDice,
    Dice,
    DistanceRegression,
    Focal,
    SmoothedBoundaries,
    Tversky,
    WeightedSum,
    call_loss,
)
from scalenet_gp.pipelines.config import Config, Region, match_outputs
from scalenet_gp.training import OutputLoss
from tests.pipelines.conftest import TINY, scalenet, tiny_config, write_config

INFINITE = float("inf")
EVERYWHERE = {"begin": [None] * 3, "end": [None] * 3}
VALIDATED = {"validation": {"region": EVERYWHERE}}
SHIPPED = sorted((Path(__file__).parents[3] / "pipelines" / "configs").glob("*.yaml"))


def is_optimizer(found):
    return isinstance(found, type) and issubclass(found, torch.optim.Optimizer)


def test_all_configs_are_shipped():
    assert [path.name for path in SHIPPED] == [
        "demo.yaml",
        "demo_instances.yaml",
        "demo_instances_unet.yaml",
        "demo_unet.yaml",
        "tissue.yaml",
        "vnc.yaml",
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_config_builds_its_network_and_survives_a_round_trip(path, tmp_path):
    config = Config.read(path)
    config.write(tmp_path / "again.yaml")
    assert Config.read(tmp_path / "again.yaml") == config
    net = config.build_network()
    subnets = getattr(config.network, "subnets", (config.network,))
    sizes = [net.specs[key].voxel_size for key in net.output_keys]  # heads have outputs of their own
    assert list(dict.fromkeys(sizes)) == [subnet.top_resolution for subnet in subnets]
    learned = match_outputs(config.training.targets, net.output_keys)
    for key in net.output_keys:
        assert net.specs[key].channels == len(learned[key].channels(config.data))


def test_lengths_are_exact(tmp_path):
    config = tiny_config(prediction__block_shape=[4.6, "23/5", "1/3"])
    assert config.prediction.block_shape == (Fraction(23, 5), Fraction(23, 5), Fraction(1, 3))
    config.write(tmp_path / "config.yaml")
    assert Config.read(tmp_path / "config.yaml") == config
    assert "block_shape: [4.6, 4.6, 1/3]" in (tmp_path / "config.yaml").read_text()


@given(st.lists(st.fractions(min_value=Fraction(1, 10**9), max_value=10**9), min_size=3, max_size=3))
def test_a_round_trip_through_yaml_loses_nothing(lengths):
    sizes = {f"network__subnets__{number}__top_resolution": lengths for number in (0, 1)}
    config = tiny_config(prediction__block_shape=lengths, **sizes)
    again = Config.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))))
    assert again == config
    assert again.prediction.block_shape == tuple(lengths)
    # the network gets them so, too
    assert again.network.subnets[1].top_resolution == tuple(lengths)


def test_what_bounds_allow_is_allowed():
    sections = {"kind": "misaligned_sections", "thickness": "1/3", "slip": 0.1, "sigma": "1/3"}
    changes = [
        {"kind": "deform", "control_point_spacing": [9] * 3, "jitter_sigma": [0] * 3, "scale_interval": [0.9, 1.1]},
        sections,
        {"kind": "blur", "sigma": [0, 0]},
        {"kind": "intensity", "scale": [-1, 1], "gamma": [0.5, 0.5]},
        {"kind": "low_contrast_sections", "thickness": 9, "probability": 0, "factor": [0, 0]},
    ]
    shares = {"kind": "class", "shares": dict.fromkeys("abcdefghij", 0.1)}
    config = tiny_config(augmentation=changes, training__sampler=shares)
    assert config.augmentation[1].sigma == Fraction(1, 3)
    assert config.augmentation[0].scale_interval == (0.9, 1.1)


def test_a_region_says_what_it_is():
    region = Region(begin=(None, 0, 4.6), end=(550, None, 9.2))
    assert str(region) == "[null, 0, 4.6] to [550, null, 9.2] nm"


def blurred(**options):
    return {"augmentation": [{"kind": "blur", **options}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training__iteratons": 3},
            r"there is no field training.iteratons; did you mean iterations\? In training there",
        ),
        (
            {"training": {}},
            "training.iterations is missing: number of batches",
        ),
        ({"training__iterations": 0}, "training.iterations is 0: it has to be greater than or equal to 1"),
        ({"training__iterations": "many"}, "training.iterations is 'many': it has to be a valid integer"),
        (
            {"training__optimization__learning_rate": -1},
            "training.optimization.learning_rate is -1: it has to be greater than 0",
        ),
        (
            {"training__optimization__optimizer": {"kind": "Radam"}},
            "training.optimization.optimizer.*: there is no torch.optim.Radam",
        ),
        (
            {"training__targets": {"*": {"kind": "classes", "loss": {"kind": "focl"}}}},
            r"training.targets.\*.loss.kind is 'focl', which is not known; did you mean focal\?",
        ),
        (
            {"training__targets": {"*": {"kind": "classes", "loss": {"kind": "focal", "gama": 1}}}},
            r"no field training.targets.\*.loss.gama; did you mean gamma\?",
        ),
        (
            {
                "training__targets": {
                    "*": {"kind": "classes", "loss": {"kind": "cross_entropy_dice", "exclusive": True}}
                }
            },
            "no field training.targets.*loss.exclusive",
        ),
        (
            {"training__targets": {"*": {"kind": "affinities", "labels": "cells", "offsets": [[1, 0, 0], [0, 1]]}}},
            "training.targets.*offsets is .*one number for each axis",
        ),
        (
            {"training__targets": {"*": {"kind": "affinities", "labels": "cells"}}},
            "either offsets, in voxels, or offsets_nm: write one of both",
        ),
        (
            {"training__targets": {"*": {"kind": "lsd", "labels": "cells", "sigma": [80, 0, 80]}}},
            "training.targets.*sigma is .*above 0",
        ),
        (
            {"training__targets": {"*": {"kind": "boundary_distance", "maximum": -5}}},
            "training.targets.*maximum is -5: .*above 0",
        ),
        (
            {"training__targets": {"*": {"kind": "classes", "loss": {"kind": "tversky", "alpha": -1}}}},
            "training.targets.*loss.*alpha",
        ),
        (
            {"training__targets": {"*": {"kind": "classes", "weight": [{"iteration": -1, "weight": 1}]}}},
            r"training.targets.\*.weight.0.iteration is -1: it has to be greater than or equal to 0",
        ),
        ({"evaluation__threshold": 1}, "evaluation.threshold is 1: it has to be less than 1"),
        (
            {"network": []},
            r"network is \[\]: it is a mapping whose kind is written, unet, scalenet, .* or unet_plus_plus",
        ),
        (
            {"network__kind": "scalnet"},
            r"network.kind is 'scalnet', which is not known; did you mean scalenet\? There are scalenet, ",
        ),
        ({"network__subnets": []}, r"network.subnets is \[\]: .* at least 1 item"),
        (
            {"network__subnets__1__base_nc": 0},
            "network.subnets.1.base_nc is 0: it has to be greater than or equal to 1",
        ),
        (
            {"network__subnets__0__downsample_mode": "mode"},
            "network.subnets.0.downsample_mode is 'mode': it has to be 'max', 'mean' or 'strided'",
        ),
        (
            {"network__subnets__0__bottleneck_join": "sum"},
            "network: subnet 0 is the coarsest: no features enter its bottleneck",
        ),
        (
            {"data__sources__0__translation": "middle"},
            "data.sources.0.translation is 'middle': it has to be 'centre' or 'corner'",
        ),
        ({"data__sources": []}, "data.sources is .*: .* at least 1 item"),
        ({"data__sources__0__encodng": "ids"}, r"no field data.sources.0.encodng; did you mean encoding\?"),
        (
            {"data__sources": [{"datasplit": "a.csv", "weigth": 2}]},
            r"no field data.sources.0.weigth; did you mean weight\?",
        ),
        ({"data__sources__0__use": "test"}, "data.sources.0.use is 'test': it has to be 'train', "),
        (
            {"data__sources__0__labels": "em/raw/"},
            "sources.0.* labels is em/raw/, as raw is: name the volume of its labels",
        ),
        ({"data__sources__0__encoding": "ids"}, "data.*sources.0 has the encoding ids, and classes says no ids"),
        (
            {"data__sources__0__encoding": "instances"},
            "data.*sources.0 has instances, and there are several classes: say instances_of which one",
        ),
        ({"data__classes": {"a": [1, 2], "b": [2, 3]}}, "data.*classes: b and a share an id"),
        ({"data__split": {"by": "crop"}, **VALIDATED}, "data.split.*: a split has either a share or folds"),
        ({"data__split": {"folds": 2, "fold": 2}, **VALIDATED}, "data.split.*: fold is 2, and 2 folds are counted"),
        ({"data__split": {"folds": 2}}, "data.split chooses the sources to validate with, and there is no validation"),
        ({"validation": {"every": 2}}, "validation has no data: give it a region"),
        ({"data__classes": []}, "data.classes is .*: .* at least 1 item"),
        ({"data__classes": {"any": []}}, "data.classes.any is .*: .* at least 1 item"),
        ({"data__classes": ["a", "b", "a"]}, "data.classes is .*: every class is learned once; a, b, a repeats one"),
        (
            {"prediction__block_shape": [36, "wide", 36]},
            "prediction.block_shape.1 is 'wide': 'wide' is not a finite length",
        ),
        (
            {"evaluation__region__begin": [0, 0, "left"]},
            "evaluation.region.begin.2 is 'left': 'left' is not a finite length",
        ),
        ({"evaluation__region__begin": [0, 0]}, "evaluation.region.*: begin has 2 axes and end 3"),
        (
            {"evaluation__region": {"begin": [9], "end": [4.5]}},
            "evaluation.region.*: a region ends after it begins; 9 to 4.5 nm does not",
        ),
        (
            {"augmentation__0__kind": "deforms"},
            r"augmentation.0.kind is 'deforms', which is not known; did you mean deform\?",
        ),
        ({"augmentation__0__scale_interval": [0, 1]}, r"augmentation.0.*scale_interval.*0"),
        ({"augmentation__0__scale_interval": [[1, 1], [1.1, 0.9], [1, 1]]}, r"augmentation.0.*scale_interval.*1\.1"),
        ({"augmentation__1__scale": [1.2, 0.8]}, "augmentation.1.*scale.*1.2.*0.8"),
        ({"augmentation__1__scale": [1, INFINITE]}, "augmentation.1.*scale.*inf"),
        ({"augmentation__1__shift": [0.1, -0.1]}, "augmentation.1.*shift.*0.1.*-0.1"),
        ({"augmentation__1__gamma": [1.5, 1]}, "augmentation.1.*gamma.*1.5.*1"),
        ({"augmentation__1__gamma": [0, 1]}, "augmentation.1.*gamma.*0"),
        (blurred(sigma=[8, 0]), "augmentation.0.*sigma.*8.*0"),
        (blurred(sigma=[-8, 0]), "augmentation.0.*sigma.*-8"),
        (blurred(sgma=3), r"there is no field augmentation.0.sgma; did you mean sigma\?"),
        ({"augmentation__2__sigma": INFINITE}, "augmentation.2.*sigma.*inf"),
        (
            {"augmentation__2": {"kind": "missing_sections", "thickness": 0, "probability": 0.1}},
            "augmentation.2.*thickness.*0",
        ),
        (
            {
                "augmentation__2": {
                    "kind": "low_contrast_sections",
                    "thickness": 9,
                    "probability": 1,
                    "factor": [0.5, 0.1],
                }
            },
            "augmentation.2.*factor.*0.5.*0.1",
        ),
        (
            {"augmentation__2": {"kind": "misaligned_sections", "thickness": 9, "sigma": -4, "slip": 0.1}},
            "augmentation.2.*sigma.*-4",
        ),
        (
            {
                "training__sampler": {
                    "kind": "stratified",
                    "strata": {"a": {"weight": INFINITE, "regions": [EVERYWHERE]}},
                }
            },
            "training.sampler.strata.a.weight is inf: it has to be a finite number",
        ),
        (
            {"training__sampler": {"kind": "class", "shares": {"bright": 0.6, "dark": 0.6}}},
            "training.sampler.shares is .*: the shares sum to 1.2; they may sum to 1 at most",
        ),
        (
            {"training__sampler": {"kind": "class", "shares": {"dark": 1}, "elsewhere": {"kind": "clss"}}},
            "training.sampler.elsewhere.kind is 'clss', which is not known; did you mean class",
        ),
        (
            {"training__sampler": {"kind": "stratified", "strata": {"a": {"weight": 1}}}},
            "training.sampler.strata.a is .*: a stratum has either regions or a sampler",
        ),
        (
            {
                "training__sampler": {
                    "kind": "map",
                    "map": "m",
                    "strata": {"a": {"value": 1, "weight": 1}, "b": {"value": 1, "weight": 1}},
                }
            },
            r"training.sampler.strata is .*: every stratum has a value of its own; a, b share some of \[1, 1\]",
        ),
        (
            {"network__subnets": [{"top_resolution": [8] * 3}, {"top_resolution": [32] * 3}]},
            r"network: subnets go from coarse to fine, but subnet 1 .* 32 × 32 × 32, 8 × 8 × 8 nm",
        ),
        (
            {"prediction__block_shape": [36, 36, 0]},
            r"prediction.block_shape is \[36, 36, 0\]: .* above 0 for every axis",
        ),
        (
            {"data__classes": {"sets/mito": "mito"}},
            "data.classes is .*: the class 'sets/mito' cannot name a folder, .* as in sets_mito: sets/mito",
        ),
        ({"data__classes": ["dark", ".."]}, r"data.classes is .*: the class '\.\.' cannot name a folder, .*"),
        ({"prediction__block_shape": []}, r"prediction.block_shape is \[\]: it has a length above 0 for every axis"),
        ({"version": True}, "version is True; this scalenet_gp reads run files of version 1"),
        ({"version": 2}, "version is 2; this scalenet_gp reads run files of version 1: write `version: 1`"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    path = write_config(tmp_path / "run.yaml", **changes)
    with pytest.raises(ConfigError, match=message) as error:
        Config.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_version_that_only_equals_one_is_refused_from_python_too():
    for version in (True, 1.0, "1"):
        with pytest.raises(ValueError, match="this scalenet_gp reads run files of version 1"):
            tiny_config(version=version)


def test_a_file_without_a_version_is_refused(tmp_path):
    path = write_config(tmp_path / "run.yaml")
    path.write_text(path.read_text().replace("version: 1\n", ""))
    with pytest.raises(ConfigError, match="version is missing; this scalenet_gp reads run files of version 1"):
        Config.read(path)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"data: [", "line 1, column 8"),
        (b"a: b: c", "line 1, column 5"),
        (b"a: 1\nb: 2\na: 3", "line 3, column 1"),
        (b"a: {[1, 2]: 3}", "line 1, column 5"),
    ],
    ids=["open", "colons", "twice", "list as name"],
)
def test_what_is_not_yaml_is_refused_with_its_place(tmp_path, content, place):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"run\.yaml, {place}: this is not YAML: "):
        Config.read(path)


def test_bytes_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"run\.yaml: this is not YAML: "):
        Config.read(tmp_path / "run.yaml")


@pytest.mark.parametrize("content", ["", "just words", "[1, 2]"])
def test_yaml_that_is_not_a_mapping_is_refused(tmp_path, content):
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"run\.yaml: the config is .*: it has to be a mapping"):
        Config.read(path)


def test_numbers_with_an_exponent_are_numbers(tmp_path):
    path = write_config(tmp_path / "run.yaml")
    path.write_text(path.read_text().replace("sigma: 0.03162277660168379", "sigma: 3e-2"))
    assert Config.read(path).augmentation[2].sigma == 0.03


def test_texts_that_look_like_numbers_with_an_exponent_stay_texts(tmp_path):
    config = tiny_config(training__start_from="7e12")
    config.write(tmp_path / "config.yaml")
    assert Config.read(tmp_path / "config.yaml") == config


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "run.yaml", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"there is no config {path}"):
            Config.read(path)


def test_a_config_cannot_be_changed_after_it_was_checked():
    with pytest.raises(ValueError, match="frozen"):
        tiny_config().version = 2


def test_network_arguments_reach_the_network():
    common = TINY["network"]["subnets"][0]
    net = tiny_config(network=scalenet({**common, "num_final_convs": 2, "activation": "GELU"})).build_network()
    arguments = [node.arguments for node in net.nodes.values()]
    assert any("GELU" in map(str, a.values()) for a in arguments)
    assert net.specs["0_output"].channels == 2


FINE = {"top_resolution": [4.5] * 3, "base_nc": 2, "heads": {"organelles": ["er", "mito"]}}


@pytest.mark.parametrize(
    ("network", "built"),
    [
        ({"kind": "unet", **FINE}, lambda: build_unet(**FINE, output_nc=2)),
        ({"kind": "unet", **FINE, "output_nc": 5}, lambda: build_unet(**FINE, output_nc=5)),
        (
            {"kind": "autoencoder", "top_resolution": [4.5] * 3, "latent_nc": 3},
            lambda: build_autoencoder([4.5] * 3, latent_nc=3),
        ),
        (
            {"kind": "scalenet", "subnets": [{"top_resolution": [9] * 3}, {**FINE, "bottleneck_join": "sum"}]},
            lambda: build_scalenet(
                [{"top_resolution": [9] * 3, "output_nc": 2}, {**FINE, "bottleneck_join": "sum", "output_nc": 2}]
            ),
        ),
        (
            {
                "kind": "attentive_scalenet",
                "subnets": [{"top_resolution": [9] * 3}, {**FINE, "attention_gates": False}],
            },
            lambda: build_attentive_scalenet(
                [{"top_resolution": [9] * 3, "output_nc": 2}, {**FINE, "attention_gates": False, "output_nc": 2}]
            ),
        ),
    ],
    ids=["unet", "channels", "autoencoder", "scalenet", "attentive"],
)
def test_every_kind_of_network_is_the_one_that_its_builder_makes(tmp_path, network, built):
    config = tiny_config(network=network)
    config.write(tmp_path / "run.yaml")
    for each in (config, Config.read(tmp_path / "run.yaml")):
        assert each.build_network().to_spec() == built().to_spec()


LOSSES = {
    CrossEntropyDice: {"kind": "cross_entropy_dice"},
    BinaryCrossEntropy: {"kind": "binary_cross_entropy", "label_smoothing": 0.1},
    CrossEntropy: {"kind": "cross_entropy", "label_smoothing": 0.1},
    Dice: {"kind": "dice"},
    Tversky: {"kind": "tversky", "alpha": 0.4},
    Focal: {"kind": "focal", "gamma": 3},
    DistanceRegression: {"kind": "distance_regression", "beta": 0.5},
    Boundary: {"kind": "boundary"},
    CenterlineDice: {"kind": "centerline_dice", "iterations": 3},
    SmoothedBoundaries: {"kind": "smoothed_boundaries", "sigma": 16, "loss": {"kind": "focal"}},
    WeightedSum: {
        "kind": "weighted_sum",
        "losses": {"a": {"kind": "dice"}, "b": {"kind": "boundary"}},
        "weights": {"a": 1, "b": [{"iteration": 10, "weight": 0}, {"iteration": 30, "weight": 0.1}]},
    },
}


@pytest.mark.parametrize("loss", LOSSES.items(), ids=lambda loss: loss[0].__name__)
def test_a_loss_of_a_run_file_is_the_one_that_it_names_and_learns(tmp_path, loss):
    kind, named = loss
    config = tiny_config(training__targets={"*": {"kind": "classes", "exclusive": True, "loss": named}})
    config.write(tmp_path / "run.yaml")
    assert Config.read(tmp_path / "run.yaml") == config
    built = config.training.targets["*"].build_loss((8.0, 8.0, 8.0))
    assert type(built) is kind
    logits = torch.linspace(-1, 1, 2 * 4**3).view(1, 2, 4, 4, 4).requires_grad_()
    first = torch.zeros(1, 1, 4, 4, 4)
    first[..., 1:3] = 1
    target = torch.cat([first, 1 - first], dim=1)
    call_loss(built, logits, target, torch.ones_like(target), activation="Softmax").backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


def test_a_run_file_names_every_loss():
    kinds = {getattr(losses, name) for name in losses.__all__}
    modules = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, torch.nn.Module)}
    of_several_outputs = {losses.DeepSupervision, losses.KullbackLeibler}  # targets of several outputs name them
    assert modules - of_several_outputs - {losses.MaskedLoss, losses.NamedLosses} == set(LOSSES)


def test_weights_within_a_sum_change_with_iterations():
    options = tiny_config(training__targets={"*": {"kind": "classes", "loss": LOSSES[WeightedSum]}})
    loss = options.training.targets["*"].build_loss((8.0, 8.0, 8.0))
    supervision = OutputLoss(loss)
    found = []
    for iteration in (0, 20, 40):
        supervision.weight_at(iteration)  # as a trainer does before each step
        found.append(loss.weight_of("b"))
    assert found == [0, 0.05, 0.1]
    parts = {"a": torch.tensor(2.0), "b": torch.tensor(10.0)}
    assert loss.total(parts).item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    "kind", sorted(k for k, v in vars(torch.optim).items() if k != "Optimizer" and is_optimizer(v))
)
def test_every_optimizer_of_torch_can_be_named(kind):
    config = tiny_config(training__optimization__optimizer={"kind": kind})
    made = config.training.optimization.make_optimizer([torch.nn.Parameter(torch.zeros(2, 2))])
    assert type(made) is getattr(torch.optim, kind)


def test_classes_are_a_list_or_a_mapping(tmp_path):
    plain = tiny_config(data__classes=["a", "b"]).data
    assert plain.classes == {"a": ("a",), "b": ("b",)}
    assert plain == tiny_config(data__classes={"a": "a", "b": ["b"]}).data
    united = tiny_config(data__classes={"mito": ["mem", "lum"], "b": "b"})
    assert united.data.class_names == ("mito", "b")
    united.write(tmp_path / "run.yaml")
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["data"]["classes"] == {"mito": ["mem", "lum"], "b": "b"}
    assert Config.read(tmp_path / "run.yaml") == united
