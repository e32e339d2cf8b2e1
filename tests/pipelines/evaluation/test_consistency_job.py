"""The consistency of predictions on the disk against counting in whole arrays."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from scalenet_gp.errors import ConfigError
from scalenet_gp.metrics import ConfusionCounts
from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.evaluation import check_consistency
from tests.pipelines.conftest import CLASSES, EVALUATED, OUTPUTS, tiny_config, write_config, write_prediction

FIRST = [bounds[0] for bounds in EVALUATED]
FINE = "1_output"


def arrays(seed=0):
    """Predictions of both scales, (class, 16, 24, 12) in the finer one."""
    shapes = {name: [(e - b) // factor for b, e in EVALUATED] for name, factor in OUTPUTS.items()}
    rng = np.random.default_rng(seed)
    return {name: rng.random((len(CLASSES), *shape)) for name, shape in shapes.items()}


def alike(one, other):
    return ConfusionCounts.count(one, other, np.ones(one.shape, bool))


def total(pairs):
    counts = ConfusionCounts()
    for pair in pairs:
        counts += alike(*pair)
    return counts


def test_a_prediction_is_compared_with_itself(tmp_path):
    values = arrays()
    prediction = write_prediction(tmp_path / "p", values)
    config = tiny_config(prediction__block_shape=(36, 45, 54))  # 8 x 10 x 12 fine voxels: two and a half along y
    thresholds = {FINE: {"dark": 0.3}}
    found = check_consistency(config, prediction, output=tmp_path / "c.json", thresholds=thresholds)
    for index, (label, threshold) in enumerate((("bright", 0.5), ("dark", 0.3))):
        mask = values[FINE][index].astype(np.float32) >= np.float32(threshold)
        one = found[FINE][label]
        parts = [mask[z : z + 8, y : y + 10] for z in (0, 8) for y in (0, 10)]
        assert one.fractions.shares == pytest.approx([part.mean() for part in parts])
        seams = [(mask[7], mask[8]), (mask[:, 9], mask[:, 10]), (mask[:, 19], mask[:, 20])]
        assert one.across == total(seams)
        every = [(mask[:-1], mask[1:]), (mask[:, :-1], mask[:, 1:]), (mask[..., :-1], mask[..., 1:])]
        assert one.within + one.across == total(every)
    read = json.loads((tmp_path / "c.json").read_text())["outputs"]
    assert read.keys() == OUTPUTS.keys()
    assert read[FINE]["dark"]["dice_across_blocks"] == found[FINE]["dark"].across.scores["dice"]
    with pytest.raises(FileExistsError, match=r"c.json exists; replace it with --force"):
        check_consistency(config, prediction, output=tmp_path / "c.json")


def test_predictions_that_overlap_or_meet_are_compared(tmp_path):
    values, others = arrays(), arrays(1)
    one = write_prediction(tmp_path / "one", values)
    shifts = {"overlap": (8, 0, -4), "behind": (0, 0, 12), "before": (-16, 4, 0)}
    boxes = {
        "overlap": (np.s_[8:, :, :8], np.s_[:8, :, 4:]),
        "behind": (np.s_[:, :, -1], np.s_[:, :, 0]),
        "before": (np.s_[0, 4:], np.s_[-1, :-4]),
    }
    for name, shift in shifts.items():
        other = write_prediction(tmp_path / name, others, [f + s for f, s in zip(FIRST, shift, strict=True)])
        found = check_consistency(tiny_config(), one, other)
        for index, label in enumerate(CLASSES):
            mine, theirs = (
                (of[FINE][index].astype(np.float32) >= 0.5)[box]
                for of, box in zip((values, others), boxes[name], strict=True)
            )
            assert found[FINE][label].other == alike(mine, theirs)
    far = write_prediction(tmp_path / "far", others, [FIRST[0] + 40, *FIRST[1:]])
    with pytest.raises(ConfigError, match=r"neither overlaps .* nor meets it"):
        check_consistency(tiny_config(), one, far)
    off = write_prediction(tmp_path / "off", others, [FIRST[0] + 0.5, *FIRST[1:]])
    with pytest.raises(ConfigError, match="has other voxels than"):
        check_consistency(tiny_config(), one, off)
    with pytest.raises(FileNotFoundError, match="there is no prediction"):
        check_consistency(tiny_config(), one, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(ConfigError, match="has no output of classes"):
        check_consistency(tiny_config(), tmp_path / "empty")


def test_the_command_prints_a_table(tmp_path):
    prediction = write_prediction(tmp_path / "p", arrays())
    command = ["evaluate", write_config(tmp_path / "run.yaml"), "--prediction", prediction, "--output", tmp_path]
    result = CliRunner().invoke(app, [*map(str, command), "--consistency", "--other", str(prediction)])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines() if "dark" in line]
    assert [row[-1] for row in rows] == ["1.000", "1.000"]
    assert (tmp_path / "consistency.json").exists()
    for options, error in (
        (["--consistency", "--region", "all", "--choose-thresholds"], "does not take --region, --choose-thresholds"),
        (["--consistency", "--outputs", "1_output"], "--outputs chooses outputs to compare with the annotation"),
    ):
        result = CliRunner().invoke(app, [*map(str, command), *options])
        assert result.exit_code == 1
        assert error in str(result.exception)
