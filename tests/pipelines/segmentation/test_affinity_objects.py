"""Objects of affinities in blocks against those of one piece; stitching, look-up tables, and faults."""

import csv
import json
import shutil
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import variation_of_information
from typer.testing import CliRunner

from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError, Workers
from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.evaluation import choose_merge_threshold
from scalenet_gp.pipelines.segmentation import LookupTables, objects_path, segment
from scalenet_gp.pipelines.segmentation.affinity_steps import SumEdges
from scalenet_gp.pipelines.segmentation.block_memory import BASIN_BYTES, MUTEX_BYTES
from scalenet_gp.segmentation import AgglomerateOptions, MutexOptions, connected_pairs, find_affinity_objects, look_up
from scalenet_gp.volumes import MultiscaleImage, group_attributes, open_array
from tests.pipelines.conftest import VOXEL, files_below, tiny_config, write_array, write_config
from tests.pipelines.segmentation.predictions import ids_in, random_predictions, write_predicted
from tests.scalenet_gp.segmentation.test_affinities import OFFSETS, SIZE, affinities_of

CHANNELS = tuple(f"affinity {' '.join(map(str, offset))}" for offset in OFFSETS)
TARGETS = {
    "1_output": {"kind": "affinities", "labels": "cells", "offsets": [list(offset) for offset in OFFSETS]},
    "0_output": {"kind": "classes"},
}
SHAPE = (16, 15, 16)


def segmenting(**options):
    """The tiny config, with these options of objects."""
    return tiny_config(training__targets=TARGETS, segmentation={"classes": {}, "objects": {"cells": options}})


def blocks_of(voxels, kind):
    """This process, in blocks of so many voxels along each axis with their margin."""
    return Workers(memory={"agglomerate": BASIN_BYTES, "mutex": MUTEX_BYTES * len(OFFSETS)}[kind] * int(voxels**3))


def noisy(seed=0, shape=SHAPE, noise=0.12):
    """Affinities of packed cells that touch, with noise, as uint8 stores them."""
    random = np.random.default_rng(seed)
    seeds = random.random((8, 3)) * shape
    places = np.stack(np.indices(shape), axis=-1)[..., None, :]
    cells = 1 + ((places - seeds) ** 2).sum(axis=-1).argmin(axis=-1)
    affinities = affinities_of(cells, inside=0.92, apart=0.12)
    field = ndimage.gaussian_filter(random.standard_normal(affinities.shape), (0, 1, 1, 1))
    values = np.clip(affinities + noise * field / field.std(), 0, 1)
    return cells, np.rint(values * 255).astype(np.float32) / np.float32(255)


def write_affinities(path, affinities, **options):
    return write_predicted(path, {"1_output": affinities}, classes=CHANNELS, **options)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    return write_affinities(tmp_path_factory.mktemp("predicted") / "prediction.zarr", noisy()[1])


def voi(one, other):
    return sum(variation_of_information(one, other))


@pytest.mark.parametrize("quantile", [None, 50])
def test_agglomerated_blocks_have_the_objects_of_one_piece(predicted, tmp_path, quantile):
    options = {"reach": 2 * VOXEL, "thresholds": [0.06, 0.85], "smallest": 5 * VOXEL**3, "quantile": quantile}
    made = segment(
        segmenting(kind="agglomerate", **options),
        predicted,
        tmp_path / "out.zarr",
        workers=blocks_of(14.3, "agglomerate"),
    )
    assert group_attributes(made)["job"]["objects"]["cells"]["block"] == [8, 8, 8]
    whole = find_affinity_objects(noisy()[1], OFFSETS, (Fraction(VOXEL),) * 3, AgglomerateOptions(**options))
    np.testing.assert_array_equal(ids_in(made / "cells"), whole[1])
    tables = LookupTables.read(made / "cells_fragments")
    assert tables.thresholds == (0.06, 0.3, 0.85)
    fragments = ids_in(made / "cells_fragments")
    assert set(np.unique(fragments)) <= {0, *tables.fragments.tolist()}
    for objects, expected in zip(tables.objects, whole, strict=True):
        of_fragment = dict(zip(tables.fragments.tolist(), objects.tolist(), strict=True)) | {0: 0}
        np.testing.assert_array_equal(np.vectorize(of_fragment.get)(fragments), expected)
    assert whole[0].max() >= whole[1].max() > whole[2].max()
    rows = list(csv.DictReader(objects_path(made).read_text().splitlines()))
    assert [int(row["voxels"]) for row in rows] == np.bincount(whole[1].ravel())[1:].tolist()


def test_mutex_blocks_have_nearly_the_objects_of_one_piece(predicted, tmp_path):
    truth, affinities = noisy()
    whole = find_affinity_objects(affinities, OFFSETS, SIZE, MutexOptions())[0]
    config = segmenting(kind="mutex", context=3 * VOXEL)
    made = segment(config, predicted, tmp_path / "out.zarr", workers=blocks_of(14.3, "mutex"))
    assert group_attributes(made)["job"]["objects"]["cells"]["block"] == [8, 8, 8]
    found = ids_in(made / "cells")
    assert voi(truth, whole) < 0.5
    assert voi(truth, found) < 0.5
    assert voi(whole, found) < 0.1
    one = segment(config, predicted, tmp_path / "one.zarr")
    np.testing.assert_array_equal(ids_in(one / "cells"), whole)


@pytest.mark.parametrize(
    ("kind", "options"), [("agglomerate", {"reach": 2 * VOXEL}), ("mutex", {"context": 3 * VOXEL})]
)
def test_objects_that_touch_across_a_face_of_blocks_stay_two(tmp_path, kind, options):
    """Uniting all labels that touch across the plane between blocks makes one of both."""
    labels = np.ones((8, 8, 16), np.int64)
    labels[:, :, 8:] = 2
    predicted = write_affinities(tmp_path / "prediction.zarr", affinities_of(labels))
    config = segmenting(kind=kind, **options)
    made = segment(config, predicted, tmp_path / "out.zarr", workers=blocks_of(9.9, kind))
    assert group_attributes(made)["job"]["objects"]["cells"]["block"] == [8, 8, 8]
    np.testing.assert_array_equal(ids_in(made / "cells"), labels)
    plane = labels[:, :, 7], np.pad(labels[:, :, 8], 1)
    assert connected_pairs(*plane, 6).tolist() == [[1, 2]]
    # and one object that goes on behind the face is one
    whole = write_affinities(tmp_path / "whole.zarr", affinities_of(np.ones_like(labels)))
    made = segment(config, whole, tmp_path / "one.zarr", workers=blocks_of(9.9, kind))
    assert ids_in(made / "cells").min() == ids_in(made / "cells").max() == 1


def test_it_resumes_to_the_same_bytes_and_refuses_fragments_of_another_prediction(predicted, tmp_path, monkeypatch):
    config, workers = segmenting(kind="agglomerate", reach=2 * VOXEL), blocks_of(14.3, "agglomerate")
    whole = segment(config, predicted, tmp_path / "whole.zarr", workers=workers)
    add, done = SumEdges.__call__, []

    def fails(self, roi):
        if len(done) == 5:
            raise OSError("the disk is gone")
        done.append(roi)
        add(self, roi)

    output = tmp_path / "out.zarr"
    with monkeypatch.context() as context:
        context.setattr(SumEdges, "__call__", fails)
        with pytest.raises(UnfinishedBlocksError, match=r"cells edges of .* nm: the disk is gone"):
            segment(config, predicted, output, workers=workers)
    other = write_affinities(tmp_path / "other.zarr", noisy(1)[1], network="b" * 64)
    before = files_below(tmp_path / "out.zarr.partial")
    with pytest.raises(ValueError, match=r"unfinished work of another kind.*networks: .*objects.cells.source.voxels"):
        segment(config, other, output, workers=workers)
    with pytest.raises(ValueError, match=r"unfinished work of another kind.*objects.cells.options.kind"):
        segment(segmenting(kind="mutex"), predicted, output)
    assert files_below(tmp_path / "out.zarr.partial") == before
    moved = shutil.copytree(predicted, tmp_path / "moved.zarr")
    segment(config, moved, output, workers=workers)
    for name in files_below(whole):
        if (whole / name).is_file() and name != ".zattrs":
            assert (output / name).read_bytes() == (whole / name).read_bytes(), name
    assert objects_path(output).read_bytes() == objects_path(whole).read_bytes()


def test_fragments_are_a_volume_of_labels_at_its_place(predicted, tmp_path):
    made = segment(segmenting(kind="mutex"), predicted, tmp_path / "out.zarr")
    image = MultiscaleImage.open(made / "cells_fragments")
    assert image.levels[0] == MultiscaleImage.open(predicted / "1_output").levels[0]
    assert image.dtype == np.uint64
    with pytest.raises(FileNotFoundError, match=r"cells has no look-up tables"):
        LookupTables.read(made / "cells")


def test_fragments_have_the_levels_of_the_objects_by_mode(tmp_path):
    """Blocks of one chunk make the first coarser levels, and stages of their own the others."""
    affinities = np.tile(noisy()[1], (1, 1, 1, 17))[:, :8, :8, :260]
    predicted = write_affinities(tmp_path / "prediction.zarr", affinities)
    config, workers = segmenting(kind="agglomerate", reach=VOXEL), Workers(memory=BASIN_BYTES * 8 * 8 * 12)
    made = segment(config, predicted, tmp_path / "out.zarr", workers=workers)
    assert group_attributes(made)["job"]["objects"]["cells"]["block"] == [8, 8, 8]
    levels = MultiscaleImage.open(made / "cells_fragments").levels
    assert levels == MultiscaleImage.open(made / "cells").levels
    assert [level.shape for level in levels] == [(8, 8, 260), (4, 4, 130), (2, 2, 65)]
    for one, other in pairwise(levels):
        fine, coarse = (open_array(made / "cells_fragments" / level.path)[:] for level in (one, other))
        for place in np.ndindex(coarse.shape):
            box = fine[tuple(slice(2 * index, 2 * index + 2) for index in place)]
            found, counts = np.unique(box, return_counts=True)
            assert coarse[place] in found[counts == counts.max()]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"kind": "agglomerate", "affinities": "0_output"}, r"objects.cells.affinities: .* no affinities '0_output'"),
        ({"kind": "mutex", "bias": [0.5]}, r"segmentation.objects.cells: bias has 1 entries, and there are 6 offsets"),
        ({"kind": "mutex", "context": 1e6}, r"blocks have a margin of .* by segmentation.objects.cells"),
        ({"kind": "agglomerat"}, r"(?s)segmentation.objects.cells.*agglomerate"),
        ({"kind": "agglomerate", "thresholds": [2]}, r"(?s)segmentation.objects.cells.*thresholds"),
        ({"kind": "agglomerate", "thresholds": [0.3, 0.1, 0.3]}, r"(?s)objects.cells.*thresholds.*0\.3 is there twice"),
        ({"kind": "agglomerate", "background": 0.6}, r"(?s)objects.cells.*background 0\.6 is above threshold 0\.5"),
    ],
)
def test_errors_come_before_anything_is_made(predicted, tmp_path, options, error):
    with pytest.raises(ValueError, match=error):
        segment(segmenting(**options), predicted, tmp_path / "out.zarr", workers=Workers(memory=10**6))
    assert list(tmp_path.iterdir()) == []


def test_names_of_objects_are_their_own(predicted, tmp_path):
    for name, error in (("a/b", "cannot be a folder"), ("cells_fragments", "does not end in _fragments")):
        with pytest.raises(ValueError, match=error):
            tiny_config(segmentation={"objects": {name: {"kind": "mutex"}}})
    config = tiny_config(segmentation={"objects": {"bright": {"kind": "mutex"}}})
    classes = write_predicted(tmp_path / "classes.zarr", {"1_output": random_predictions(1)})
    with pytest.raises(ValueError, match=r"segmentation.objects.bright: a class has this name"):
        segment(config, classes, tmp_path / "out.zarr")
    config = tiny_config(segmentation={"objects": {"cells": {"kind": "mutex"}}})
    with pytest.raises(ValueError, match=r"segmentation.objects.cells: .* has no outputs that learned affinities"):
        segment(config, classes, tmp_path / "out.zarr")
    coarse = write_predicted(tmp_path / "coarse.zarr", {"0_output": random_predictions(1)})
    told = r"without affinities, which the network has in 1_output: name that in prediction.outputs"
    with pytest.raises(ValueError, match=told):
        segment(segmenting(kind="mutex"), coarse, tmp_path / "out.zarr")


def test_the_best_threshold_is_chosen_in_one_pass_and_taken_by_the_next_segmentation(tmp_path):
    """The scores are those of the objects of each threshold, by scikit-image."""
    truth, affinities = noisy(shape=(16, 20, 20), noise=0.2)
    prediction = write_affinities(tmp_path / "prediction.zarr", affinities)
    (write_array(tmp_path / "em" / "raw", np.zeros(truth.shape, np.uint8), levels=3))
    (write_array(tmp_path / "cells", truth, labels=True))
    changes = {
        "data__sources": [{"raw": "em/raw", "labels": "cells", "encoding": "instances"}],
        "data__classes": ["cell"],
        "training__targets": TARGETS,
        "segmentation": {"classes": {}, "objects": {"cells": {"kind": "agglomerate", "thresholds": [0.06, 0.1, 0.88]}}},
    }
    config, run = write_config(tmp_path / "run.yaml", **changes), tmp_path / "run"
    settings = Config.read(config)
    made = segment(settings, prediction, tmp_path / "out.zarr")
    command = ["evaluate", config, "--run", run, "--segmentation", made / "cells", "--choose-thresholds"]
    assert CliRunner().invoke(app, list(map(str, command))).exit_code == 1  # there is no region to choose in
    single = shutil.copytree(made, tmp_path / "single.zarr") / "cells"
    tables = LookupTables.read(made / "cells_fragments")
    LookupTables(tables.fragments, (0.3,), tables.objects[:1]).write(single.with_name("cells_fragments"))
    for path, error in ((made, "give one of its volumes: cells"), (single, "objects of one merge threshold, 0.3")):
        with pytest.raises((ValueError, FileNotFoundError), match=error):
            choose_merge_threshold(settings, tmp_path, path, run)
    result = CliRunner().invoke(
        app, [*map(str, command), "--region", "all", "--set", "evaluation.allow_training_region=true"]
    )
    assert result.exit_code == 0, result.output
    assert "threshold, in [null" in result.output
    assert (run / "merge_thresholds.png").read_bytes().startswith(b"\x89PNG")
    chosen = json.loads((run / "merge_thresholds.json").read_text())
    scores = chosen["scores"]["cells"]
    assert list(map(float, scores)) == [0.06, 0.1, 0.3, 0.88]
    tables, fragments = LookupTables.read(made / "cells_fragments"), ids_in(made / "cells_fragments")
    totals = []
    for one, objects in zip(scores.values(), tables.objects, strict=True):
        found = look_up(fragments, tables.fragments, objects)
        expected = variation_of_information(truth, found, ignore_labels=(0,))
        assert (one["voi_split"], one["voi_merge"]) == pytest.approx(expected)
        totals.append(sum(expected))
    assert totals[0] == totals[1] == totals[2] < totals[3]
    assert chosen["objects"] == {"cells": 0.1}
    command = ["segment", config, "--run", run, "--prediction", prediction, "--output", tmp_path / "next.zarr"]
    assert CliRunner().invoke(app, list(map(str, command))).exit_code == 0
    options = group_attributes(tmp_path / "next.zarr")["job"]["objects"]["cells"]["options"]
    assert options["merge_threshold"] == chosen["objects"]["cells"]
    quantile = [*command[:-1], tmp_path / "median.zarr", "--set", "segmentation.objects.cells.quantile=50"]
    result = CliRunner().invoke(app, list(map(str, quantile)))
    assert result.exit_code == 1
    assert (
        "the merge threshold of cells was chosen for objects of another method, there and here: quantile None and 50"
        in (str(result.exception))
    )
    other = write_affinities(tmp_path / "other.zarr", affinities, network="b" * 64)
    command = ["segment", config, "--run", run, "--prediction", other, "--output", tmp_path / "other_out.zarr"]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 1
    assert "were chosen for another network" in str(result.exception)


def with_kinds(predicted, coarse, folder):
    """The prediction of affinities, and with it that of two classes at twice the voxel size."""
    classes = write_predicted(folder / "classes.zarr", {"0_output": coarse})
    shutil.copytree(classes / "0_output", predicted / "0_output")
    attributes = json.loads((predicted / ".zattrs").read_text())
    attributes["channels"]["0_output"] = ["bright", "dark"]
    (predicted / ".zattrs").write_text(json.dumps(attributes))
    return predicted


def test_a_fragment_of_the_mutex_watershed_that_spans_two_kinds_is_cut(tmp_path):
    coarse = np.full((2, 4, 4, 8), 0.2)
    coarse[0, ..., :3] = coarse[1, ..., 4:] = 0.9
    coarse[0, ..., 3] = 0.5  # which is of no kind, and more of the first
    whole = affinities_of(np.ones((8, 8, 16), np.int64))
    predicted = with_kinds(write_affinities(tmp_path / "prediction.zarr", whole), coarse, tmp_path)
    kinds = {"classes": ["bright", "dark"], "confidence": 0.8}
    for name, options, count in (("one", {}, 1), ("two", {"kinds": kinds}, 2)):
        made = segment(segmenting(kind="mutex", **options), predicted, tmp_path / f"{name}.zarr")
        found = ids_in(made / "cells")
        assert (found[..., :8] == 1).all()
        assert (found[..., 8:] == count).all()


@pytest.mark.parametrize("kind", ["agglomerate", "mutex"])
def test_fragments_of_different_kinds_are_never_joined_also_not_through_others(tmp_path, kind):
    """Three fragments in a row, whose affinities would join them all; the outer ones are of two coarse classes."""
    labels = np.ones((8, 8, 24), np.int64)
    affinities = affinities_of(labels)
    affinities[2, :, :, 7], affinities[2, :, :, 15] = 0.45, 0.4  # no voxels across are of one fragment
    coarse = np.full((2, 4, 4, 12), 0.3)
    coarse[0, ..., :4] = coarse[1, ..., 8:] = 0.9
    options = {"kind": kind, "merge_threshold": 0.7}
    if kind == "mutex":
        affinities[5, :, :, 5:8] = affinities[5, :, :, 13:16] = 0.35
        options["bias"] = [-0.5] * 3 + [-0.36] * 3
    predicted = with_kinds(write_affinities(tmp_path / "prediction.zarr", affinities), coarse, tmp_path)
    made = segment(segmenting(**options), predicted, tmp_path / "all.zarr")
    assert ids_in(made / "cells").max() == 1
    kinds = {"classes": ["bright", "dark"], "confidence": 0.8}
    made = segment(segmenting(**options, kinds=kinds), predicted, tmp_path / "out.zarr", workers=Workers(memory=10**7))
    found = ids_in(made / "cells")
    assert found.max() == 2
    np.testing.assert_array_equal(found[..., :16], 1)  # the middle one is more attached to the first
    np.testing.assert_array_equal(found[..., 16:], 2)
    unsure = segment(segmenting(**options, kinds={**kinds, "confidence": 0.95}), predicted, tmp_path / "unsure.zarr")
    assert ids_in(unsure / "cells").max() == 1
    with pytest.raises(ValueError, match=r"kinds: .* does not have bright, vessel; 0_output has bright, dark"):
        segment(segmenting(**options, kinds={"classes": ["bright", "vessel"]}), predicted, tmp_path / "none.zarr")
