"""Blockwise prediction of whole volumes."""

from scalenet_gp.pipelines.blockwise import Workers
from scalenet_gp.pipelines.prediction.blending import describe_seam
from scalenet_gp.pipelines.prediction.predict_job import predict

__all__ = ["Workers", "describe_seam", "predict"]
