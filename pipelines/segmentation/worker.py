"""A worker process of a segmentation: ``python -m scalenet_gp.pipelines.segmentation.worker JOB --stage NAME``."""

import os

from scalenet_gp.pipelines.blockwise import run_worker
from scalenet_gp.pipelines.segmentation.job import SegmentationJob
from scalenet_gp.pipelines.segmentation.task import SegmentationTask

if __name__ == "__main__":
    # without the end of the interpreter, which would give another code where the log cannot be written
    os._exit(run_worker(lambda file: SegmentationTask(SegmentationJob.read(file)), of_tensors=False))
