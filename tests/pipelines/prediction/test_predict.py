"""The prediction job: whatever the blocks, one result, in its exact place; or none at all."""

import json
from importlib.metadata import version

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp.pipelines.blockwise import tiles
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.pipelines.prediction.job import PredictionJob
from scalenet_gp.training.checkpoint import load_network, save_checkpoint
from scalenet_gp.volumes.storage import group_attributes, open_array
from tests.pipelines.conftest import (
    CLASSES,
    CORNER,
    CPU,
    EVALUATED,
    OUTPUTS,
    VOXEL,
    files_below,
    options_with,
    tiny_config,
    tissue,
    write_array,
)

PART = Region(begin=(27, 54, 54), end=(81, 126, 126))


@pytest.fixture(scope="module")
def checkpoint(trained):
    return trained / "checkpoints" / "checkpoint_4.safetensors"


def voxels(prediction, name):
    return open_array(prediction / name / "s0")[:]


@given(st.data())
def test_blocks_tile_a_region(data):
    edges = data.draw(
        st.lists(st.tuples(st.integers(-20, 20), st.integers(1, 12), st.integers(1, 9)), min_size=2, max_size=3)
    )
    begin, shape, block = (Coordinate(values) for values in zip(*edges, strict=True))
    roi = Roi(begin, shape)
    counts = np.zeros(shape, int)
    for tile in tiles(roi, block):
        assert roi.contains(tile)
        assert all(t <= b for t, b in zip(tile.shape, block, strict=True))
        counts[(tile - begin).to_slices()] += 1
    assert (counts == 1).all()


def test_the_result_lies_where_the_region_is(predicted):
    """Translations name voxel centres: that of the first voxel, to the bit."""
    assert sorted(path.name for path in predicted.iterdir() if path.is_dir()) == sorted(OUTPUTS)
    for name, factor in OUTPUTS.items():
        attributes = json.loads((predicted / name / ".zattrs").read_text())
        scale, translation = attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [1.0] + [VOXEL * factor] * 3}
        first = [CORNER + VOXEL * begin + VOXEL * factor / 2 for begin, _ in EVALUATED]
        assert translation == {"type": "translation", "translation": [0.0, *first]}
        assert [channel["label"] for channel in attributes["omero"]["channels"]] == list(CLASSES)
        array = open_array(predicted / name / "s0")
        assert array.shape == (2, *((end - begin) // factor for begin, end in EVALUATED))
        assert array.dtype == np.float32


def test_the_group_says_where_it_comes_from(volume, predicted, checkpoint):
    attributes, network = group_attributes(predicted), load_network(checkpoint).fingerprint
    assert attributes["channels"] == {name: list(CLASSES) for name in ("0_output", "1_output")}
    assert attributes["checkpoint"] == "checkpoint_4.safetensors"
    assert attributes["network"] == network
    assert attributes["versions"]["torch"] == version("torch")
    job = PredictionJob.model_validate(attributes["job"])
    source = {"raw": f"{volume}/em/raw", "labels": f"{volume}/labels/crop"}
    expected = tiny_config(data__sources=[source], prediction__outputs=list(OUTPUTS))
    assert job.config.model_dump(exclude={"learned_from"}) == expected.model_dump(exclude={"learned_from"})
    assert [one.raw for one in job.config.learned_from] == [job.raw]
    assert job.region == Region(begin=[VOXEL * b for b, _ in EVALUATED], end=[VOXEL * e for _, e in EVALUATED])
    for name in OUTPUTS:
        assert group_attributes(predicted / name)["network"] == network


@pytest.mark.parametrize("block", [(18, 27, 36), (108, 180, 180)])
def test_blocks_make_no_difference(volume, checkpoint, predicted, tmp_path, block):
    """The rounding of floats differs with the shape of the tensors that torch convolves; nothing else does."""
    again = predict(tiny_config(prediction__block_shape=block), volume, checkpoint, tmp_path / "new" / "again.zarr")
    for name in OUTPUTS:
        np.testing.assert_allclose(voxels(again, name), voxels(predicted, name), rtol=1e-5, atol=1e-6)
    assert [path.name for path in again.parent.iterdir()] == ["again.zarr"]


def test_the_network_sees_the_raw_data_of_that_place(volume, checkpoint, tmp_path):
    """The oracle: numpy cuts the inputs out of the raw levels, mirrored at their faces, for the network alone."""
    net = load_network(checkpoint)
    checkpoint = save_checkpoint(tmp_path, net, {"iteration": 1})
    prediction = predict(
        tiny_config(data__intensities=(51, 204)), volume, checkpoint, tmp_path / "out.zarr", region=PART
    )
    begin, end = ([int(2 * edge) for edge in edges] for edges in (PART.begin, PART.end))  # half nanometres
    roi = Roi(begin, Coordinate(end) - Coordinate(begin))
    plan = net.plan(dict.fromkeys(net.output_keys, roi))
    inputs = {}
    for key, level in (("0_input", "s1"), ("1_input", "s0")):
        mirrored = np.pad(open_array(volume / "em" / "raw" / level)[:] / np.float32(255), 8, mode="symmetric")
        mirrored = (mirrored - 0.2) / 0.3 - 1  # from 0.2 and 0.8 to -1 and 1
        box = (plan.inputs[key] / net.voxel_size[key] + 8).to_slices()
        inputs[key] = torch.from_numpy(mirrored[box])[None, None]
    with torch.inference_mode():
        outputs = net(inputs, plan)
    for name in OUTPUTS:
        np.testing.assert_allclose(voxels(prediction, name), outputs[name][0].numpy(), rtol=1e-5, atol=1e-6)


def test_a_volume_without_labels_can_be_predicted(checkpoint, predicted, tmp_path):
    raw, _ = tissue()
    write_array(tmp_path / "volume" / "em" / "raw", raw, levels=3)
    region = Region(begin=[VOXEL * begin for begin, _ in EVALUATED], end=[VOXEL * end for _, end in EVALUATED])
    again = predict(tiny_config(), tmp_path / "volume", checkpoint, tmp_path / "out.zarr", region=region)
    for name in OUTPUTS:
        np.testing.assert_array_equal(voxels(again, name), voxels(predicted, name))


@pytest.mark.parametrize(
    "region", [Region(begin=(-18, 0, 0), end=(18, 18, 18)), Region(begin=(0,) * 3, end=(18, 18, 198))]
)
def test_a_region_beyond_the_volume_is_refused(volume, checkpoint, tmp_path, region):
    with pytest.raises(
        ValueError, match=r"region .* reaches beyond the volume .*raw, which is \[0, 0, 0\] to \[108, 180, 180\] nm"
    ):
        predict(tiny_config(), volume, checkpoint, tmp_path / "out" / "out.zarr", region=region)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("there", ["file", "folder"])
def test_an_output_that_exists_is_refused(volume, checkpoint, tmp_path, there):
    output = tmp_path / "out.zarr"
    output.touch() if there == "file" else output.mkdir()
    with pytest.raises(FileExistsError, match=r"out\.zarr exists; choose another output"):
        predict(tiny_config(), volume, checkpoint, output)
    assert files_below(tmp_path) == ["out.zarr"]


def test_a_checkpoint_of_another_network_is_refused(volume, checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"checkpoint_4\.safetensors is a checkpoint of another network"):
        predict(tiny_config(network__subnets__0__base_nc=3), volume, checkpoint, tmp_path / "out" / "out.zarr")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data__sources__0__raw": "em/other"}, FileNotFoundError, "em/other: no such multiscale group"),
        (
            {"prediction__block_shape": [36, 54, 40]},
            ValueError,
            "block_shape 36 × 54 × 40 nm .* multiple of 9 × 9 × 9 nm",
        ),
        ({"evaluation__region": {"begin": [0, 0], "end": [9, 9]}}, ValueError, "has 2 axes, the volume 3"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(volume, checkpoint, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        predict(tiny_config(**changes), volume, checkpoint, tmp_path / "out" / "out.zarr")
    assert files_below(tmp_path) == []


def test_a_network_of_other_voxel_sizes_than_the_levels_can_give_is_refused(volume, tmp_path):
    config = tiny_config(
        network__subnets__0__top_resolution=[10] * 3,
        network__subnets__1__top_resolution=[5] * 3,
        prediction__block_shape=[10, 10, 10],
    )
    net = config.build_network()
    path = save_checkpoint(tmp_path, net, {"iteration": 1})
    with pytest.raises(ValueError, match=r"raw: no level can give voxels of 10 × 10 × 10 nm"):
        predict(config, volume, path, tmp_path / "out.zarr", region=Region(begin=(0, 0, 0), end=(10, 10, 10)))
    assert files_below(tmp_path) == ["checkpoint_1.safetensors"]


@pytest.mark.parametrize(
    "changes", [{"data__classes": CLASSES[::-1]}, {"data__intensities": [51, 204]}, {"data__padding": "constant"}]
)
def test_what_the_network_learned_has_to_stay(volume, checkpoint, tmp_path, changes):
    with pytest.raises(ValueError, match=r"checkpoint_4\.safetensors was trained with \{.*\}, the config has \{.*\}"):
        predict(tiny_config(**changes), volume, checkpoint, tmp_path / "out", workers=CPU)
    assert not any(tmp_path.iterdir())


def test_a_network_that_does_not_tile_is_predicted_in_one_block_where_that_is_enough(volume, tmp_path):
    config = tiny_config(network__subnets__0__norm_layer="instance")
    net = config.build_network()
    checkpoint = save_checkpoint(tmp_path, net, {"iteration": 1})
    whole = config.model_copy(update={"prediction": options_with(config, block_shape=[1800] * 3)})
    output = predict(whole, volume, checkpoint, tmp_path / "out", workers=CPU)
    assert "blending" not in group_attributes(output)
