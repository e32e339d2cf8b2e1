"""A run file from a look at data: measured numbers are those drawn, and choices follow from them."""

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from funlib.geometry import Coordinate
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp import build_scalenet
from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.config import Config, DataConfig
from scalenet_gp.pipelines.data import Datasets
from scalenet_gp.pipelines.demo import write_demo_volume
from scalenet_gp.pipelines.planning import choices
from scalenet_gp.pipelines.planning import fingerprint as fingerprints
from scalenet_gp.pipelines.planning.choices import (
    Scale,
    choose_network,
    choose_scales,
    choose_voxel_size,
    field_of_view,
    training_memory,
)
from scalenet_gp.pipelines.planning.class_balance import class_shares
from scalenet_gp.pipelines.planning.fingerprint import ClassFingerprint, Fingerprint, measure
from scalenet_gp.pipelines.planning.plan_job import data_of_file, data_of_paths, plan_run, write_fresh
from tests.pipelines.conftest import write_array
from tests.pipelines.data.challenge_tree import write_voxel_sizes
from tests.scalenet_gp.analysis.test_cost import in_a_process, risen

GIB = 2**30
VOXEL = 8
SHAPE = (64, 72, 96)
SHEET = 4  # voxels of 8 nm
BLOCKS = [((8, 20), (8, 20), (10, 22)), ((8, 20), (40, 52), (10, 22)), ((40, 52), (8, 20), (60, 84))]
"""Their shortest edge is 12 voxels, the longest ones 12 and 24; the nearest ones are 20 voxels apart."""


def drawn():
    sheet, blocks = np.zeros((2, *SHAPE), dtype=np.uint8)
    sheet[30 : 30 + SHEET] = 1
    for block in BLOCKS:
        blocks[tuple(slice(*ends) for ends in block)] = 1
    return {"er_mem": sheet, "block": blocks}


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """A volume of known sizes."""
    path = tmp_path_factory.mktemp("plan") / "volume.zarr"
    raw = np.random.default_rng(0).integers(60, 200, SHAPE, dtype=np.uint8)
    write_array(path / "raw", raw, voxel=VOXEL, levels=3, chunks=(32, 32, 32))
    for name, mask in drawn().items():
        write_array(path / "labels" / name, mask, voxel=VOXEL, levels=3, labels=True, chunks=(32, 32, 32))
    return path


@pytest.fixture(scope="module")
def planned(volume):
    """The files planned for it, and what was chosen."""
    folder = volume.parent / "planned"
    folder.mkdir()
    data = data_of_paths(str(volume / "raw"), str(volume / "labels"), [], folder)
    return plan_run(data, folder / "run.yaml")


@pytest.fixture(scope="module")
def wide(volume):
    """A volume of which the middle is annotated."""
    wide = volume.parent / "wide"
    write_array(wide / "raw", np.zeros((320, 320, 320), np.uint8), voxel=VOXEL, chunks=(160, 160, 160))
    box = np.ones((32, 32, 32), np.uint8)
    write_array(wide / "labels" / "block", box, first=(144, 144, 144), voxel=VOXEL, labels=True, chunks=(32, 32, 32))
    return wide


def data_of(volume, **changes):
    source = {"raw": str(volume / "raw"), "labels": str(volume / "labels")}
    return DataConfig.create(**{"sources": [source], "classes": ["block", "er_mem"], **changes})


def test_the_fingerprint_has_the_numbers_that_the_volume_was_drawn_with(planned):
    found = json.loads(planned.fingerprint_path.read_text())
    block, sheet = found["classes"]["block"], found["classes"]["er_mem"]
    masks = drawn()
    for name, one in (("block", block), ("er_mem", sheet)):
        assert one["fraction"] == pytest.approx(masks[name].mean(), abs=1e-6)
    assert (block["objects"], sheet["objects"]) == (3, 1)
    assert sheet["thickness"] == [SHEET * VOXEL] * 2
    assert block["thickness"] == [12 * VOXEL] * 2
    assert block["extent"] == pytest.approx([12 * VOXEL, np.percentile([12, 12, 24], 95) * VOXEL])
    assert block["gap"] == pytest.approx(20 * VOXEL)
    assert sheet["gap"] is None
    (source,) = found["sources"]
    assert source["voxel_sizes"] == [[VOXEL * 2**level] * 3 for level in range(3)]
    assert source["extent"] == source["annotated"] == [n * VOXEL for n in SHAPE]
    assert source["context"] == [[0] * 3] * 2


def test_the_run_file_says_why_and_can_be_trained_with(planned):
    config = Config.read(planned.path)
    text = planned.path.read_text()
    assert [subnet.top_resolution for subnet in config.network.subnets][-1] == (16, 16, 16)
    assert "the coarsest at which the thinnest membrane, er_mem, is 32 nm thick" in text.replace("\n  # ", " ").lower()
    assert config.training.batch_size == 4
    assert "batch_size" not in text  # it is a default
    for number in ("top_resolution", "iterations", "block_shape", "kind: deform", "region"):
        lines = text.splitlines()
        place = next(n for n, line in enumerate(lines) if number in line and not line.lstrip().startswith("#"))
        assert "#" in lines[place] or any("#" in line for line in lines[max(0, place - 4) : place]), number
    cut = config.training.region.end
    assert config.validation.region.begin == cut
    assert config.validation.region.end == config.evaluation.region.begin
    assert [bound is None for bound in cut] == [True, True, False]  # the longest axis
    datasets = Datasets.find(planned.path.parent, config, config.build_network())
    assert not datasets.first.annotated(config.validation.region).empty


def test_the_same_data_give_the_same_files(volume, planned):
    again = volume.parent / "again"
    again.mkdir()
    half = again / "half.yaml"
    data = data_of_paths(str(volume / "raw"), str(volume / "labels"), [], again)
    half.write_text(json.dumps({"version": 1, "data": data}))
    found = plan_run(data_of_file(half, again), again / "run.yaml")
    assert found.path.read_text() == planned.path.read_text()
    assert found.fingerprint_path.read_text() == planned.fingerprint_path.read_text()
    with pytest.raises(FileExistsError, match="replace it with --force"):
        plan_run(data, again / "run.yaml")


def fingerprint_with(fingerprint, **thickness):
    classes = {name: ClassFingerprint(0.1, 3, (value, value), (100, 100), None) for name, value in thickness.items()}
    return Fingerprint(classes, fingerprint.sources)


@pytest.mark.parametrize(
    ("thickness", "size"),
    [
        ({"mito": 32}, 8),
        ({"mito": 63}, 8),
        ({"mito": 64}, 16),
        ({"mito": 128}, 32),
        ({"mito": 500, "pm_mem": 31}, 8),
        ({"mito": 500, "pm_mem": 32}, 16),
        ({"mito": 9}, 8),  # the finest there is
    ],
)
def test_the_voxel_size_is_the_coarsest_that_shows_the_thinnest_class(volume, planned, thickness, size):
    found = fingerprint_with(planned.fingerprint, **thickness)
    assert choose_voxel_size(found, data_of(volume), volume).voxel_size == (size,) * 3


def test_scales_are_added_until_the_context_is_seen_or_not_recorded(volume, wide, planned):
    finest = Scale((Fraction(VOXEL),) * 3, "")
    alone = field_of_view([finest.voxel_size])
    data = data_of(wide, classes=["block"])
    by_two, by_four = ([(Fraction(size),) * 3 for size in (8, factor * 8)] for factor in (2, 4))
    for context, expected in (
        (alone, [8]),
        (alone + 1, [16, 8]),
        (field_of_view(by_two), [16, 8]),
        (field_of_view(by_two) + 1, [32, 8]),
        (field_of_view(by_four), [32, 8]),
    ):
        scales, end, share = choose_scales(finest, planned.fingerprint, data, wide, Fraction(context))
        assert [scale.voxel_size[0] for scale in scales] == expected, end
        assert share >= 0.5
    scales, end, share = choose_scales(finest, planned.fingerprint, data, wide, Fraction(10**6))
    assert [scale.voxel_size[0] for scale in scales] == [128, 32, 8]
    assert "at 256 × 256 × 256 nm" in end
    assert share >= 0.5
    scales, end, _ = choose_scales(finest, planned.fingerprint, data_of(volume), volume, Fraction(10**6))
    assert [scale.voxel_size[0] for scale in scales] == [32, 8]
    assert "lies within the raw data, less than half" in end


def test_coarse_sections_are_left_alone(tmp_path):
    from scalenet_gp.volumes import MultiscaleWriter

    rng = np.random.default_rng(1)
    mask = np.zeros((12, 128, 128), dtype=np.uint8)
    mask[:, 20:60, 30:100] = 1
    for path, values in (
        (tmp_path / "raw", rng.integers(0, 255, mask.shape, dtype=np.uint8)),
        (tmp_path / "labels" / "mito", mask),
    ):
        with MultiscaleWriter(
            path, voxel_size=(40, 4, 4), corner=(0, 0, 0), shape=mask.shape, dtype=np.dtype(np.uint8),
            labels=path.name == "mito", chunks=(8, 32, 32),
        ) as writer:  # fmt: skip
            writer.write((0, 0, 0), values)
    data = DataConfig.create(sources=[{"raw": "raw", "labels": "labels"}], classes=["mito"])
    fingerprint = measure(data, str(tmp_path))
    assert fingerprint.classes["mito"].thickness == (160, 160)
    chosen = choose_voxel_size(fingerprint, data, str(tmp_path))
    assert chosen.voxel_size == (40, 32, 32)
    scales = [Scale((Fraction(40), Fraction(4), Fraction(4)), "")]
    subnet = choose_network(scales, "", 1, data, str(tmp_path), GIB).network["subnets"][0]
    assert subnet["downsample_factors"] == [(1, 2, 2)] * 2
    # voxels of 40 × 4 × 4, 40 × 8 × 8 and 40 × 16 × 16 nm
    assert subnet["kernel_sizes"] == [(1, 3, 3)] * 2


@pytest.mark.parametrize(
    ("size", "factors", "kernels"),
    [
        ((8, 8, 8), [(2, 2, 2)], None),
        ((16, 8, 8), [(2, 2, 2)], None),
        # 40 × 10 and 40 × 20 nm: there sections are twice as thick, and no more
        ((40, 10, 10), [(1, 2, 2)], [[(1, 3, 3)] * 2, [(3, 3, 3)] * 2]),
        # 50 × 9.2, 50 × 18.4 and 50 × 36.8 nm
        ((50, "9.2", "9.2"), [(1, 2, 2)] * 2, [[(1, 3, 3)] * 2, [(1, 3, 3)] * 2, [(3, 3, 3)] * 2]),
        ((8, 8), None, None),
    ],
)
def test_kernels_and_factors_follow_the_voxels_of_each_level(size, factors, kernels):
    (subnet,) = choices._subnets([tuple(map(Fraction, size))])
    assert (subnet.get("downsample_factors"), subnet.get("kernel_sizes")) == (factors, kernels)
    assert build_scalenet([subnet | {"base_nc": 1}]).dims == len(size)


def test_rare_classes_are_drawn_and_weighed_more(planned):
    config, fractions = Config.read(planned.path), {n: one.fraction for n, one in planned.fingerprint.classes.items()}
    rarest, commonest = (choose(fractions, key=fractions.get) for choose in (min, max))
    ratio = fractions[commonest] / fractions[rarest]
    shares, weights = config.training.sampler.shares, config.training.targets["*"].class_weights
    assert math.fsum(shares.values()) == pytest.approx(0.5)
    assert shares[rarest] / shares[commonest] == pytest.approx(ratio**0.5, rel=0.02)
    assert weights[rarest] / weights[commonest] == pytest.approx(ratio**0.25, rel=0.02)
    assert math.fsum(weights.values()) == pytest.approx(len(weights), abs=0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60).filter(any), st.sampled_from([Fraction(1), Fraction(1, 2)]))
def test_shares_are_decimals_with_the_sum_asked_for(fractions, total):
    classes = {f"class{n}": fraction for n, fraction in enumerate(fractions)}
    shares = class_shares(classes, total)
    assert sum(Fraction(str(share)) for share in shares.values()) == total
    assert set(shares) == {name for name, fraction in classes.items() if fraction}
    for a, one in shares.items():
        for b, other in shares.items():
            assert one <= other + 0.001 or classes[a] <= classes[b]


def test_little_memory_makes_batch_and_crop_smaller(volume, planned, monkeypatch):
    data, scales = data_of(volume), [Scale((Fraction(VOXEL),) * 3, "")]
    assert (planned.choice.batch, planned.choice.width, planned.choice.crop) == (4, 12, None)
    net = build_scalenet([{"top_resolution": (VOXEL,) * 3, "output_nc": 2, "downsample_factors": [(2, 2, 2)]}])
    limit = training_memory(net, net.smallest_plan, 1) + 2**12
    monkeypatch.setattr(choices, "_MORE", ())  # they take more still
    least = choose_network(scales, "", 1, data, volume, limit)
    assert (least.batch, least.width, least.crop) == (1, 12, (2 * VOXEL,) * 3)
    assert least.memory <= limit
    monkeypatch.setattr(choices, "_FEWER", ((12, (4, 2, 1)),))
    with pytest.raises(ConfigError, match="--memory of 0 MiB is too little"):
        choose_network(scales, "", 1, data, volume, 10_000)


def test_named_memory_is_used_up_to_a_limit(volume, monkeypatch):
    data, scales = data_of(volume), [Scale((Fraction(VOXEL),) * 3, "")]

    def need(net, plan, batch):  # in place of the true prediction, which another test compares with a measurement
        return batch * sum(weight.numel() for weight in net.parameters())

    monkeypatch.setattr(choices, "training_memory", need)
    monkeypatch.setattr(choices, "_block", lambda net, dataset, memory: (8, 8, 8))
    sizes = [(24, 8), (24, 4), (16, 8), (16, 4), (12, 8), (12, 4)]
    nets = {
        width: build_scalenet(
            [{"top_resolution": (VOXEL,) * 3, "output_nc": 2, "base_nc": width, "downsample_factors": [(2, 2, 2)]}]
        )
        for width, _ in sizes
    }
    needs = {(width, batch): need(nets[width], None, batch) for width, batch in sizes}
    for limit in (80 * GIB, *needs.values(), needs[16, 8] - 1):
        found = choose_network(scales, "", 1, data, volume, limit)
        size = next(size for size in sizes if needs[size] <= limit)
        assert ((found.width, found.batch), found.crop, found.memory) == (size, None, needs[size])
        assert found.network["subnets"][0].get("base_nc", 12) == size[0]
    default = choose_network(scales, "", 1, data, volume, None)
    assert (default.width, default.batch, default.crop) == (12, 4, None)


def measured_step(folder):
    """Bytes that steps of training take, and those predicted, of a run file."""
    import torch

    from scalenet_gp.training import Trainer

    torch.set_num_threads(1)
    config = Config.read(Path(folder, "run.yaml"))
    net = config.build_network()
    datasets = Datasets.find(folder, config, net)
    plan, batch = net.plan(datasets.boxes(None)), config.training.batch_size
    predicted = training_memory(net, plan, batch)
    trainer = Trainer(net, optimization=config.training.optimization, iterations=config.training.iterations)

    inputs = {key: torch.rand((batch, t.channels, *t.shape)) for key, t in plan.input_tensors.items()}
    targets = {}
    for name, roi in plan.outputs.items():
        shape = roi.shape / Coordinate(net.voxel_size[name])
        targets[name] = torch.zeros((batch, net.specs[name].channels, *shape))
    masks = {name: torch.ones_like(target) for name, target in targets.items()}
    trainer.step(inputs, targets, masks, plan)
    weights = sum(4 * weight.numel() for weight in net.parameters())
    given = sum(4 * tensor.numel() for tensor in inputs.values())
    # weights, AdamW's averages and inputs are there already
    return risen(lambda: trainer.step(inputs, targets, masks, plan)) + 3 * weights + given, predicted


def test_the_predicted_memory_is_what_is_measured(planned, warm_executable):
    module = "__import__('importlib').import_module('tests.pipelines.planning.test_plan')"
    measured, predicted = in_a_process(warm_executable, f"{module}.measured_step({str(planned.path.parent)!r})")
    assert measured > 30 * 2**20
    assert math.isclose(predicted, measured, rel_tol=0.1), (predicted / 2**20, measured / 2**20)


def test_scales_of_the_demo_see_the_nucleus(tmp_path):
    write_demo_volume(tmp_path / "demo.zarr", shape=(40, 48, 80), voxel_size_nm=64)
    at = tmp_path / "demo.zarr" / "recon-1"
    found = plan_run(
        data_of_paths(str(at / "em" / "fibsem-uint8"), str(at / "labels/groundtruth/crop1"), [], tmp_path),
        tmp_path / "run.yaml",
        8 * GIB,
    )
    sizes = [scale.voxel_size for scale in reversed(found.choice.scales)]
    assert float(field_of_view(sizes)) >= found.fingerprint.classes["nucleus"].extent[1]


def test_several_sources_are_split(volume, wide, tmp_path):
    (tmp_path / "half.yaml").write_text(
        json.dumps(
            {
                "data": {
                    "folder": str(volume),
                    "sources": [{"raw": "raw", "labels": "labels"}, {"raw": "../wide/raw", "labels": "../wide/labels"}],
                    "classes": ["block", "er_mem"],
                }
            }
        )
    )
    (tmp_path / "other").mkdir()
    data = data_of_file(tmp_path / "half.yaml", tmp_path / "other")
    planned_again = plan_run(data, tmp_path / "other" / "run.yaml", GIB)
    config = Config.read(planned_again.path)
    assert (config.data.split.by, config.data.split.share) == ("dataset", 0.2)
    assert config.data.sampling.by == "class"
    assert config.data.sampling.shares == class_shares(
        {name: one.fraction for name, one in planned_again.fingerprint.classes.items()}, Fraction(1)
    )
    assert config.training.sampler is None
    assert config.training.region is None
    assert config.validation is not None


def test_what_cannot_be_planned(volume, tmp_path):
    whole = tmp_path / "whole.yaml"
    whole.write_text("{version: 1, data: {}, network: {}}")
    inputs = {"sources": [{"raw": "em", "labels": "gt", "inputs": {"lsd": "first.zarr/output"}}], "classes": ["cell"]}
    with pytest.raises(ConfigError, match=r"data\.sources\.0\.inputs names lsd, and plan looks at raw data alone"):
        plan_run(inputs, tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match="plan writes network itself"):
        data_of_file(whole, tmp_path)
    with pytest.raises(ConfigError, match="one volume of ids or instances"):
        data_of_paths(str(volume / "raw"), str(volume / "labels" / "block"), [], tmp_path)
    with pytest.raises(FileNotFoundError, match="no volume or group"):
        data_of_paths(str(volume / "raw"), str(volume / "gone"), [], tmp_path)
    with pytest.raises(ConfigError, match="there is no field klasses"):
        plan_run({"sources": [{"raw": "a", "labels": "b"}], "klasses": ["a"]}, tmp_path / "run.yaml", GIB)
    with pytest.raises(FileNotFoundError, match="make it first"):
        plan_run({}, tmp_path / "gone" / "run.yaml", GIB)


def test_a_fresh_file_can_be_read(tmp_path):
    path = write_fresh(tmp_path / "run.yaml")
    config = Config.read(path)
    assert config.build_network().dims == 3
    with pytest.raises(FileExistsError, match="--force"):
        write_fresh(path)
    assert write_fresh(path, overwrite=True) == path


MIXED = (1, 7, 10, 11, 12, 13)
"""Crops of 1.62 × 2 × 2, 2.62 × 2 × 2, 8, 16, 32 and 64 nm, the first of raw data of 3.24 × 4 × 4 nm."""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Crops of all voxel sizes of the challenge: a half-written run file of its folder, and one of a datasplit."""
    folder = tmp_path_factory.mktemp("mixed")
    write_voxel_sizes(folder, MIXED)
    rows = []
    for number, use in zip(MIXED[3:], ("train", "train", "validate"), strict=True):
        top = f"set{number}/set{number}.zarr"
        rows.append(
            f'"{use}","{top}","recon-1/em/fibsem-uint8","{top}","recon-1/labels/groundtruth/crop{number}/[beyond,seen]"\n'
        )
    (folder / "datasplit.csv").write_text("".join(rows))
    for name, source in (("challenge", {"challenge": "."}), ("split", {"datasplit": "datasplit.csv"})):
        data = {"sources": [source], "classes": ["beyond", "seen"]}
        (folder / f"{name}.yaml").write_text(json.dumps({"version": 1, "data": data}))
    return folder


def planned_from(folder, name):
    made = folder / name
    made.mkdir()
    return plan_run(data_of_file(folder / f"{name}.yaml", made), made / "run.yaml")


def test_crops_of_a_challenge_get_a_voxel_size_that_suits_all(mixed):
    found = planned_from(mixed, "challenge")
    config, text = Config.read(found.path), " ".join(found.path.read_text().replace("#", " ").split())
    # 98 nm are the median; of raw data of 8 nm, and four voxels across
    assert [subnet.top_resolution for subnet in config.network.subnets] == [(16,) * 3]
    assert "still 4 voxels or more; sources whose voxels differ are averaged or resampled to it" in text
    assert config.data.split.by == "dataset"
    assert "A fifth of the raw volumes is kept for validation" in text
    assert config.data.sampling.by == "class"
    assert [one.name for one in found.fingerprint.sources] == [f"crop{number}" for number in MIXED]
    datasets = Datasets.find(mixed, config, config.build_network())
    assert len(datasets.of("train")) + len(datasets.of("validate")) == len(MIXED)


def test_a_datasplit_says_what_is_validated_with(mixed):
    found = planned_from(mixed, "split")
    config = Config.read(found.path)
    assert config.data.split is None
    assert [one.label_sizes[0][0] for one in found.fingerprint.sources] == [16, 32, 64]
    # raw data have 8 nm, and the labels show nothing that is smaller than 16
    assert [subnet.top_resolution for subnet in config.network.subnets] == [(16,) * 3]
    datasets = Datasets.find(mixed, config, config.build_network())
    assert [source.name for source in datasets.of("validate")] == ["crop13"]
    assert "Sources say what they are for" in found.path.read_text()


def test_many_sources_are_measured_in_part(mixed, monkeypatch):
    """With a limit of two sources: shares of one block of each, and objects of two."""
    data = DataConfig.create(sources=[{"challenge": "."}], classes=["beyond", "seen"])
    whole = measure(data, str(mixed))
    monkeypatch.setattr(fingerprints, "_SOURCES", 2)
    part = measure(data, str(mixed))
    assert part.sources == whole.sources
    assert part.classes["beyond"].objects == 2 < whole.classes["beyond"].objects == len(MIXED)
    assert part.classes["beyond"].fraction == whole.classes["beyond"].fraction  # a crop is less than a block
    assert measure(data, str(mixed)).classes == part.classes
