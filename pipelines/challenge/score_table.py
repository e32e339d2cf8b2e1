"""Scores of the challenge as a table."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.metrics import CELLMAP_RULE, ConfusionCounts, InstanceCounts
from scalenet_gp.pipelines.challenge.score_job import ChallengeScores

__all__ = ["challenge_table"]


def challenge_table(result: ChallengeScores) -> Table:
    """Return the scores of the classes, pooled over crops, and the overall scores, as a table for the terminal."""
    table = Table(title=f"CellMap challenge, rule of {CELLMAP_RULE}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("class")
    for column in ("crops", "hit", "extra", "missed", "F1", "distance", "score"):
        table.add_column(column, justify="right")
    pooled = result.pooled
    for label, counts in sorted(pooled.instances.items()):
        crops = _crops(result, label) + (f" ({counts.skipped} skipped)" if counts.skipped else "")
        scores = (counts.f1, counts.distance_score, counts.combined)
        table.add_row(label, crops, *_counts(counts), *(f"{score:.3f}" for score in scores))
    table.add_row(*_mean("mean of instance classes", pooled.overall_instance), style="italic", end_section=True)
    for label, voxels in sorted(pooled.semantic.items()):
        table.add_row(label, _crops(result, label), *_counts(voxels), "", "", f"{pooled.scores[label]:.3f}")
    table.add_row(*_mean("mean of semantic classes", pooled.overall_semantic), style="italic", end_section=True)
    table.add_row(*_mean("overall", pooled.overall), style="bold")
    return table


def _crops(result: ChallengeScores, label: str) -> str:
    return str(sum(label in labels for labels in result.crops.values()))


def _counts(counts: InstanceCounts | ConfusionCounts) -> tuple[str, str, str]:
    return str(counts.true_positive), str(counts.false_positive), str(counts.false_negative)


def _mean(name: str, score: float) -> tuple[str, ...]:
    return (name, *[""] * 6, f"{score:.3f}")
