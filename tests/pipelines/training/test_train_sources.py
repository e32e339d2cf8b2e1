"""A run over several sources, from training to evaluation, and what it refuses before it begins."""

import json

import pytest

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.evaluation import final_evaluation
from scalenet_gp.pipelines.inspection import preview
from scalenet_gp.pipelines.training import train
from scalenet_gp.volumes import MultiscaleImage
from tests.pipelines.conftest import tiny_config
from tests.pipelines.data.many_sources import CLASSES, SOURCES, write_two

LEFT, MIDDLE, RIGHT = (
    {"begin": [None, None, low], "end": [None, None, high]} for low, high in ((None, 63), (63, 99), (99, None))
)
PARTS = [
    {**SOURCES[0], "region": LEFT},
    {**SOURCES[1], "region": LEFT},
    {**SOURCES[0], "region": MIDDLE, "use": "validate"},
    {**SOURCES[0], "region": RIGHT, "use": "evaluate"},
    {**SOURCES[1], "region": RIGHT, "use": "evaluate"},
]
RUN = {
    "data__sources": PARTS,
    "data__classes": CLASSES,
    "training__region": None,
    "training__iterations": 2,
    "training__log": {"images_every": None},
    "validation": {"every": 2, "samples": 2},
    "evaluation": {},
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return write_two(tmp_path_factory.mktemp("two"))


def test_a_run_learns_validates_and_is_evaluated_by_source(two, tmp_path):
    classes = {**CLASSES, "other": ["other", 9]}  # which only the second source has
    config = tiny_config(**{**RUN, "data__classes": classes})
    run = tmp_path / "run"
    checkpoint = train(config, two, run, "cpu", report="none")
    result = final_evaluation(config, two, run, checkpoint, "cpu")
    assert list(result.of_sources) == ["crop-3", "ids-2"]
    for output, classes in result.scores.classes.items():
        for name, counts in classes.items():
            one, other = (of.classes[output][name] for of in result.of_sources.values())
            assert counts == one + other
            assert name == "other" or counts.true_positive + counts.false_negative > 0
    for name in result.of_sources:
        assert MultiscaleImage.open(run / "prediction.zarr" / name / "1_output").channels == 3
        assert (run / f"prediction_{name}.png").is_file()
    assert json.loads((run / "scores.json").read_text())["version"] == 1
    written = Config.read(run / "config.yaml")
    assert written.data.folder == str(two)
    assert written.data.sources == config.data.sources
    assert preview(config, two, tmp_path / "preview.png", samples=2).stat().st_size > 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"data__sources": [*PARTS[:2], {**PARTS[2], "region": LEFT}]},
            ConfigError,
            r"data\.sources\.2: crop-2, to validate with, shares annotated voxels with crop, which is learned from",
        ),
        (
            {"data__classes": {**CLASSES, "other": ["other"]}},
            DataError,
            r"data\.classes\.other: no source to train on has labels of it",
        ),
        (
            {"data__sources": [*PARTS, {**SOURCES[1], "labels": "a.zarr/labels/crop/dark"}]},
            ValueError,
            r"data\.sources\.5: raw data and labels lie apart: .*dark from .* nm, .*raw from",
        ),
        (
            {"data__sources": [*PARTS, {**SOURCES[0], "raw": "x"}, {**SOURCES[0], "labels": "y"}]},
            ConfigError,
            r"2 faults in 7 sources, .*check.* lists: data\.sources\.5\.raw: .*x: no .*; data\.sources\.6\.labels: ",
        ),
        (
            {"data__sources": [{**source, "use": "validate"} for source in SOURCES]},
            ConfigError,
            r"data\.sources has none to train on",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_the_first_batch(two, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        train(tiny_config(**{**RUN, **changes}), two, tmp_path / "run", "cpu", report="none")
    assert not (tmp_path / "run" / "config.yaml").exists()
