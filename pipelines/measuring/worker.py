"""A worker process of a measurement: ``python -m scalenet_gp.pipelines.measuring.worker JOB --stage NAME``."""

import os

from scalenet_gp.pipelines.blockwise import run_worker
from scalenet_gp.pipelines.measuring.job import MeasuringJob
from scalenet_gp.pipelines.measuring.task import MeasuringTask

if __name__ == "__main__":
    # without the end of the interpreter, which would give another code where the log cannot be written
    os._exit(run_worker(lambda file: MeasuringTask(MeasuringJob.read(file))))
