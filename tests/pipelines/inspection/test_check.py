"""A look at the data of a run: numbers counted by hand, and every fault with the field that cures it."""

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi
from scipy.ndimage import label

from scalenet_gp.pipelines.data import Datasets, context_shares
from scalenet_gp.pipelines.inspection import check, check_table
from tests.pipelines.conftest import CROPS, SHAPE, tiny_config, tissue, write_array, write_config
from tests.pipelines.data.many_sources import CLASSES, SOURCES, UNLABELLED, WINDOW, second_ids, second_raw, write_two

WITHOUT = {"augmentation": [], "training__overhang": None, "training__region": None, "evaluation": {}}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return write_two(tmp_path_factory.mktemp("two"))


def config_of(*sources, **changes):
    return tiny_config(**{**WITHOUT, "data__sources": list(sources), "data__classes": CLASSES, **changes})


def test_annotation_and_intensities_are_those_counted_by_hand(two, tmp_path):
    result = check(config_of(*SOURCES), two, tmp_path / "check.png")
    assert result.all_faults == []
    assert (tmp_path / "check.png").stat().st_size > 0
    first, second = result.sources
    _, masks = tissue()
    for name, crop in CROPS.items():
        box = masks[name][tuple(slice(*bounds) for bounds in crop)]
        amount = first.classes[name]
        assert (amount.present, amount.known, amount.objects) == (box.sum(), box.size, label(box)[1])
    ids = second_ids()
    for name, chosen in (("bright", [7]), ("dark", [3, 4])):
        amount, there = second.classes[name], np.isin(ids, chosen)
        assert (amount.present, amount.known) == (there.sum(), (ids != UNLABELLED).sum())
        assert amount.objects == label(there)[1]
    low, middle, high = second.percentiles
    raw = second_raw()
    assert raw.min() <= low < middle < high <= raw.max()
    assert second.window == WINDOW
    assert 0 < second.outside < 0.5  # the window of the second source leaves out the darkest and the brightest
    assert first.outside == 0
    rows = check_table(result).columns[0]
    assert list(rows.cells) == ["crop", "ids"]


def test_the_share_of_context_is_that_over_all_places(two):
    config = config_of(*SOURCES)
    datasets = Datasets.find(two, config, config.build_network())
    dataset = datasets.first
    plan = datasets.net.plan(datasets.boxes(config.training.output_shape))
    labelled, size = dataset.labelled(), dataset.net.voxel_size["1_output"]
    found = context_shares(dataset, plan, labelled)
    whole = Roi(dataset.corner, dataset.world.size([4.5 * n for n in SHAPE]))
    finest = plan.outputs["1_output"]
    for name, roi in plan.inputs.items():
        shares = []
        for at in np.ndindex(*(int(n) for n in (labelled.shape - finest.shape) / size + 1)):
            begin = labelled.begin + size * Coordinate(at)
            inside = (roi - finest.begin + begin).intersect(whole)
            shares.append(0 if inside.empty else inside.size / roi.size)
        assert found[name] == pytest.approx(np.mean(shares), rel=0.02)
    assert found["0_input"] < found["1_input"] < 1
    middle = context_shares(dataset, plan, labelled, 0.5)  # of boxes half as long around the same middles
    for name, roi in plan.inputs.items():
        inner = Roi(roi.begin + roi.shape / 4, roi.shape / 2)
        shares = [
            inner.shift(begin - finest.begin).intersect(whole).size / inner.size
            for begin in (
                labelled.begin + size * Coordinate(at)
                for at in np.ndindex(*(int(n) for n in (labelled.shape - finest.shape) / size + 1))
            )
        ]
        assert middle[name] == pytest.approx(np.mean(shares), rel=0.03)


def test_all_faults_are_told_at_once(two, tmp_path):
    raw, masks = tissue()
    write_array(two / "black", np.zeros_like(raw), levels=2)
    write_array(two / "nothing" / "bright", np.zeros_like(masks["bright"]), labels=True)
    write_array(two / "unknown" / "bright", np.full(SHAPE, 9, np.uint8), labels=True)
    sources = [
        {"raw": "black", "labels": "a.zarr/labels/crop"},
        {"raw": "a.zarr/em/raw", "labels": "nothing"},
        {"raw": "a.zarr/em/raw", "labels": "unknown", "unlabelled": 9},
        {"raw": "a.zarr/em/gone", "labels": "a.zarr/labels/crop"},
    ]
    classes = {"bright": ["bright", 7], "ghost": ["ghost"]}
    result = check(config_of(*sources, data__classes=classes), two)
    expected = [
        "data.sources.0.raw: crop: all voxels round the annotation are 0: it is empty",
        "data.sources.1.labels: nothing: no voxel is of any class",
        "data.sources.2.labels: unknown: no class is known in any voxel",
        "data.sources.3.raw: ",
        "data.classes.ghost: no source to train on has labels of it",
    ]
    assert len(result.all_faults) == len(expected)
    for fault, begin in zip(result.all_faults, expected, strict=True):
        assert fault.startswith(begin), fault


def test_intensities_that_do_not_fit_are_a_fault_and_auto_is_shown(two):
    result = check(config_of({**SOURCES[1], "intensities": [0, 1]}, {**SOURCES[0], "intensities": "auto"}), two)
    (fault,) = result.all_faults
    assert fault.startswith("data.sources.0: ids: ")
    assert "data.sources.0.intensities is 0 to 1 in stored values" in fault
    low, high = result.sources[1].window
    assert 0 <= low < high <= 255


def test_the_command_exits_with_1_if_anything_is_wrong(two, tmp_path, monkeypatch, capsys):
    from tests.pipelines.cli.test_cli import run

    config = write_config(two / "run.yaml", **{**WITHOUT, "data__sources": SOURCES, "data__classes": CLASSES})
    assert run(monkeypatch, "check", config) == 0  # paths start at the folder of the config
    out = capsys.readouterr().out
    assert "2 sources" in out
    assert "ids" in out
    wrong = write_config(two / "wrong.yaml", **{**WITHOUT, "data__sources__0__raw": "gone"})
    assert run(monkeypatch, "check", wrong, "--picture", tmp_path / "check.png") == 1
    assert "data.sources.0.raw: " in capsys.readouterr().out
    assert not (tmp_path / "check.png").exists()
