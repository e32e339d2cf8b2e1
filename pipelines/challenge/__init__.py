"""The CellMap Segmentation Challenge: predicting its crops, packing a submission, and scoring one against the truth."""

from scalenet_gp.pipelines.challenge.pack_job import Packed, pack
from scalenet_gp.pipelines.challenge.predict_job import RAW_LAYOUT, predict_crops
from scalenet_gp.pipelines.challenge.score_job import ChallengeScores, score
from scalenet_gp.pipelines.challenge.score_table import challenge_table

__all__ = ["RAW_LAYOUT", "ChallengeScores", "Packed", "challenge_table", "pack", "predict_crops", "score"]
