"""``--set``: values in the place of a run file's."""

import re

import pytest

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.config import Config, apply_overrides
from tests.pipelines.conftest import changed, tiny_config, write_config


def test_values_are_yaml_and_change_nothing_else():
    data = {"a": {"b": [1, {"c": 2}]}, "d": 3}
    assert apply_overrides(data, ["a.b.1.c=[4, x]", "e.f=1e-3", "d=", "a.g=null"]) == {
        "a": {"b": [1, {"c": [4, "x"]}], "g": None},
        "d": None,
        "e": {"f": 0.001},
    }
    assert data == {"a": {"b": [1, {"c": 2}]}, "d": 3}


def test_a_config_with_overrides_is_the_config_with_other_values(tmp_path):
    path = write_config(tmp_path / "run.yaml")
    assert Config.read(path) == tiny_config()
    overrides = ["training.optimization.learning_rate=1e-2", "augmentation.0.jitter_sigma=[3, 3, 7/3]"]
    expected = tiny_config(training__optimization__learning_rate=0.01, augmentation__0__jitter_sigma=[3, 3, "7/3"])
    assert Config.read(path, overrides) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.seed", "--set takes key.path=value, as in training.seed=3, not 'training.seed'"),
        ("=3", "--set takes key.path=value, .*, not '=3'"),
        ("training.seed=[", r"--set training.seed: the value '\[' is not YAML"),
        ("training.seed.more=3", "--set training.seed.more=3: training.seed is 1, which has no fields"),
        ("augmentation.7.sigma=1", "augmentation is a list of 3 entries, numbers from 0 to 2; '7' is not one of them"),
        ("augmentation.noise.sigma=1", "augmentation is a list of 3 entries, .*; 'noise' is not one of them"),
        ("data.sources.1.raw=a", "data.sources is a list of one entry, the number 0; '1' is not one of them"),
        ("training.sed=3", "there is no field training.sed; did you mean seed?"),
        ("prediction.stord=uint8", r"there is no field prediction.stord; did you mean stored\?"),
        ("network.subnets.1.base=3", r"there is no field network.subnets.1.base; did you mean base_nc\?"),
        ("augmentation.2.sgma=1", r"there is no field augmentation.2.sgma; did you mean sigma\?"),
        ("training.seed=-1", r"^--set training.seed=-1: training.seed is -1: it has to be greater than or equal to 0"),
    ],
)
def test_a_wrong_override_is_named(tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        Config.read(write_config(tmp_path / "run.yaml"), [override])


def test_problems_are_those_of_the_file_or_of_the_command_line(tmp_path):
    path = write_config(tmp_path / "run.yaml", training__iterations=0)
    path.write_text(path.read_text().replace("seed: 1", "seed: -2"))
    overrides = ["training.sed=3", "training.region.begin=[5, 5, 5]", "training.region.end=[2, 9, 9]"]
    with pytest.raises(ConfigError) as error:
        Config.read(path, overrides)
    text = str(error.value)
    assert text.startswith(f"{path}, with --set training.region.end=[2, 9, 9]: training.region")
    assert f"; {path}: training.iterations is 0: " in text
    assert "; training.seed is -2: " in text
    assert "; --set training.sed=3: there is no field training.sed" in text


def test_a_section_that_the_file_lacks_is_made(tmp_path):
    path = write_config(tmp_path / "run.yaml")
    path.write_text(re.sub(r"(?m)^  log:.*\n(    .*\n)*", "", path.read_text()))
    assert Config.read(path, ["training.log.images_every=7"]).training.log.images_every == 7


def test_changed_is_what_it_says():
    assert changed({"a": [{"b": 1}]}, a__0__b=2, c__d=3) == {"a": [{"b": 2}], "c": {"d": 3}}
