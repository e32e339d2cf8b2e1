"""The CellMap Segmentation Challenge: predict and segment its crops, pack a submission, and score one."""

from scalenet_gp.pipelines.challenge.manifest import choose_manifest
from scalenet_gp.pipelines.challenge.pack_job import Packed, pack
from scalenet_gp.pipelines.challenge.predict_job import RAW_LAYOUT, predict_crops
from scalenet_gp.pipelines.challenge.score_job import ChallengeScores, score
from scalenet_gp.pipelines.challenge.score_table import challenge_table
from scalenet_gp.pipelines.challenge.segment_job import segment_crops

__all__ = [
    "RAW_LAYOUT",
    "ChallengeScores",
    "Packed",
    "challenge_table",
    "choose_manifest",
    "pack",
    "predict_crops",
    "score",
    "segment_crops",
]
