"""A process takes as much memory for blocks as it may, and no more; what does not fit is swept in slabs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.prediction import Workers, predict, task
from scalenet_gp.pipelines.prediction.job import NetworkFile, PredictionJob
from scalenet_gp.pipelines.prediction.prediction import Prediction
from scalenet_gp.training.checkpoint import save_checkpoint
from scalenet_gp.volumes import MultiscaleWriter
from scalenet_gp.volumes.storage import group_attributes
from tests.pipelines.conftest import CPU, options_with, scalenet
from tests.pipelines.prediction.predictions import voxels

MIB = 2**20
SHAPE = (256, 64, 64)
LITTLE = 64 * MIB
"""Less than one pass takes."""

SCRIPT = """
import sys
from pathlib import Path

from scalenet_gp.kernels.device import keep_freed_memory

keep_freed_memory()
from scalenet_gp.pipelines.prediction import Workers
from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.prediction import predict

folder, memory = Path(sys.argv[1]), int(sys.argv[2])
config, checkpoint = Config.read(folder / "run.yaml"), folder / "checkpoint_1.safetensors"


def held(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def made(name, region, memory):
    predict(config, folder, checkpoint, folder / name, region, workers=Workers(devices=("cpu",), memory=memory))


made("small", Region(begin=(0, 0, 0), end=(128, 128, 128)), 2**31)
if sys.platform != "linux":
    made("large", "all", memory)
    sys.exit()
before = held("VmRSS:")
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
made("large", "all", memory)
print(held("VmHWM:") - before)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A volume and a checkpoint of a U-Net, to be predicted in one block."""
    folder = tmp_path_factory.mktemp("memory")
    raw = np.random.default_rng(0).integers(0, 255, SHAPE, dtype=np.uint8)
    with MultiscaleWriter(folder / "raw", voxel_size=(8,) * 3, corner=(0,) * 3, shape=SHAPE, dtype=raw.dtype) as writer:
        writer.write((0, 0, 0), raw)
    region = {"begin": [0, 0, 0], "end": [256, 256, 256]}
    config = Config.model_validate(
        {
            "version": 1,
            "data": {"sources": [{"raw": "raw", "labels": "labels"}], "classes": ["one"], "cache": 0},
            "network": scalenet({"top_resolution": [8, 8, 8], "base_nc": 8, "downsample_factors": [[2, 2, 2]]}),
            "training": {"iterations": 1, "output_shape": [256] * 3, "region": region},
            "evaluation": {"region": region},
            "prediction": {"block_shape": [8 * voxels for voxels in SHAPE], "stored": "float32"},
        }
    )
    config.write(folder / "run.yaml")
    torch.manual_seed(0)
    save_checkpoint(folder, config.build_network(), {"iteration": 1})
    return folder


@pytest.fixture(scope="module")
def swept(folder, tmp_path_factory, warm_executable):
    """A prediction with less memory than one pass takes, so in slabs, and what the process that made it printed."""
    place = tmp_path_factory.mktemp("swept")
    for name in ("raw", "run.yaml", "checkpoint_1.safetensors"):
        os.symlink(folder / name, place / name)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    script = [warm_executable, "-c", SCRIPT, str(place), str(LITTLE)]
    result = subprocess.run(script, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return place / "large", result.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux tells it")
def test_it_holds_no_more_than_it_may(swept):
    """The peak is below it, and not far."""
    output, printed = swept
    assert LITTLE / 3 < int(printed.split()[-1]) < LITTLE
    assert group_attributes(output)["job"]["thickness"] < 8 * SHAPE[0]


@pytest.mark.slow
def test_slabs_do_not_show(folder, swept, tmp_path):
    config, checkpoint = Config.read(folder / "run.yaml"), folder / "checkpoint_1.safetensors"
    workers = Workers(devices=("cpu",), memory=4096 * MIB)
    whole = predict(config, folder, checkpoint, tmp_path / "whole", "all", workers=workers)
    slabs, _ = swept
    assert len({group_attributes(output)["job"]["thickness"] for output in (slabs, whole)}) == 2
    np.testing.assert_allclose(voxels(slabs, "0_output"), voxels(whole, "0_output"), atol=1e-6)


def test_too_little_is_refused_with_what_it_takes(folder, tmp_path):
    config, checkpoint = Config.read(folder / "run.yaml"), folder / "checkpoint_1.safetensors"
    output = tmp_path / "out.zarr"
    told = r"\(256, 64, 64\) voxels of '0_output' takes \d+ MiB.* make blocks smaller.*of the 10 MiB that a worker may"
    with pytest.raises(ValueError, match=told):
        predict(config, folder, checkpoint, output, "all", workers=Workers(devices=("cpu",), memory=10 * MIB))
    assert not list(tmp_path.iterdir())


def test_more_than_is_free_is_refused(folder, tmp_path, monkeypatch):
    config, checkpoint = Config.read(folder / "run.yaml"), folder / "checkpoint_1.safetensors"
    monkeypatch.setattr(task, "free_bytes", lambda device: 800 * MIB)
    workers = Workers(count=2, devices=("cpu",), memory=4096 * MIB)
    told = r"4\.0 GiB \(--memory\) in each of 2 processes, and 0\.8 GiB are free here: give --memory 0\.4"
    with pytest.raises(ConfigError, match=told):
        predict(config, folder, checkpoint, tmp_path / "out.zarr", "all", workers=workers)
    assert not list(tmp_path.iterdir())


def test_on_a_gpu_half_precision_is_not_charged_for_what_processors_take(folder, tmp_path):
    """A processor without such instructions unfolds its inputs for them; that is no matter where a GPU computes."""
    config, checkpoint = Config.read(folder / "run.yaml"), folder / "checkpoint_1.safetensors"
    thickness = {}
    for precision in ("float32", "bfloat16"):
        options = options_with(config, outputs=["0_output"], precision=precision)
        job = PredictionJob(
            config=config.model_copy(update={"prediction": options}),
            volume=str(folder),
            networks=(NetworkFile.of(checkpoint),),
            output=tmp_path / "out.zarr",
            region=Region(begin=(0, 0, 0), end=tuple(8 * n for n in SHAPE)),
        )
        thickness[precision] = Prediction.open(job).thickness(LITTLE, on_processor=False)
    assert thickness["float32"] < 8 * SHAPE[0]
    assert thickness["bfloat16"] > thickness["float32"]


def test_chunks_are_as_large_as_wanted(folder, tmp_path):
    config, checkpoint = Config.read(folder / "run.yaml"), folder / "checkpoint_1.safetensors"
    output = predict(
        config,
        folder,
        checkpoint,
        tmp_path / "out.zarr",
        config.evaluation.region,
        options=options_with(config, chunk=16),
        workers=CPU,
    )
    assert json.loads((output / "0_output" / "s0" / ".zarray").read_text())["chunks"] == [1, 16, 16, 16]
