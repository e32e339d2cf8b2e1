"""The demo, from an empty folder to a picture."""

import json
from functools import partial

import pytest

from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.demo import demo_job
from scalenet_gp.pipelines.demo.demo_job import demo
from scalenet_gp.pipelines.demo.demo_volume import write_demo_volume
from tests.pipelines.conftest import files_below

HASTY = {
    "version": 1,
    "data": {
        "sources": [{"raw": "recon-1/em/fibsem-uint8", "labels": "recon-1/labels/groundtruth/crop1"}],
        "classes": ["cell_membrane", "nucleus", "mito_neuron", "mito_glia"],
    },
    "network": {"kind": "unet", "top_resolution": [128] * 3, "base_nc": 2, "downsample_factors": [[2, 2, 2]]},
    "training": {
        "region": {"begin": [None] * 3, "end": [None, None, 5376]},
        "output_shape": [512] * 3,
        "iterations": 2,
    },
    "evaluation": {"region": {"begin": [512, 1024, 5376], "end": [2560, 3584, None]}},
    "prediction": {"block_shape": [1024] * 3},
}


@pytest.mark.slow
def test_the_demo_leaves_volume_log_checkpoint_prediction_picture_and_scores(tmp_path, monkeypatch):
    # less high and deep, as most of the time goes into making it
    monkeypatch.setattr(demo_job, "write_demo_volume", partial(write_demo_volume, shape=(96, 144, 224)))
    result = demo(tmp_path / "demo", Config.model_validate(HASTY), "cpu")
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"volume.zarr", "run"}
    assert (result.volume / "recon-1" / "em" / "fibsem-uint8" / "s0").is_dir()
    assert any(result.log.iterdir())
    assert result.checkpoint.name == "checkpoint_2.safetensors"
    assert (result.prediction / "output" / "s0").is_dir()
    assert result.picture.read_bytes().startswith(b"\x89PNG")
    scores = json.loads((tmp_path / "demo" / "run" / "scores.json").read_text())
    for name, agreement in result.scores.classes["output"].items():
        assert scores["output"][name]["false_negative"] == agreement.false_negative
        # every class is in the held-out part
        assert agreement.true_positive + agreement.false_negative > 0


def test_a_folder_that_exists_is_refused(tmp_path):
    with pytest.raises(FileExistsError, match="choose another folder"):
        demo(tmp_path, Config.model_validate(HASTY))
    assert files_below(tmp_path) == []
