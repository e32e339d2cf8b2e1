"""The CellMap Segmentation Challenge: packing a submission, and scoring one against the truth."""

from scalenet_gp.pipelines.challenge.pack_job import Packed, pack
from scalenet_gp.pipelines.challenge.score_job import ChallengeScores, score
from scalenet_gp.pipelines.challenge.score_table import challenge_table

__all__ = ["ChallengeScores", "Packed", "challenge_table", "pack", "score"]
