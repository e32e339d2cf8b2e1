"""The demo, from an empty folder to a picture of two networks."""

import json
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from scalenet_gp.errors import WorkerFaultError
from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.demo import demo_job
from scalenet_gp.pipelines.demo.demo_job import CONFIGS, comparison_table, demo
from scalenet_gp.pipelines.demo.demo_volume import MARGIN, ORGANELLES, make_demo_volume, write_demo_volume
from scalenet_gp.pipelines.plots.comparison_picture import _decide
from scalenet_gp.volumes.storage import open_array
from tests.pipelines.config.test_config import SHIPPED
from tests.pipelines.conftest import files_below

FINE = {"top_resolution": [64] * 3, "base_nc": 1, "downsample_factors": [[2, 2, 2]]}
HASTY = {
    "version": 1,
    "data": {
        "sources": [{"raw": "recon-1/em/fibsem-uint8", "labels": "recon-1/labels/groundtruth/crop1"}],
        "classes": list(ORGANELLES),
    },
    "network": {"kind": "unet", **FINE},
    "training": {
        "region": {"begin": [None] * 3, "end": [None, None, 5120]},
        "output_shape": [512] * 3,
        "iterations": 1,
    },
    "evaluation": {
        "region": {"begin": [512, 1024, 5120], "end": [2048, 3584, None]},
        "groups": {"kind": ["mito_neuron", "mito_glia"]},
    },
    "prediction": {"block_shape": [2560] * 3},
}


@pytest.mark.usefixtures("warm_python")
def test_the_demo_leaves_two_runs_their_scores_and_one_picture(tmp_path, monkeypatch):
    small = partial(write_demo_volume, shape=(40, 64, 120), voxel_size_nm=64)
    monkeypatch.setattr(demo_job, "write_demo_volume", small)
    unet = Config.model_validate(HASTY)
    scalenet = Config.model_validate(
        HASTY | {"network": {"kind": "scalenet", "subnets": [FINE | {"top_resolution": [128] * 3}, FINE]}}
    )
    result = demo(tmp_path / "demo", {"U-Net": unet, "ScaleNet": scalenet}, "cpu", seed=1)
    raw = open_array(result.volume / "recon-1" / "em" / "fibsem-uint8" / "s0")[:]
    np.testing.assert_array_equal(raw, make_demo_volume(1, (40, 64, 120), 64).raw)
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {
        *("volume.zarr", "picture.png"),
        *(f"{run}{ending}" for run in ("u-net", "scalenet") for ending in ("", ".yaml", ".log")),
    }
    assert result.picture.read_bytes().startswith(b"\x89PNG")
    assert [run.output for run in result.runs.values()] == ["output", "1_output"]
    for run in result.runs.values():
        assert (run.prediction / run.output / "s0").is_dir()
        assert json.loads((run.folder / "scores.json").read_text())
        # every class is in the held-out part
        counts = run.scores.classes[run.output].values()
        assert all(count.true_positive + count.false_negative > 0 for count in counts)
    console = Console(width=120, record=True)
    console.print(comparison_table(result))
    text = console.export_text()
    assert all(f"Dice of {name}" in text for name in ORGANELLES)
    assert "right kind of" in text


@pytest.mark.usefixtures("warm_python")
def test_a_run_that_fails_is_named_with_its_log(tmp_path, monkeypatch):
    small = partial(write_demo_volume, shape=(40, 64, 120), voxel_size_nm=64)
    monkeypatch.setattr(demo_job, "write_demo_volume", small)
    config = Config.model_validate(HASTY | {"evaluation": {"region": {"begin": [0, 0, 10**6], "end": [None] * 3}}})
    with pytest.raises(WorkerFaultError, match=r"^Hasty: .*evaluation.*; what it told is in .*hasty\.log"):
        demo(tmp_path / "demo", {"Hasty": config}, "cpu")
    assert "Traceback" in (tmp_path / "demo" / "hasty.log").read_text()


def test_a_folder_that_exists_is_refused(tmp_path):
    with pytest.raises(FileExistsError, match="choose another folder"):
        demo(tmp_path, {})
    assert files_below(tmp_path) == []


def test_the_single_unet_is_the_finest_scale_and_does_not_see_what_tells_the_kind():
    scalenet, unet = (
        next(Config.read(path) for path in SHIPPED if path.name == CONFIGS[name]) for name in ("ScaleNet", "U-Net")
    )
    net = unet.build_network()
    assert max(net.receptive_field("output")["input"]) / 2 < MARGIN
    finest = scalenet.build_network()
    width = {name: spec.channels for name, spec in net.specs.items() if name in ("in_conv_0", "out_conv_0", "output")}
    assert all(finest.specs[f"2_{name}"].channels == channels for name, channels in width.items())
    for part in ("data", "augmentation", "evaluation"):
        assert getattr(scalenet, part) == getattr(unet, part)
    assert scalenet.training.sampler == unet.training.sampler
    assert scalenet.training.output_shape["2_output"] == unet.training.output_shape


def test_of_exclusive_classes_the_most_probable_is_drawn_where_their_sum_reaches_the_threshold():
    predicted = np.array([[0.6, 0.1, 0.9], [0.3, 0.2, 0.1], [0.3, 0.2, 0.6]])[:, None]
    decided = _decide(predicted, [1, 2], 0.5)
    np.testing.assert_array_equal(decided[:, 0], [[1, 0, 1], [1, 0, 0], [0, 0, 1]])
