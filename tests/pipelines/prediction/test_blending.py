"""Networks whose tiles do not agree are predicted in tiles that overlap, blended as a slow twin blends them."""

import itertools
import os
import signal

import numpy as np
import pytest
import torch
from funlib.geometry import Roi

from scalenet_gp.inference import Ensemble, lattice_symmetries
from scalenet_gp.pipelines.blockwise import UnfinishedBlocksError
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.prediction import Workers, describe_seam, predict
from scalenet_gp.pipelines.prediction.blend_work import BlendWork
from scalenet_gp.pipelines.prediction.block_work import BlockWork
from scalenet_gp.pipelines.process.signals import Interrupted
from scalenet_gp.training.checkpoint import load_network
from scalenet_gp.volumes.storage import group_attributes, open_array
from tests.pipelines.conftest import CPU, options_with, tiny_config, write_array
from tests.pipelines.prediction.predictions import REGION, files, network, voxels
from tests.pipelines.prediction.test_levels import check_means

TILE, OVERLAP = 36, 9
CONFIG = tiny_config(network__subnets__1__norm_layer="instance", prediction__block_shape=[TILE] * 3)
STARTS = ((0, 18), (0, 27, 54), (0, 18))
"""The begins of the tiles in the region, which overlap by a quarter or more."""
PART, ROW = Region(begin=REGION.begin, end=(36, 180, 108)), ((0,), STARTS[1], (0,))
"""A part of the region, and its tiles."""
NAMES = {"0_output": 9, "1_output": 4.5}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return network(tmp_path_factory.mktemp("network"), CONFIG)


@pytest.fixture(scope="module")
def blended(volume, checkpoint, tmp_path_factory):
    output = tmp_path_factory.mktemp("blended") / "out.zarr"
    return predict(CONFIG, volume, checkpoint, output, REGION, workers=CPU)


@pytest.fixture(scope="module")
def tiles(volume, checkpoint):
    """The outputs of each tile, by product and begin: raw data cut out by hand, mirrored at the faces."""
    net, made = load_network(checkpoint).eval(), {}
    levels = {"0_input": "s1", "1_input": "s0"}
    raw = {key: open_array(volume / "em" / "raw" / level)[:] / np.float32(127.5) - 1 for key, level in levels.items()}
    raw = {key: np.pad(data, 24, mode="symmetric") for key, data in raw.items()}
    mirrors = lattice_symmetries(net, transpose_axes=())
    for begin in itertools.product(*STARTS):
        corner = [int(2 * (b + s)) for b, s in zip(REGION.begin, begin, strict=True)]  # half nanometres
        outputs = dict.fromkeys(NAMES, Roi(corner, [2 * TILE] * 3))
        ensembles = {"": Ensemble([net])}
        if begin in itertools.product(*ROW):
            ensembles[" mirrored"] = Ensemble([net], symmetries=mirrors, products=("mean", "variance"))
        for suffix, ensemble in ensembles.items():
            rois = ensemble.inputs(outputs)
            inputs = {
                key: torch.from_numpy(raw[key][(roi / net.voxel_size[key] + 24).to_slices()])[None, None]
                for key, roi in rois.items()
            }
            found = ensemble.predict(inputs, outputs, lambda net, inputs, rois: net(inputs, net.plan(rois)))
            for product, tensor in found.items():
                made.setdefault(product + suffix, {})[begin] = tensor[0].numpy()
    return made


def ramp(begin, size, region, all_starts):
    """The weight of the tiles that begin there, at the centres of the region's voxels, along each axis."""
    for start, starts, edges in zip(begin, all_starts, zip(region.begin, region.end, strict=True), strict=True):
        centres = np.arange(0, float(edges[1] - edges[0]), size) + size / 2
        longest = max((TILE - b + a for a, b in itertools.pairwise(starts)), default=TILE)
        yield np.clip(np.minimum(centres - start, start + TILE - centres), 0, longest)


def slow_twin(made, size, region=REGION, starts=STARTS):
    """The weighted mean of whole predictions, each zero beyond its tile."""
    total, weights = 0, 0
    for begin, data in made.items():
        z, y, x = ramp(begin, size, region, starts)
        weight = z[:, None, None] * y[:, None] * x
        whole = np.zeros((len(data), *weight.shape))
        box = tuple(slice(int(b / size), int((b + TILE) / size)) for b in begin)
        whole[(slice(None), *box)] = data
        total, weights = total + weight * whole, weights + weight
    return total / weights


def seam(made, size):
    """Mean and largest difference of neighbours, where both are, and in the plane in the middle of that."""
    apart, cut = [], []
    for (a, first), (b, second) in itertools.permutations(made.items(), 2):
        steps = [starts.index(n) - starts.index(m) for m, n, starts in zip(a, b, STARTS, strict=True)]
        if sorted(steps) != [0, 0, 1]:
            continue
        axis = steps.index(1)
        shift = int((b[axis] - a[axis]) / size)
        length = int(TILE / size) - shift
        differences = np.abs(first.take(range(shift, shift + length), axis + 1) - second.take(range(length), axis + 1))
        apart.append(differences.ravel())
        cut.append(differences.take(length // 2, axis + 1).ravel())
    return {
        "mean": np.concatenate(apart).mean(dtype=float),
        "max": np.concatenate(apart).max(),
        "cut": {"mean": np.concatenate(cut).mean(dtype=float), "max": np.concatenate(cut).max()},
    }


def test_tiles_are_blended(blended, tiles):
    for name, size in NAMES.items():
        np.testing.assert_allclose(voxels(blended, name), slow_twin(tiles[name], size), atol=1e-5)


def test_the_seam_is_stated(blended, tiles):
    stated = group_attributes(blended)["blending"]
    assert {key: value for key, value in stated.items() if key != "seam"} == {
        "tile": [TILE] * 3,
        "overlap": [18, 9, 18],
        "tiles": [2, 3, 2],
        "window": "linear",
        "cost": pytest.approx(12 * TILE**3 / (54 * 90 * 54), rel=1e-3),
    }
    assert stated["seam"].keys() == NAMES.keys()
    for name, size in NAMES.items():
        figures, expected = stated["seam"][name], seam(tiles[name], size)
        assert figures.pop("cut") == pytest.approx(expected.pop("cut"), rel=1e-4)
        assert figures == pytest.approx(expected, rel=1e-4)
    assert seam(tiles["1_output"], 4.5)["mean"] > 1e-4  # there is something to blend
    line = describe_seam(blended)
    assert line.startswith("2 × 3 × 2 tiles were blended, as the network depends on the whole of its input")


def test_products_of_ensembles_are_blended(volume, checkpoint, tiles, tmp_path):
    """The entropy is that of the blended mean, which is not stored; the variance is the blended one of each tile."""
    options = options_with(CONFIG, symmetries="mirrors", products=["entropy", "variance"])
    output = predict(CONFIG, volume, checkpoint, tmp_path / "out.zarr", PART, options=options, workers=CPU)
    for name, size in NAMES.items():
        mean = slow_twin(tiles[f"{name} mirrored"], size, PART, ROW)
        entropy = -(mean * np.log2(mean) + (1 - mean) * np.log2(1 - mean))
        np.testing.assert_allclose(voxels(output, f"{name}_entropy"), entropy, atol=1e-5)
        variance = slow_twin(tiles[f"{name}/variance mirrored"], size, PART, ROW)
        np.testing.assert_allclose(voxels(output, f"{name}_variance"), variance, atol=1e-5)
    expected = {f"{name}_{product}" for name in NAMES for product in ("entropy", "variance")}
    assert {path.name for path in output.iterdir() if path.is_dir()} == expected


def test_an_interrupted_prediction_resumes_to_the_bit(volume, checkpoint, blended, tmp_path, monkeypatch):
    """A tile fails, and the others are kept; a signal comes among blocks."""
    output, arguments = tmp_path / "out.zarr", (CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION)
    counts = {BlockWork: [], BlendWork: []}

    def watch(owner, before):
        work = owner.__call__

        def watched(self, roi):
            before(roi, len(counts[owner]))
            work(self, roi)
            counts[owner].append(str(roi))

        monkeypatch.setattr(owner, "__call__", watched)

    def fail(roi, count):
        if count == 3 and len(doomed) == 0:
            doomed.append(roi)
        if roi in doomed and not ended:
            raise OSError("no such luck")

    def end(_, count):
        if count == 1 and ended == [1]:
            ended.append(2)
            os.kill(os.getpid(), signal.SIGUSR1)

    doomed, ended = [], []
    watch(BlockWork, fail)
    watch(BlendWork, end)
    with pytest.raises(UnfinishedBlocksError, match=r"1 block could not be done: \[0, 117, 90\] to .* no such luck"):
        predict(*arguments, workers=CPU)
    assert [len(done) for done in counts.values()] == [11, 0]
    ended.append(1)
    with pytest.raises(Interrupted, match="SIGUSR1"):
        predict(*arguments, workers=CPU)
    assert [len(done) for done in counts.values()] == [12, 2]
    predict(*arguments, workers=CPU)
    assert all(len(set(done)) == len(done) for done in counts.values())
    assert files(output) == files(blended)
    assert group_attributes(output)["blending"] == group_attributes(blended)["blending"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_workers_give_the_same_bytes(volume, checkpoint, blended, tmp_path):
    workers = Workers(count=2, devices=("cpu",))
    output = predict(CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION, workers=workers)
    assert files(output) == files(blended)
    assert group_attributes(output)["blending"] == group_attributes(blended)["blending"]


def test_blocks_are_stored_with_their_levels_and_only_where_the_mask_is(volume, checkpoint, tmp_path, monkeypatch):
    """Tiles that no block needs are not predicted; the blocks that are written are those of the whole."""
    region, computed = Region(begin=(0, 0, 0), end=(108, 36, 36)), []
    options = options_with(CONFIG, stored="uint8", chunk=16, overlap=[18, 9, 9])
    whole = predict(CONFIG, volume, checkpoint, tmp_path / "whole.zarr", region, options=options, workers=CPU)
    assert group_attributes(whole)["blending"]["overlap"] == [18, 0, 0]
    there = np.zeros((24, 40, 40), np.uint8)
    there[2, 2, 2] = 1
    mask = write_array(tmp_path / "mask", there)
    work = BlockWork.__call__
    monkeypatch.setattr(BlockWork, "__call__", lambda self, roi: (computed.append(roi), work(self, roi)))
    masked = options.model_copy(update={"mask": str(mask)})
    output = predict(CONFIG, volume, checkpoint, tmp_path / "masked.zarr", region, options=masked, workers=CPU)
    skipped = open_array(output / "skipped")[:]
    assert 0 < skipped.sum() < skipped.size
    assert group_attributes(output)["blending"]["tiles"] == group_attributes(whole)["blending"]["tiles"]
    assert len(computed) < np.prod(group_attributes(output)["blending"]["tiles"])
    for name in NAMES:
        made, expected = voxels(output, name), voxels(whole, name)
        assert made.dtype == np.uint8
        empty = made == 0
        np.testing.assert_array_equal(made[~empty], expected[~empty])
        assert 0 < (~empty).sum() < made.size


def test_levels_are_means_of_what_was_blended(tmp_path, checkpoint):
    raw = np.random.default_rng(0).integers(0, 255, (8, 8, 300), dtype=np.uint8)
    write_array(tmp_path / "volume" / "em" / "raw", raw, levels=2)
    options = options_with(CONFIG, block_shape=[36, 36, 450], chunk=16)
    output = predict(
        CONFIG, tmp_path / "volume", checkpoint, tmp_path / "out.zarr", "all", options=options, workers=CPU
    )
    assert group_attributes(output)["blending"]["tiles"] == [1, 1, 4]
    check_means(output, {"0_output": 2, "1_output": 3})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"overlap": [36, 9, 9]}, "overlap 36 × 9 × 9 nm has to be below block_shape, which is 36 × 36"),
        ({"overlap": [10, 9, 9]}, "prediction.overlap 10 × 9 × 9 nm has to be a positive multiple of 9 × 9 × 9 nm"),
        ({"overlap": [0, 9, 9]}, "it has a length above 0 for every axis"),
        ({"overlap": [9, 9]}, "overlap 9 × 9 nm has to be below block_shape"),
        ({"block_shape": [9, 36, 36]}, "block_shape is 9 nm along axis 0, one voxel, but blocks .* have to overlap"),
    ],
)
def test_an_overlap_that_does_not_fit_is_refused(volume, checkpoint, tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        predict(
            CONFIG,
            volume,
            checkpoint,
            tmp_path / "out.zarr",
            REGION,
            options=options_with(CONFIG, **changes),
            workers=CPU,
        )
    assert not list(tmp_path.iterdir())


def test_an_overlap_is_refused_where_tiles_agree(volume, checkpoint, tmp_path):
    """Refused when the run file is read, and in options of their own."""
    told = r"prediction\.overlap is 9 × 9 × 9 nm, but .* leave prediction\.overlap out"
    with pytest.raises(ValueError, match=told):
        tiny_config(prediction__overlap=[9, 9, 9])
    config = tiny_config()
    options = options_with(config, overlap=[9, 9, 9])
    path = network(tmp_path / "network", config)
    with pytest.raises(ValueError, match=told):
        predict(config, volume, path, tmp_path / "out.zarr", REGION, options=options, workers=CPU)


def test_another_overlap_is_another_prediction(volume, checkpoint, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no such luck")

    arguments = (CONFIG, volume, checkpoint, tmp_path / "out.zarr", REGION)
    monkeypatch.setattr(BlockWork, "__call__", fail)
    with pytest.raises(UnfinishedBlocksError):
        predict(*arguments, workers=CPU)
    for changes in ({"overlap": [18, 18, 18]}, {"block_shape": [36, 36, 45]}):
        with pytest.raises(ValueError, match=f"there and here: prediction.{next(iter(changes))}: "):
            predict(*arguments, options=options_with(CONFIG, **changes), workers=CPU)
