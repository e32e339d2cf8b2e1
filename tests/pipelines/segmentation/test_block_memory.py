"""The memory that blocks take is predicted, bounded, and refused where it is not free."""

import subprocess
import sys

import numpy as np
import pytest

from scalenet_gp.pipelines.blockwise import Workers
from scalenet_gp.pipelines.segmentation import segment, segment_job
from scalenet_gp.pipelines.segmentation.block_memory import BASIN_BYTES, MUTEX_BYTES, BlockMemory
from scalenet_gp.pipelines.segmentation.task import SegmentationTask
from tests.pipelines.conftest import VOXEL
from tests.pipelines.segmentation.test_affinity_objects import OFFSETS, SHAPE, noisy, segmenting, write_affinities

MIB = 2**20

SCRIPT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from scalenet_gp.kernels import return_freed_memory
return_freed_memory()
from funlib.geometry import Roi
from scalenet_gp.pipelines.blockwise import tiles
from scalenet_gp.pipelines.segmentation.job import SegmentationJob
from scalenet_gp.pipelines.segmentation.task import SegmentationTask

def held(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

task = SegmentationTask(SegmentationJob.read(Path(sys.argv[1])))
stage = next(stage for stage in task.stages() if stage.name == "cells fragments")
with task.prepare(stage.name, None) as work:
    work(Roi(stage.roi.begin, (8, 8, 8)))  # imports, and reads compiled functions
    before = held("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, list(tiles(stage.roi, stage.block))[:3]))
    print(held("VmHWM:") - before)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux tells it")
@pytest.mark.parametrize(
    ("kind", "options", "width", "voxel", "margin"),
    [
        ("mutex", {"context": 4 * VOXEL}, 40, MUTEX_BYTES * len(OFFSETS), 4),
        ("agglomerate", {"reach": 7 * VOXEL}, 64, BASIN_BYTES, 8),
    ],
)
def test_the_threads_of_a_worker_take_no_more_than_predicted(tmp_path, kind, options, width, voxel, margin):
    """Three blocks take no more than the prediction, and not far less, though their peaks need not coincide."""
    shape = (width, width, 3 * width)
    affinities = np.tile(noisy()[1], [1, *(-(-n // m) for n, m in zip(shape, SHAPE, strict=True))])
    affinities = affinities[(slice(None), *(slice(n) for n in shape))]
    predicted = write_affinities(tmp_path / "prediction.zarr", affinities, chunk=width)
    needed = BlockMemory(voxel, (margin,) * 3).needed((width,) * 3, shape)
    workers = Workers(memory=needed + needed // 8)
    job = segment_job.segmentation_job(
        segmenting(kind=kind, **options), predicted, tmp_path / "out.zarr", workers=workers
    )
    assert job.objects["cells"].block == (width,) * 3  # the largest that fits
    job.folder.path.mkdir()
    SegmentationTask(job).create_or_resume()
    command = [sys.executable, "-c", SCRIPT, str(job.folder.job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert needed / 8 < int(done.stdout) < needed


def test_more_than_is_free_is_refused_before_anything_starts(tmp_path, monkeypatch):
    predicted = write_affinities(tmp_path / "prediction.zarr", noisy()[1])
    monkeypatch.setattr(segment_job, "free_bytes", lambda device: 900 * MIB + 2**21)
    config, workers = segmenting(kind="mutex"), Workers(count=2, memory=2**30)
    told = r"blocks take 0\.00\d+ GiB in each of 2 processes, and 0\.00195 GiB are free here: give --memory 0\.00\d+"
    with pytest.raises(ValueError, match=told):
        segment(config, predicted, tmp_path / "out.zarr", workers=workers)
    assert [path.name for path in tmp_path.iterdir()] == ["prediction.zarr"]
    # elsewhere there may be more
    elsewhere = Workers(count=2, memory=2**30, launcher="env")
    segment_job.segmentation_job(config, predicted, tmp_path / "out.zarr", workers=elsewhere)
