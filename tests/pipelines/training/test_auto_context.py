"""Auto-context: a second network reads the shape descriptors that a first one predicted, with or without raw data."""

import numpy as np
import pytest
import torch
from funlib.geometry import Roi
from scipy.ndimage import label

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.inspection import check, dry_run, preview
from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.pipelines.prediction.job import PredictionJob
from scalenet_gp.pipelines.training import train
from scalenet_gp.training.checkpoint import load_checkpoint, load_network, save_checkpoint
from scalenet_gp.volumes.storage import group_attributes, open_array
from tests.pipelines.conftest import (
    CPU,
    CROPS,
    files_below,
    options_with,
    tiny_config,
    tissue,
    write_array,
    write_volume,
)

UNET = {
    "kind": "unet",
    "top_resolution": [4.5] * 3,
    "base_nc": 2,
    "downsample_factors": [[2, 2, 2]],
    "convs_per_level": 1,
    "norm_layer": None,
}
JITTER = {"kind": "deform", "control_point_spacing": [36] * 3, "jitter_sigma": [2] * 3}
NOISE = {"kind": "noise", "sigma": 0.03}
LSD = {"kind": "lsd", "labels": "cells", "sigma": [9, 9, 9]}
AFFINITIES = {"kind": "affinities", "labels": "cells", "offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}
PART = Region(begin=(0, 36, 99), end=(54, 90, 180))
"""At two faces of the volume."""


def stage(targets, network=UNET, **changes):
    given = {
        "network": network,
        "augmentation": [JITTER, NOISE],
        "training__targets": {"*": targets},
        "training__iterations": 2,
        "training__batch_size": 2,
        "training__overhang": None,
        "prediction__stored": "uint8",
        "prediction__block_shape": [108, 90, 90],
        **changes,
    }
    return tiny_config(**given)


def second(path, raw=1, **changes):
    source = {"raw": "em/raw", "labels": "labels/crop", "inputs": {"lsd": str(path)}}
    network = {**UNET, "input_nc": raw, "inputs": {"lsd": 10}}
    return stage(AFFINITIES, network, **{"data__sources": [source], "prediction__stored": "float32", **changes})


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    path = write_volume(tmp_path_factory.mktemp("stages") / "volume.zarr")
    box = tuple(slice(*bounds) for bounds in CROPS["bright"])
    cells = label(tissue()[1]["bright"])[0].astype(np.uint16)[box]
    write_array(path / "labels" / "crop" / "cells", cells, [bounds[0] for bounds in CROPS["bright"]], labels=True)
    return path


@pytest.fixture(scope="module")
def first(volume, tmp_path_factory):
    """The prediction of the whole volume by a trained first stage."""
    folder = tmp_path_factory.mktemp("first")
    config = stage(LSD)
    checkpoint = train(config, volume, folder / "run", "cpu", "none")
    return predict(config, volume, checkpoint, folder / "first.zarr", "all", workers=CPU)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A checkpoint of another first stage."""
    torch.manual_seed(1)
    return save_checkpoint(tmp_path_factory.mktemp("other"), stage(LSD).build_network(), {"iteration": 1})


@pytest.fixture(scope="module")
def foreign(volume, other):
    """The prediction of the whole volume by that stage."""
    return predict(stage(LSD), volume, other, other.parent / "foreign.zarr", "all", workers=CPU)


@pytest.fixture(scope="module")
def part(volume, other):
    """The prediction of a part of the volume by that stage."""
    return predict(stage(LSD), volume, other, other.parent / "part.zarr", PART, workers=CPU)


@pytest.fixture(scope="module")
def trained(volume, first, tmp_path_factory):
    """The checkpoint of a second stage."""
    return train(second(first / "output"), volume, tmp_path_factory.mktemp("second") / "run", "cpu", "none")


def voxels(prediction):
    return open_array(prediction / "output" / "s0")[:]


def seen(first, volume, net, plan):
    """The inputs by hand: stored bytes from -1 to 1, mirrored at the faces of the volume."""
    stored = {"input": open_array(volume / "em" / "raw" / "s0")[:][None], "lsd_input": voxels(first)}
    inputs = {}
    for name in net.input_keys:
        mirrored = np.pad(stored[name] / np.float32(127.5) - 1, ((0, 0), *[(12, 12)] * 3), mode="symmetric")
        box = (plan.inputs[name] / net.voxel_size[name] + 12).to_slices()
        inputs[name] = torch.from_numpy(np.ascontiguousarray(mirrored[(slice(None), *box)]))[None]
    return inputs


@pytest.mark.parametrize("raw", [1, 0])
def test_the_second_network_reads_the_first_ones_prediction_of_that_place(raw, volume, first, trained, tmp_path):
    """The oracle: numpy cuts both out of their files, for the network in one piece. Blocks make no difference."""
    config, checkpoint = second(first / "output", raw), trained
    if not raw:
        torch.manual_seed(0)
        checkpoint = save_checkpoint(tmp_path, config.build_network(), {"iteration": 1})
    made = predict(config, volume, checkpoint, tmp_path / "second.zarr", PART, workers=CPU)
    net = load_network(checkpoint)
    assert net.input_keys == ("input", "lsd_input")[1 - raw :]
    begin, end = ([int(2 * edge) for edge in edges] for edges in (PART.begin, PART.end))  # half nanometres
    plan = net.plan({"output": Roi(begin, [e - b for b, e in zip(begin, end, strict=True)])})
    with torch.inference_mode():
        expected = net(seen(first, volume, net, plan), plan)["output"][0].numpy()
    np.testing.assert_allclose(voxels(made), expected, rtol=1e-5, atol=1e-6)
    options = options_with(config, block_shape=[54, 27, 81])
    again = predict(config, volume, checkpoint, tmp_path / "again.zarr", PART, options=options, workers=CPU)
    np.testing.assert_allclose(voxels(again), expected, rtol=1e-5, atol=1e-6)


def test_a_run_repeats_and_says_what_it_has_read(volume, first, trained, tmp_path):
    again = train(second(first / "output"), volume, tmp_path / "run", "cpu", "none")
    ours, others = (load_network(path).state_dict() for path in (trained, again))
    assert all(torch.equal(ours[name], others[name]) for name in ours)
    (learned,) = load_checkpoint(trained).metadata["config"]["learned_from"]
    (read,) = learned["inputs"]
    job = PredictionJob.model_validate(group_attributes(first)["job"])
    assert read["networks"] == [network.sha256 for network in job.networks]
    assert (read["name"], read["output"], len(read["channels"])) == ("lsd", "output", 10)
    assert read["channels"][0] == group_attributes(first)["channels"]["output"][0]


def test_other_inputs_are_refused_before_anything_is_computed(volume, first, trained, foreign, part, tmp_path):
    given = {"region": PART, "workers": CPU}

    def second_of(path, **options):
        return predict(second(first / "output"), volume, trained, tmp_path / "p.zarr", inputs={"lsd": path}, **options)

    with pytest.raises(ConfigError, match=r"inputs\.lsd: .*foreign.* networks .* has learned from .*first.* networks"):
        second_of(foreign / "output", **given)
    said = options_with(second(first / "output"), allow_other_inputs=True)
    with pytest.raises(ConfigError, match=r"part\.zarr/output covers \[0, 36, 99\] to \[54, 90, 180\] nm .* reads "):
        second_of(part / "output", **given, options=said)
    with pytest.raises(FileNotFoundError, match=r"data\.sources\.0\.inputs\.lsd: .*nowhere"):
        second_of(tmp_path / "nowhere", **given)
    with pytest.raises(ConfigError, match=r"inputs\.lsd: .*raw has 1 channels, and .*'lsd_input' has 10: .*{lsd: 1}"):
        second_of(volume / "em" / "raw", **given)
    with pytest.raises(ConfigError, match=r"reads no input 'ldd'; did you mean lsd"):
        predict(second(first / "output"), volume, trained, tmp_path / "p.zarr", inputs={"ldd": "x"}, **given)
    mirrors = options_with(second(first / "output"), symmetries="mirrors")
    with pytest.raises(ConfigError, match=r"prediction\.symmetries is mirrors, and channels of data\.sources\.0\.inpu"):
        second_of(first / "output", **given, options=mirrors)
    assert files_below(tmp_path) == []
    made = second_of(foreign / "output", **given, options=said)
    assert not np.array_equal(voxels(made), 0)


def test_a_prediction_of_other_raw_data_is_refused(volume, first, trained, tmp_path):
    raw, _ = tissue()
    write_array(tmp_path / "volume" / "em" / "raw", 255 - raw, levels=3)
    with pytest.raises(ConfigError, match=r"inputs\.lsd: .*first.* was predicted from .*: the voxels differ"):
        predict(second(first / "output"), tmp_path / "volume", trained, tmp_path / "p.zarr", PART, workers=CPU)


def test_what_cannot_be_learned_from_is_said_before_training(volume, first, part, tmp_path):
    fault = (
        r"part\.zarr/output covers .* and training reads \[0, 13.5, 4.5\] to \[108, 166.5, 121.5\] nm of it: predict"
    )
    with pytest.raises(ConfigError, match=fault):
        train(second(part / "output"), volume, tmp_path / "run", "cpu", "none")
    turned = second(first / "output", augmentation=[{**JITTER, "mirror_axes": [0]}])
    (fault,) = check(turned, volume).all_faults
    assert fault.startswith(
        "data.sources.0: augmentation.0.mirror_axes turns samples, and channels of data.sources.0.inp"
    )
    bare = second(first / "output", raw=0)
    with pytest.raises(ConfigError, match=r"augmentation\.1 changes raw data, and the network reads none"):
        dry_run(bare, volume, "cpu")


def test_a_run_is_resumed_with_the_predictions_that_it_began_with(volume, trained, foreign):
    with pytest.raises(ConfigError, match=r"the input lsd: the voxels differ"):
        train(second(foreign / "output", training__iterations=3), volume, trained.parent.parent, "cpu", "none")


def test_a_look_at_the_data_shows_what_is_read_beside_raw(volume, first, tmp_path):
    config = second(first / "output")
    assert check(config, volume).all_faults == []
    inputs = dry_run(config, volume, "cpu").inputs
    assert inputs["lsd_input"] == inputs["input"]
    assert preview(config, volume, tmp_path / "samples.png", samples=1).stat().st_size
