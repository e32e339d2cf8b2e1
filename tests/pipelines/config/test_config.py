"""Configs: exact, checked when they are read, and the same in YAML."""

from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.config.config import Config
from tests.pipelines.conftest import TINY, changed, tiny_config, write_config

INFINITE = float("inf")
EVERYWHERE = {"begin": [None] * 3, "end": [None] * 3}
SHIPPED = sorted((Path(__file__).parents[3] / "pipelines" / "configs").glob("*.yaml"))


def test_all_configs_are_shipped():
    assert [path.name for path in SHIPPED] == ["demo.yaml", "tissue.yaml", "vnc.yaml"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_config_builds_its_network_and_survives_a_round_trip(path, tmp_path):
    config = Config.read(path)
    config.write(tmp_path / "again.yaml")
    assert Config.read(tmp_path / "again.yaml") == config
    net = config.build_network()
    assert [net.specs[key].voxel_size for key in net.output_keys] == [s.top_resolution for s in config.network]
    assert {net.specs[key].channels for key in net.output_keys} == {len(config.data.classes)}


def test_lengths_are_exact(tmp_path):
    config = tiny_config(prediction__block_shape=[4.6, "23/5", "1/3"])
    assert config.prediction.block_shape == (Fraction(23, 5), Fraction(23, 5), Fraction(1, 3))
    config.write(tmp_path / "config.yaml")
    assert Config.read(tmp_path / "config.yaml") == config
    assert "block_shape: [4.6, 4.6, 1/3]" in (tmp_path / "config.yaml").read_text()


@given(st.lists(st.fractions(min_value=Fraction(1, 10**9), max_value=10**9), min_size=3, max_size=3))
def test_a_round_trip_through_yaml_loses_nothing(lengths):
    config = tiny_config(prediction__block_shape=lengths, network__1__top_resolution=lengths)
    again = Config.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))))
    assert again == config
    assert again.prediction.block_shape == tuple(lengths)
    # the network gets them so, too
    assert config.network[1].model_dump()["top_resolution"] == again.network[1].model_dump()["top_resolution"]


def test_what_bounds_allow_is_allowed():
    sections = {"thickness": "1/3", "contrast": [0, 0], "slip": 0.1, "displacement_sigma": "1/3"}
    options = {"gamma": [0.5, 0.5], "blur": [0, 0], "contrast": [-1, 1], "scale_interval": [0.9, 1.1]}
    shares = {"classes": dict.fromkeys("abcdefghij", 0.1)}
    config = tiny_config(
        **{f"augmentation__{name}": value for name, value in options.items()},
        augmentation__sections=sections,
        training__sampling=shares,
    )
    assert config.augmentation.sections.displacement_sigma == Fraction(1, 3)
    assert config.augmentation.scale_interval == ((0.9, 1.1),)


def test_a_region_says_what_it_is():
    region = Region(begin=(None, 0, 4.6), end=(550, None, 9.2))
    assert str(region) == "[null, 0, 4.6] to [550, null, 9.2] nm"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__iteratons": 3}, "training.iteratons: Extra inputs are not permitted"),
        ({"training": {}}, "training.region: Field required; training.output_shape: Field required"),
        ({"training__iterations": 0}, "training.iterations: .* greater than or equal to 1, not 0"),
        ({"training__iterations": "many"}, "training.iterations: .* valid integer.*, not 'many'"),
        ({"training__learning_rate": -1}, "training.learning_rate: .* greater than 0, not -1"),
        ({"threshold": 1}, "threshold: .* less than 1, not 1"),
        ({"network": []}, r"network: .* at least 1 item.*, not \[\]"),
        ({"network__1__base_nc": 0}, "network.1.base_nc: .* greater than or equal to 1, not 0"),
        (
            {"network__0__downsample_mode": "mode"},
            "network.0.downsample_mode: .*'max', 'mean' or 'strided', not 'mode'",
        ),
        ({"data__translation": "middle"}, "data.translation: .*'centre' or 'corner', not 'middle'"),
        ({"data__classes": []}, "data.classes: .* at least 1 item"),
        ({"data__classes": ["a", "b", "a"]}, "data.classes: .*every class is learned once; a, b, a repeats one"),
        ({"prediction__block_shape": [36, "wide", 36]}, "prediction.block_shape.1: .*'wide' is no finite length"),
        ({"evaluation__begin": [0, 0, "left"]}, "evaluation.begin.2: .*'left' is no finite length"),
        ({"evaluation__begin": [0, 0]}, "evaluation: .*begin has 2 axes and end 3"),
        ({"evaluation": {"begin": [9], "end": [4.5]}}, "evaluation: .*ends after it begins; 9 to 4.5 nm does not"),
        ({"augmentation__scale_interval": [1]}, "augmentation.scale_interval.0.1: Field required"),
        ({"augmentation__scale_interval": [0, 1]}, "augmentation.scale_interval.0.0: .* greater than 0, not 0"),
        (
            {"augmentation__scale_interval": [[1, 1], [1.1, 0.9], [1, 1]]},
            "augmentation.scale_interval.1: .*the lower bound comes first and both are finite; 1.1 to 0.9 are not so",
        ),
        ({"augmentation__contrast": [1.2, 0.8]}, "augmentation.contrast: .*lower bound comes first.*; 1.2 to 0.8 are"),
        ({"augmentation__contrast": [1, INFINITE]}, "augmentation.contrast: .*both are finite; 1 to inf are"),
        ({"augmentation__brightness": [0.1, -0.1]}, "augmentation.brightness: .*; 0.1 to -0.1 are"),
        ({"augmentation__gamma": [1.5, 1]}, "augmentation.gamma: .*; 1.5 to 1 are"),
        ({"augmentation__gamma": [0, 1]}, "augmentation.gamma.0: .* greater than 0, not 0"),
        ({"augmentation__blur": [8, 0]}, "augmentation.blur: .*; 8 to 0 are"),
        ({"augmentation__blur": [-8, 0]}, "augmentation.blur.0: .* greater than or equal to 0, not -8"),
        ({"augmentation__noise_variance": INFINITE}, "augmentation.noise_variance: .* finite number, not inf"),
        ({"augmentation__sections": {"thickness": 0}}, "augmentation.sections.thickness: .* greater than 0, not 0"),
        (
            {"augmentation__sections": {"thickness": 9, "contrast": [0.5, 0.1]}},
            "augmentation.sections.contrast: .*; 0.5 to 0.1 are",
        ),
        (
            {"augmentation__sections": {"thickness": 9, "contrast": [-0.5, 0.1]}},
            "augmentation.sections.contrast.0: .* greater than or equal to 0, not -0.5",
        ),
        (
            {"augmentation__sections": {"thickness": 9, "displacement_sigma": -4}},
            "augmentation.sections.displacement_sigma: .* greater than or equal to 0, not -4",
        ),
        (
            {"augmentation__sections": {"thickness": 9, "slip": 0.1}},
            "augmentation.sections: .*slip is 0.1 and shift 0.0, but displacement_sigma is 0 nm",
        ),
        (
            {"augmentation__sections": {"thickness": 9, "shift": 0.2}},
            "augmentation.sections: .*slip is 0.0 and shift 0.2, but displacement_sigma is 0 nm",
        ),
        (
            {"training__sampling": {"strata": {"a": {"weight": INFINITE, "regions": [EVERYWHERE]}}}},
            "training.sampling.strata.a.weight: .* finite number, not inf",
        ),
        (
            {"training__sampling": {"classes": {"bright": 0.6, "dark": 0.6}}},
            "training.sampling.classes: .*the shares sum to 1.2; they may sum to 1 at most",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    path = write_config(tmp_path / "run.yaml", **changes)
    with pytest.raises(ValueError, match=message) as error:
        Config.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"data: [", b"\xff\xfe\x00", b"a: b: c"], ids=["open", "bytes", "colons"])
def test_what_is_no_yaml_is_refused(tmp_path, content):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.yaml is no YAML"):
        Config.read(path)


@pytest.mark.parametrize("content", ["", "just words", "[1, 2]"])
def test_yaml_that_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"run\.yaml: the config: Input should be a valid dictionary"):
        Config.read(path)


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "run.yaml", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"there is no config {path}"):
            Config.read(path)


def test_a_config_cannot_be_changed_after_it_was_checked():
    with pytest.raises(ValueError, match="frozen"):
        tiny_config().threshold = 2


def test_network_arguments_reach_the_network():
    common = changed(TINY)["network"][0]
    net = tiny_config(network=[{**common, "num_final_convs": 2, "activation": "GELU"}]).build_network()
    arguments = [node.arguments for node in net.nodes.values()]
    assert any("GELU" in map(str, a.values()) for a in arguments)
    assert net.specs["0_output"].channels == 2
