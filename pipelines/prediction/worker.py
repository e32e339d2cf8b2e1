"""A worker process of a prediction: ``python -m scalenet_gp.pipelines.prediction.worker JOB --stage NAME``."""

import os

from scalenet_gp.pipelines.blockwise import run_worker
from scalenet_gp.pipelines.prediction.job import PredictionJob
from scalenet_gp.pipelines.prediction.task import PredictionTask

if __name__ == "__main__":
    # without the end of the interpreter, which would give another code where the log cannot be written
    os._exit(run_worker(lambda file: PredictionTask.open(PredictionJob.read(file))))
