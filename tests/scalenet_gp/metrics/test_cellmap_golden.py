"""The challenge's metric against the figures that its own evaluation computes."""

import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from scalenet_gp.metrics.cellmap.instances import (
    InstanceCounts,
    count_missing_instances,
    match_instances,
    score_instances,
)
from scalenet_gp.metrics.cellmap.placement import CropGrid, closest_level, place_on_grid
from scalenet_gp.metrics.cellmap.rule import INSTANCE_CLASSES, is_instance_class, most_components
from scalenet_gp.metrics.cellmap.scores import CellMapScores, count_missing_semantic, score_semantic

GOLDEN = Path(__file__).parents[3] / ".." / "shared" / "golden" / "cellmap_metric"
CASES = sorted(path.stem for path in GOLDEN.glob("case_*.npz"))

pytestmark = pytest.mark.skipif(not CASES, reason=f"there are no golden figures in {GOLDEN}")


@functools.cache
def expected():
    return json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))


@functools.cache
def load(case):
    with np.load(GOLDEN / f"{case}.npz") as file:
        arrays = {name: file[name] for name in file}
    return json.loads(bytes(arrays.pop("meta"))), arrays


def first(attributes, *names):
    return next((attributes[name] for name in names if name in attributes), None)


def stored(label, arrays, groups):
    """The array that is submitted, its voxel size and translation; None for nothing. Groups are nothing, or read."""
    prediction = label["prediction"]
    if prediction is None or (prediction["layout"] != "array" and not groups):
        return None
    levels = prediction["arrays"]
    wanted = label["truth"]["voxel_size"]
    if prediction["layout"] == "ome":
        found = []
        for dataset in prediction["group_attributes"]["multiscales"][0]["datasets"]:
            both = {entry["type"]: entry[entry["type"]] for entry in dataset["coordinateTransformations"]}
            found.append((both["scale"], both["translation"]))
    else:
        found = [
            (
                first(level["attributes"], "voxel_size", "resolution", "scale"),
                first(level["attributes"], "translation", "offset"),
            )
            for level in levels
        ]
    finer = prediction["layout"] == "group"
    index = closest_level([size for size, _ in found], wanted, finer=finer) if len(found) > 1 else 0
    return arrays[levels[index]["array"]], *found[index]


def grid_of(label, arrays):
    truth = label["truth"]
    shape = arrays[truth["array"]].shape
    return CropGrid(tuple(truth["voxel_size"]), tuple(truth["translation"]), shape)


@functools.cache
def counted(case, name, groups=False):
    """The counts of one label of a case."""
    meta, arrays = load(case)
    label = meta["labels"][name]
    truth = arrays[label["truth"]["array"]]
    mask = None if label["mask"] is None else arrays[label["mask"]["array"]]
    grid, given = grid_of(label, arrays), stored(label, arrays, groups)
    instances = label["kind"] == "instance"
    assert instances == is_instance_class(name)
    if given is None:
        return count_missing_instances(truth, mask) if instances else count_missing_semantic(truth)
    prediction = place_on_grid(given[0], grid, *given[1:], instances=instances)
    if instances:
        return score_instances(prediction, truth, grid.voxel_size, mask)
    return score_semantic(prediction, truth, mask)


def check_counts(counts, figures, scores):
    assert (counts.true_positive, counts.false_positive, counts.false_negative) == tuple(
        figures[name] for name in ("tp", "fp", "fn")
    )
    pooled = CellMapScores.pool([{"label": counts}])
    if isinstance(counts, InstanceCounts):
        assert counts.distances == figures["n_hausdorff"]
        assert counts.distance_scores == pytest.approx(figures["hausdorff_norm_sum"], rel=1e-9, abs=1e-9)
        assert counts.skipped == (figures["status"] == "skipped_too_many_instances")
        assert counts.f1 == pytest.approx(scores["f1"], rel=1e-9)
        assert counts.distance_score == pytest.approx(scores["normalized_hausdorff_distance"], rel=1e-9)
        assert pooled.scores["label"] == pytest.approx(scores["combined_score"], rel=1e-9)
    else:
        assert pooled.scores["label"] == pytest.approx(scores["iou"], rel=1e-9)


def check_overall(scores, figures):
    for name in ("instance", "semantic"):
        assert getattr(scores, f"overall_{name}") == pytest.approx(figures[f"overall_{name}_score"], rel=1e-9)
    assert scores.overall == pytest.approx(figures["overall_score"], rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_a_crop_scores_as_the_challenge_says(case):
    labels = expected()["cases"][case]["labels"]
    counts = {name: counted(case, name) for name in load(case)[0]["labels"]}
    assert counts.keys() == labels.keys()
    for name, values in labels.items():
        check_counts(counts[name], values["figures"], values["scores"])
        if "read_as_group" in values:
            check_counts(counted(case, name, groups=True), *map(values["read_as_group"].get, ("figures", "scores")))
    check_overall(CellMapScores.pool([counts]), expected()["cases"][case]["overall"])


@pytest.mark.parametrize("case", CASES)
def test_every_step_of_a_crop_is_that_of_the_challenge(case):
    meta, arrays = load(case)
    for name, label in meta["labels"].items():
        given, steps = stored(label, arrays, groups=True), expected()["cases"][case]["labels"][name].get("steps")
        if given is None:
            continue
        grid = grid_of(label, arrays)
        placed = place_on_grid(given[0], grid, *given[1:], instances=label["kind"] == "instance")
        aligned = label.get("aligned")
        np.testing.assert_array_equal(placed, arrays[aligned["array"]] if aligned else given[0], err_msg=name)
        if steps is None:
            continue
        mask = None if label["mask"] is None else arrays[label["mask"]["array"]]
        found = match_instances(placed, arrays[label["truth"]["array"]], grid.voxel_size, mask)
        assert found.components == steps["components"]
        assert len(found.ids) == steps["truth_objects"]
        assert max(found.ids.tolist(), default=0) == steps["largest_truth_id"]
        assert found.limit == pytest.approx(steps["distance_cap"])
        if "ratio_cutoff" in steps:
            largest = steps["largest_truth_id"]
            assert most_components(largest) / largest == pytest.approx(steps["ratio_cutoff"])
        if found.skipped:
            assert "matches" not in steps
            continue
        matches = [[int(c), int(i)] for i, c in zip(found.ids, found.matches, strict=True) if c]
        assert sorted(matches) == sorted(steps["matches"])
        distances = dict(zip(found.ids.tolist(), found.distances.tolist(), strict=True))
        assert distances == pytest.approx(dict(steps["distances"]), rel=1e-9)
        assert found.components - len(matches) == steps["unmatched_components"]
        assert list(found.collisions) == steps["colliding_numbers"]


def test_pooled_scores_are_those_of_the_challenge():
    crops = {case: {name: counted(case, name) for name in load(case)[0]["labels"]} for case in CASES}
    pooled = expected()["pooled"]
    check_pooled(crops.values(), pooled["without_mask_labels"])
    submitted = [
        {
            name: counts
            for name, counts in labels.items()
            if expected()["cases"][case]["labels"][name]["figures"]["status"] != "missing"
        }
        for case, labels in crops.items()
    ]
    check_pooled(submitted, pooled["without_mask_labels_submitted_only"])
    # a mask is a class of its own there, never submitted
    masks = [
        {f"{name}_mask": count_missing_semantic(arrays[label["mask"]["array"]])}
        for meta, arrays in map(load, CASES)
        for name, label in meta["labels"].items()
        if label["mask"] is not None
    ]
    check_pooled([*crops.values(), *masks], pooled["as_evaluated"])


def check_pooled(crops, figures):
    scores = CellMapScores.pool(crops)
    check_overall(scores, figures)
    assert scores.scores.keys() == figures["label_scores"].keys()
    for name, values in figures["label_scores"].items():
        key = "combined_score" if "combined_score" in values else "iou"
        assert scores.scores[name] == pytest.approx(values[key], rel=1e-9)
    json_scores = json.loads(json.dumps(scores.to_json()))
    for name, values in json_scores["instances"].items():
        assert values["f1"] == pytest.approx(figures["label_scores"][name]["f1"], rel=1e-9)
        assert not math.isnan(values["distance_score"])


def test_the_classes_are_those_of_the_challenge():
    assert list(INSTANCE_CLASSES) == expected()["instance_classes"]
