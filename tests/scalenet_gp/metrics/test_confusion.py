"""Counts and scores against voxels that are looked at one by one."""

import json
import math
from io import StringIO
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console

from scalenet_gp.metrics.confusion import (
    ConfusionCounts,
    empty_scores,
    scores_from_json,
    scores_to_json,
    update_scores,
)
from scalenet_gp.metrics.groups import GroupCounts
from scalenet_gp.pipelines.evaluation.evaluate_job import EvaluationResult
from scalenet_gp.pipelines.evaluation.score_table import score_tables

CLASSES = ("bright", "dark")
SHAPE = (2, 3, 4, 2)  # class, z, y, x
PROBABILITIES = arrays(float, SHAPE, elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1, math.nan]))
LABELS = arrays(np.uint8, SHAPE, elements=st.integers(0, 1))


def looked_at(prediction, target, mask, threshold):
    """The counts of one class, voxel by voxel."""
    counts = {"hit": 0, "extra": 0, "missed": 0, "neither": 0}
    for voxel in product(*map(range, prediction.shape)):
        if mask[voxel] == 1:
            said, is_so = bool(prediction[voxel] >= threshold), target[voxel] == 1
            counts[["neither", "missed", "extra", "hit"][2 * said + is_so]] += 1
    return ConfusionCounts(counts["hit"], counts["extra"], counts["missed"])


@given(st.lists(st.tuples(PROBABILITIES, LABELS, LABELS), max_size=3), st.sampled_from([0.25, 0.5, 0.6]))
def test_blocks_add_up_to_what_is_counted_voxel_by_voxel(blocks, threshold):
    scores = empty_scores(dict.fromkeys(("coarse", "fine"), ("bright", "dark")))
    for prediction, target, mask in blocks:
        update_scores(scores, "fine", prediction, target, mask, threshold)
    joined = [np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True)] or [np.zeros((2, 0, 4, 2))] * 3
    expected = {
        label: looked_at(*arrays, threshold) for label, *arrays in zip(("bright", "dark"), *joined, strict=True)
    }
    assert scores == {"coarse": {"bright": ConfusionCounts(), "dark": ConfusionCounts()}, "fine": expected}


def test_a_block_of_other_classes_is_refused():
    with pytest.raises(ValueError, match="zip"):
        update_scores(empty_scores({"fine": ["bright"]}), "fine", *np.zeros((3, *SHAPE)), 0.5)


def test_scores_follow_from_counts():
    scores = ConfusionCounts(6, 2, 4).scores
    assert scores == {"dice": 12 / 18, "iou": 6 / 12, "precision": 6 / 8, "recall": 6 / 10}
    assert ConfusionCounts(0, 3, 2).scores == {"dice": 0, "iou": 0, "precision": 0, "recall": 0}
    assert all(map(math.isnan, ConfusionCounts().scores.values()))
    assert math.isnan(ConfusionCounts(0, 0, 2).scores["precision"])
    assert math.isnan(ConfusionCounts(0, 2, 0).scores["recall"])


def test_json_holds_counts_and_scores_and_gives_the_counts_again():
    scores = {
        "coarse": {"bright": ConfusionCounts(6, 2, 4), "dark": ConfusionCounts(0, 0, 2)},
        "fine": {"bright": ConfusionCounts()},
    }
    text = json.dumps(scores_to_json(scores), allow_nan=False)
    plain = json.loads(text)
    assert scores_from_json(plain) == scores
    assert plain["coarse"]["bright"] == {
        "true_positive": 6,
        "false_positive": 2,
        "false_negative": 4,
        "dice": 12 / 18,
        "iou": 0.5,
        "precision": 0.75,
        "recall": 0.6,
    }
    assert plain["coarse"]["dark"]["precision"] is None
    assert plain["coarse"]["dark"]["recall"] == 0
    del plain["fine"]["bright"]["false_positive"]
    with pytest.raises(KeyError, match="false_positive"):
        scores_from_json(plain)


def test_the_table_has_a_row_for_each_class_and_scale():
    scores = {
        "0_output": {"bright": ConfusionCounts(6, 2, 4), "dark": ConfusionCounts()},
        "1_output": {"bright": ConfusionCounts(0, 0, 2), "dark": ConfusionCounts(1, 0, 0)},
    }
    console = Console(file=StringIO(), width=120)
    groups = {"1_output": {"shade": GroupCounts(("bright", "dark"), (8, 4), (6, 1))}}
    for table in score_tables(EvaluationResult(scores, groups, {"1_output": {"shade": GroupCounts.zero(CLASSES)}})):
        console.print(table)
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["0_output", "bright", "0.667", "0.500", "0.750", "0.600"] in rows
    assert ["dark", "-", "-", "-", "-"] in rows
    assert ["1_output", "bright", "0.000", "0.000", "-", "0.000"] in rows
    assert ["dark", "1.000", "1.000", "1.000", "1.000"] in rows
    assert ["mean", "0.667", "0.500", "0.750", "0.600"] in rows
    assert ["mean", "0.500", "0.500", "1.000", "0.500"] in rows
    assert ["1_output", "shade", "bright", "8", "0.750", "0", "-"] in rows
    assert ["dark", "4", "0.250", "0", "-"] in rows
    assert ["mean,", "chance", "0.500", "12", "0.500", "0", "-"] in rows
