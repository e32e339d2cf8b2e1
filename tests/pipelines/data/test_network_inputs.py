"""Volumes that a network reads beside raw data: their place, their values, and what of them is refused."""

import gunpowder as gp
import numpy as np
import pytest
import torch

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.pipelines.config import LearnedInput, LearnedVolume
from scalenet_gp.pipelines.data import Dataset, Datasets, check_inputs, resolve_sources, sample_chain, survey
from scalenet_gp.volumes import MultiscaleImage, VolumeFingerprint
from tests.pipelines.conftest import SHAPE, TINY, scalenet, tiny_config, write_array, write_volume

COARSE, FINE = TINY["network"]["subnets"]
NETWORK = scalenet({**COARSE, "input_nc": 0, "inputs": {"ramp": 1}}, FINE)
"""The coarse scale reads the further volume alone, the fine one raw data alone."""


def with_ramp(**source):
    return {"raw": "em/raw", "labels": "labels/crop", "inputs": {"ramp": "ramp"}, **source}


def ramp():
    """The position along x of each voxel's centre, of the length of the volume."""
    along = (np.arange(SHAPE[2], dtype=np.float32) + 0.5) / SHAPE[2]
    return np.broadcast_to(along, SHAPE).copy()


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """Raw data and the further volume are the same ramp, the latter with channels."""
    path = write_volume(tmp_path_factory.mktemp("inputs") / "volume.zarr")
    write_array(path / "fine", ramp(), levels=3)
    write_array(path / "ramp", ramp()[None], levels=3, channels=["x"])
    return path


def test_what_is_read_beside_raw_lies_on_it_through_every_deformation(volume):
    """To half a nanometre, between 9 and 4.5 nm voxels, rotated, mirrored and displaced."""
    source = with_ramp(raw="fine")
    changes = {"augmentation": TINY["augmentation"][:1], "training__overhang": None}  # away from the faces
    config = tiny_config(network=NETWORK, data__sources=[source], **changes)
    net = config.build_network()
    dataset = Dataset.open(volume, config, net)
    arrays = dataset.arrays
    request = dict(arrays.request(net.plan(dataset.boxes(config.training.output_shape))).array_specs)
    apart, turned = 0.0, set()
    with build_chain(sample_chain(config, dataset)) as pipeline:
        for seed in range(6):
            batch = pipeline.request_batch(gp.BatchRequest(request, random_seed=seed))
            box = batch[arrays.targets["1_output"]].spec.roi.snap_to_grid(net.voxel_size["0_ramp_input"], mode="shrink")
            coarse, fine = (batch[arrays.inputs[name]].crop(box).data[0] for name in ("0_ramp_input", "1_input"))
            z, y, x = coarse.shape
            fine = fine.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5))
            # raw data are seen from -1 to 1, quantities as they are; both are a ramp of 180 nm
            apart = max(apart, float(np.abs(coarse - (fine + 1) / 2).max()) * 180)
            turned.add(bool(coarse[0, 0, 0] < coarse[0, 0, -1]))
    assert apart < 0.5
    assert turned == {True, False}


@pytest.mark.parametrize(
    ("stored", "kind"),
    [("uint8", "fractions"), ("float16", "fractions"), ("float32", "fractions"), ("float32", "quantities")],
)
def test_the_network_sees_the_same_values_however_they_are_stored(volume, stored, kind, tmp_path):
    values = ramp()[None] * (2 if kind == "quantities" else 1) - (kind == "quantities")
    data = np.round(values * 255).astype(np.uint8) if stored == "uint8" else values.astype(stored)
    write_array(tmp_path / "ramp", data, levels=3, channels=["x"])
    attributes = tmp_path / "ramp" / ".zattrs"
    scale = 1 / 255 if stored == "uint8" else 1.0
    text = attributes.read_text().rstrip().removesuffix("}")
    attributes.write_text(f'{text}, "scalenet_gp": {{"values": {{"kind": "{kind}", "scale": {scale}}}}}}}')
    config = tiny_config(network=NETWORK, data__sources=[with_ramp(inputs={"ramp": str(tmp_path / "ramp")})])
    dataset = Dataset.open(volume, config, config.build_network())
    key = gp.ArrayKey("RAMP")
    (seen,) = (
        one
        for one in dataset.inputs.all({"0_ramp_input": key, "1_input": gp.ArrayKey("OF_RAW")})
        if key in one.voxel_sizes
    )
    roi = dataset.inputs.volumes["ramp"].image.roi(dataset.net.voxel_size["0_ramp_input"], dataset.world)
    read = {}
    for name, chain in (("stored", gp.Pipeline(seen.stored())), ("seen", seen.scaled(seen.fractions(of_type=True)))):
        with build_chain(chain) as pipeline:
            read[name] = pipeline.request_batch(gp.BatchRequest({key: gp.ArraySpec(roi=roi)}))[key].data
    expected = 2 * ramp().reshape(12, 2, 20, 2, 20, 2).mean(axis=(1, 3, 5)) - 1
    np.testing.assert_allclose(read["seen"][0], expected, atol=2 / 255 if stored == "uint8" else 2e-3)
    shown = dataset.inputs.windows["0_ramp_input"].apply(torch.from_numpy(read["stored"]))
    np.testing.assert_array_equal(shown.numpy(), read["seen"])  # in prediction as in training, to the bit


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ({"inputs": {}}, r"data\.sources\.0\.inputs has no 'ramp', which network\.inputs reads"),
        ({"inputs": {"ramp": "ramp", "lsd": "ramp"}}, r"sources\.0\.inputs has 'lsd', which the network does not read"),
    ],
)
def test_inputs_of_sources_and_of_the_network_have_the_same_names(source, fault):
    with pytest.raises(ValueError, match=fault):
        tiny_config(network=NETWORK, data__sources=[with_ramp(**source)])
    with pytest.raises(
        ValueError, match=r"sources\.0\.inputs has no 'ramp', .*; write each crop as a source of its own"
    ):
        tiny_config(network=NETWORK, data__sources=[{"datasplit": "split.csv"}])


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("labels/crop/bright", "holds labels, which a network cannot read"),
        ("away", r"inputs\.ramp: .*0\.3.* voxel|inputs\.ramp: .*lattice"),
        ("half", r"half covers \[0, 0, 0\] to \[108, 180, 90\] nm from the raw volume's corner, and training reads \["),
        ("coarse", r"inputs\.ramp: .*coarse"),
    ],
)
def test_a_volume_that_does_not_fit_is_a_fault_of_its_field(volume, path, fault, tmp_path):
    write_array(tmp_path / "away", ramp()[None], first=(0, 0, 0.25), channels=["x"])
    write_array(tmp_path / "half", ramp()[None, ..., :20], channels=["x"])
    write_array(tmp_path / "coarse", ramp()[None, ::4, ::4, ::4], voxel=18, channels=["x"])
    where = volume / path if path.startswith("labels") else tmp_path / path
    config = tiny_config(network=NETWORK, data__sources=[with_ramp(inputs={"ramp": str(where)})])
    (found,) = survey(Datasets.find(volume, config, config.build_network())).sources
    (error,) = found.errors
    assert str(error).startswith("data.sources.0")
    with pytest.raises(type(error), match=fault):
        raise error


def test_wildcards_of_inputs_stand_for_those_of_the_labels(volume, tmp_path):
    for name in ("a/em/raw", "b/em/raw", "a/labels/crop", "b/labels/crop", "a_first", "b_first"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / ".zgroup").write_text('{"zarr_format": 2}')
    source = with_ramp(raw="*/em/raw", labels="*/labels/crop", inputs={"ramp": "*_first"}, use="train")
    config = tiny_config(network=NETWORK, data__sources=[source], training__region=None, evaluation__region=None)
    found = [one.config.inputs["ramp"] for one in resolve_sources(config.data, tmp_path)]
    assert found == [f"{tmp_path}/a_first", f"{tmp_path}/b_first"]
    (tmp_path / "b_first").rename(tmp_path / "c_first")
    with pytest.raises(ConfigError, match=r"inputs\.ramp: the labels .*b/labels/crop go with the volume .*b_first"):
        resolve_sources(config.data, tmp_path)


def test_predictions_of_any_network_that_was_learned_from_are_accepted(volume):
    """Several folds, for example, each predicted by the network that did not learn from it."""
    config = tiny_config(network=NETWORK, data__sources=[with_ramp()])
    dataset = Dataset.open(volume, config, config.build_network())
    raw = VolumeFingerprint.of(MultiscaleImage.open(volume / "em" / "raw"))
    folds = [
        LearnedInput(name="ramp", volume=raw, channels=("x",), output="output", networks=(name,))
        for name in ("a1", "b2")
    ]
    for one in folds:
        check_inputs(dataset, LearnedVolume(raw=raw, inputs=(one,)), folds, "net")
    check_inputs(dataset, LearnedVolume(raw=raw, inputs=(folds[0],)), (), "net")
    for changes, fault in (
        ({"networks": ("c3",)}, "is the output output of the networks c3, and net has learned from"),
        ({"output": "other"}, "is the output other of the networks a1, and"),
        ({"networks": (), "output": None}, "is not a prediction of a known network, and"),
        ({"channels": ("y",)}, "holds y, and net has learned from x"),
    ):
        record = LearnedVolume(raw=raw, inputs=(folds[0].model_copy(update=changes),))
        with pytest.raises(ConfigError, match=fault):
            check_inputs(dataset, record, folds, "net")
