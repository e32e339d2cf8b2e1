"""The JSON schema of run files, the resolved config, and the reference tables."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from scalenet_gp.pipelines.config import Config, reference_text, resolved_yaml, schema_text
from scalenet_gp.pipelines.config.yaml_files import parse_yaml
from tests.pipelines.conftest import TINY, changed, tiny_config

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "pipelines" / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configs_fit_the_schema(validator, path):
    validator.validate(parse_yaml(path.read_text()))


def test_a_written_config_fits_the_schema(validator, tmp_path):
    tiny_config(prediction__block_shape=["32/3", 36, 36]).write(tmp_path / "run.yaml")
    validator.validate(parse_yaml((tmp_path / "run.yaml").read_text()))


@pytest.mark.parametrize(
    "changes",
    [
        {"training__sed": 3},
        {"training__seed": "three"},
        {"network__kind": "scalnet"},
        {"network__subnets__0__downsample_mode": "mode"},
        {"augmentation__0__kind": "deforms"},
        {"prediction__stored": "uint9"},
        {"data__classes": []},
        {"version": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_wrong_does_not_fit_the_schema(validator, changes):
    wrong = json.loads(json.dumps(changed(TINY, **changes)))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(wrong)


def test_every_field_is_described():
    """Editors show the descriptions, and the reference lists them."""
    schema = json.loads(schema_text())
    models = {"the file": schema, **schema["$defs"]}
    bare = [
        f"{name}.{field}"
        for name, model in models.items()
        for field, value in model.get("properties", {}).items()
        if not value.get("description") and field != "kind"
    ]
    assert bare == []


def test_the_reference_lists_every_field():
    text, schema = reference_text(), json.loads(schema_text())
    for model in (schema, *(part for part in schema["$defs"].values() if "properties" in part)):
        for field in model["properties"]:
            assert f"\n| `{field}` |" in text, field
    for kind in ("unet", "cross_entropy_dice", "deform", "stratified"):
        assert f"## `kind: {kind}`" in text


def test_a_resolved_config_marks_defaults_and_reads_back(tmp_path):
    config = Config.model_validate(TINY)
    text = resolved_yaml(config)
    (tmp_path / "run.yaml").write_text(text)
    assert Config.read(tmp_path / "run.yaml") == config
    lines = text.splitlines()
    assert lines[0] == "version: 1"
    assert "  iterations: 4" in lines
    assert "  workers: 0  # default" in lines
    assert "  optimization:  # default" in lines
    assert "    learning_rate: 0.01  # default" in lines
    assert "validation: null  # default" in lines
    assert "- kind: deform" in lines
    assert "  jitter_sigma: [2, 2, 2]" in lines


def test_every_line_that_the_file_says_is_unmarked():
    marked = {line for line in resolved_yaml(tiny_config()).splitlines() if line.endswith("# default")}
    unmarked = yaml.safe_load(re.sub(r"(?m)^.*# default$\n?", "", resolved_yaml(tiny_config())))
    assert marked
    assert unmarked["training"]["seed"] == 1
    assert set(unmarked["training"]) == set(TINY["training"])
