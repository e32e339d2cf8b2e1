"""Blockwise prediction of whole volumes."""

from scalenet_gp.pipelines.prediction.block_times import BlockTime, read_times
from scalenet_gp.pipelines.prediction.engine import Workers
from scalenet_gp.pipelines.prediction.job import partial_path
from scalenet_gp.pipelines.prediction.predict_job import predict

__all__ = ["BlockTime", "Workers", "partial_path", "predict", "read_times"]
