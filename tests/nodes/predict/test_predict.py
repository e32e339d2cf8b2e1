"""Predict: what a pipeline delivers is to the bit what the network computes on crops that are read by hand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gunpowder as gp
import numpy as np
import pytest
import torch
import zarr
from gunpowder import Array, ArrayKey, ArraySpec, BatchRequest, Coordinate, PipelineRequestError, Roi, build
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp import LeibNet, TensorSpec, build_unet
from scalenet_gp.layers import Concatenate, ConvPass
from scalenet_gp.nodes.predict.predict import Predict
from scalenet_gp.nodes.testing import Field, RampSource
from scalenet_gp.testing import voxel_centers
from tests.nodes.train.two_scales import (
    INPUTS,
    OUTPUTS,
    PREDICTION,
    RAW,
    ROIS,
    Silent,
    fetch,
    fields,
    inputs_of,
    plan_for,
    setup_refusal,
    small_net,
    texture,
)
from tests.scalenet_gp.graph.strategies import requests

COARSE, FINE = PREDICTION["0"], PREDICTION["1"]


def by_hand(net: LeibNet, rois: Mapping[ArrayKey, Roi]) -> dict[ArrayKey, np.ndarray]:
    plan = plan_for(net, rois)
    with torch.no_grad():
        outputs = net.eval()(inputs_of(plan), plan)
    return {OUTPUTS[name]: tensor[0].numpy() for name, tensor in outputs.items()}


def check(source: RampSource, pipeline: gp.Pipeline, net: LeibNet, rois: dict[ArrayKey, Roi]) -> None:
    source.requests.clear()
    batch = fetch(pipeline, rois)
    (upstream,) = source.requests
    plan = plan_for(net, rois)
    assert {key: spec.roi for key, spec in upstream.items()} == {INPUTS[n]: roi for n, roi in plan.inputs.items()}
    assert set(batch.arrays) == set(rois)
    for key, expected in by_hand(net, rois).items():
        assert batch[key].data.dtype == np.float32
        assert batch[key].spec.roi == rois[key]
        np.testing.assert_array_equal(batch[key].data, expected)


SUBSETS = [ROIS, {COARSE: ROIS[COARSE]}, {FINE: ROIS[FINE]}, {FINE: Roi((800, -800), (8, 8))}]


@pytest.mark.parametrize("rois", SUBSETS, ids=["both", "coarse", "fine", "one voxel"])
def test_predictions_are_what_the_network_computes_on_the_planned_crops(rois: dict[ArrayKey, Roi]) -> None:
    net, source = small_net(), RampSource(fields())
    with build(source + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        check(source, pipeline, net, rois)


@settings(max_examples=25)
@given(st.data())
def test_any_outputs_in_any_rois_are_what_the_network_computes(data: st.DataObject) -> None:
    net, source = small_net(), RampSource(fields())
    rois = {OUTPUTS[name]: roi for name, roi in data.draw(requests(net)).items()}
    with build(source + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        check(source, pipeline, net, rois)


def test_three_dimensions_work_alike() -> None:
    raw, prediction = ArrayKey("RAW_3D"), ArrayKey("PREDICTION_3D")
    kernels = [(1, 3, 3), (3, 3, 3)]
    net = build_unet((16, 8, 8), base_nc=2, downsample_factors=[(1, 2, 2)], kernel_sizes=kernels, norm_layer=None)
    roi = Roi((-32, 8, 24), (48, 24, 16))
    plan = net.plan({"output": roi})
    content = texture(voxel_centers(plan.inputs["input"], (16, 8, 8)))
    source = RampSource({raw: Field((16, 8, 8), texture, interpolatable=True)})
    with build(source + Predict(net, {"input": raw}, {"output": prediction})) as pipeline, torch.no_grad():
        batch = fetch(pipeline, {prediction: roi})
        expected = net({"input": torch.from_numpy(content)[None]}, plan)["output"][0].numpy()
    np.testing.assert_array_equal(batch[prediction].data, expected)


def test_a_batch_axis_goes_through() -> None:
    net = small_net()
    plan = plan_for(net, ROIS)
    rois = ROIS | {INPUTS[name]: roi for name, roi in plan.inputs.items()}
    source = RampSource(fields(), Roi((-4096, -4096), (8192, 8192)))
    chain = source + gp.RandomLocation() + gp.Stack(3) + Predict(net, INPUTS, OUTPUTS)
    with build(chain) as pipeline, torch.no_grad():
        batch = fetch(pipeline, rois)
        outputs = net({name: torch.from_numpy(batch[key].data) for name, key in INPUTS.items()}, plan)
    for name, key in OUTPUTS.items():
        assert batch[key].data.shape[0] == 3
        assert not np.array_equal(batch[key].data[0], batch[key].data[1])
        np.testing.assert_array_equal(batch[key].data, outputs[name].numpy())


def test_a_batch_of_one_keeps_its_axis() -> None:
    net = small_net()
    with build(RampSource(fields()) + gp.Stack(1) + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        batch = fetch(pipeline, ROIS)
    for key, expected in by_hand(net, ROIS).items():
        np.testing.assert_array_equal(batch[key].data, expected[None])


def test_blocks_agree_with_the_whole() -> None:
    net = small_net()
    whole = {COARSE: Roi((-64, -64), (128, 160)), FINE: Roi((-48, -56), (104, 88))}
    with build(RampSource(fields()) + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        expected = fetch(pipeline, whole)
        for key, roi in whole.items():
            size = pipeline.spec[key].voxel_size
            blocks = np.full_like(expected[key].data, np.nan)
            edges = [[b, b + 3 * s, b + 4 * s, e] for b, e, s in zip(roi.begin, roi.end, size, strict=True)]
            for corner in itertools.product(*(itertools.pairwise(axis) for axis in edges)):
                block = Roi([b for b, _ in corner], [e - b for b, e in corner])
                part = ((block - roi.begin) / size).to_slices()
                blocks[(slice(None), *part)] = fetch(pipeline, {key: block})[key].data
            np.testing.assert_allclose(blocks, expected[key].data, rtol=0, atol=1e-6)


def test_scan_goes_around_it() -> None:
    net = small_net()
    rois = {COARSE: Roi((0, 0), (96, 96)), FINE: Roi((0, 0), (96, 96))}
    reference = BatchRequest()
    for key in rois:
        reference[key] = Roi((0, 0), (32, 48))
    chain = RampSource(fields()) + Predict(net, INPUTS, OUTPUTS) + gp.Scan(reference, progress_callback=Silent())
    with build(chain) as pipeline:
        batch = fetch(pipeline, rois)
    for key, expected in by_hand(net, rois).items():
        assert batch[key].data.dtype == np.float32
        np.testing.assert_allclose(batch[key].data, expected, rtol=0, atol=1e-6)


def in_bytes() -> dict[ArrayKey, Field]:
    def content(centres: np.ndarray) -> np.ndarray:
        return np.round(255 * texture(centres)).astype(np.uint8)

    return {RAW[name]: Field(fields()[RAW[name]].voxel_size, content, interpolatable=True) for name in RAW}


def test_normalised_bytes_go_in() -> None:
    net = small_net()
    plan = plan_for(net, ROIS)
    chain = RampSource(in_bytes())
    for key in RAW.values():
        chain += gp.Normalize(key)
    with build(chain + Predict(net, INPUTS, OUTPUTS)) as pipeline, torch.no_grad():
        batch = fetch(pipeline, ROIS)
        inputs = {name: torch.round(255 * tensor) / 255 for name, tensor in inputs_of(plan).items()}
        outputs = net(inputs, plan)
    for name, key in OUTPUTS.items():
        np.testing.assert_allclose(batch[key].data, outputs[name][0].numpy(), rtol=0, atol=1e-6)


def test_without_predictions_asked_for_the_network_rests() -> None:
    net, source = small_net(), RampSource(fields())
    passes = []
    net.register_forward_pre_hook(lambda *_: passes.append(1))
    rois = {RAW["1"]: Roi((0, 0), (16, 16))}
    with build(source + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        batch = fetch(pipeline, rois)
        assert not passes
        assert {key: spec.roi for key, spec in source.requests[0].items()} == rois
        np.testing.assert_array_equal(batch[RAW["1"]].data, texture(voxel_centers(rois[RAW["1"]], (8, 8))))
        fetch(pipeline, ROIS)
        assert passes == [1]


@pytest.mark.parametrize("raw", [Roi((-512, -512), (1024, 1024)), Roi((8, 0), (8, 8)), Roi((400, 0), (8, 8))])
def test_raw_data_can_be_had_beside_predictions_in_a_roi_of_its_own(raw: Roi) -> None:
    net = small_net()
    with build(RampSource(fields()) + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        batch = fetch(pipeline, ROIS | {RAW["1"]: raw})
    np.testing.assert_array_equal(batch[RAW["1"]].data, texture(voxel_centers(raw, (8, 8))))
    for key, expected in by_hand(net, ROIS).items():
        np.testing.assert_array_equal(batch[key].data, expected)


def test_placeholders_are_not_predicted() -> None:
    net, source = small_net(), RampSource(fields())
    request = BatchRequest(random_seed=1)
    request[FINE] = ArraySpec(roi=ROIS[FINE])
    request[COARSE] = ArraySpec(roi=Roi((-1600, 0), (3200, 160)), placeholder=True)
    with build(source + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        batch = pipeline.request_batch(request)
    plan = plan_for(net, {FINE: ROIS[FINE]})
    assert {k: spec.roi for k, spec in source.requests[0].items()} == {INPUTS[n]: r for n, r in plan.inputs.items()}
    np.testing.assert_array_equal(batch[FINE].data, by_hand(net, {FINE: ROIS[FINE]})[FINE])


def twin_net() -> LeibNet:
    """Two inputs of one voxel size, of which one is needed further around."""
    torch.manual_seed(0)
    nodes = [
        ConvPass(["a"], ["wide"], 1, 1, [(5, 5)]),
        ConvPass(["b"], ["narrow"], 1, 1, [(3, 3)]),
        Concatenate(["wide", "narrow"], ["joined"]),
        ConvPass(["joined"], ["out"], 2, 1, [(1, 1)]),
    ]
    return LeibNet(nodes, {"a": TensorSpec((8, 8), 1), "b": TensorSpec((8, 8), 1)}, ["out"], name="Twin")


def test_one_array_may_feed_two_inputs() -> None:
    net, roi = twin_net(), Roi((16, -8), (40, 32))
    plan = net.plan({"out": roi})
    assert plan.inputs["a"] != plan.inputs["b"]
    with build(RampSource(fields()) + Predict(net, {"a": RAW["1"], "b": RAW["1"]}, {"out": FINE})) as pipeline:
        batch = fetch(pipeline, {FINE: roi})
    inputs = {n: torch.from_numpy(texture(voxel_centers(r, (8, 8))))[None] for n, r in plan.inputs.items()}
    with torch.no_grad():
        np.testing.assert_array_equal(batch[FINE].data, net(inputs, plan)["out"][0].numpy())


def test_it_predicts_in_evaluation_mode_whatever_others_do_with_the_network() -> None:
    net = small_net(norm_layer="batch", dropout_prob=0.5)
    state = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with build(RampSource(fields()) + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        net.train()
        batch = fetch(pipeline, ROIS)
    for key, expected in by_hand(net, ROIS).items():
        np.testing.assert_array_equal(batch[key].data, expected)
    assert all(torch.equal(state[key], tensor) for key, tensor in net.state_dict().items())


class ReadOnly(RampSource):
    def provide(self, request: BatchRequest) -> gp.Batch:
        batch = super().provide(request)
        for array in batch.arrays.values():
            array.data.flags.writeable = False
        return batch


def test_arrays_that_must_not_be_written_to_are_taken() -> None:
    net = small_net()
    with build(ReadOnly(fields()) + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        np.testing.assert_array_equal(fetch(pipeline, ROIS)[FINE].data, by_hand(net, ROIS)[FINE])


# Refusals


def test_bytes_that_nobody_normalised_are_refused() -> None:
    message = "array RAW_COARSE for '0_input' is uint8; a network takes floats, so put gunpowder's Normalize before it"
    with (
        build(RampSource(in_bytes()) + Predict(small_net(), INPUTS, OUTPUTS)) as pipeline,
        pytest.raises(PipelineRequestError, match=message),
    ):
        fetch(pipeline, ROIS)


@pytest.mark.parametrize("axes", [0, 3])
def test_axes_that_cannot_be_told_apart_are_refused(axes: int) -> None:
    def content(centres: np.ndarray) -> np.ndarray:
        return texture(centres)[(0,) if axes == 0 else (None,) * (axes - 1)]

    source = RampSource({key: Field(f.voxel_size, content, True) for key, f in fields().items() if key in RAW.values()})
    shape = r"\((1, 1, 1, )?\d+, \d+\)"
    message = rf"array RAW_COARSE has shape {shape}, but has to be \(batch, channel, 2 spatial axes\) or"
    with (
        build(source + Predict(small_net(), INPUTS, OUTPUTS)) as pipeline,
        pytest.raises(PipelineRequestError, match=message),
    ):
        fetch(pipeline, ROIS)


def test_wrong_channels_are_refused() -> None:
    def content(centres: np.ndarray) -> np.ndarray:
        return np.repeat(texture(centres), 2, axis=0)

    source = RampSource(fields() | {RAW["1"]: Field((8, 8), content, True)})
    with (
        build(source + Predict(small_net(), INPUTS, OUTPUTS)) as pipeline,
        pytest.raises(PipelineRequestError, match=r"'1_input' has shape \(1, 2, .* of 1 channels"),
    ):
        fetch(pipeline, ROIS)


# the second begins off the lattice, which gunpowder itself does not see; the first has half a voxel
@pytest.mark.parametrize("roi", [Roi((0, 0), (16, 20)), Roi((0, 4), (16, 16))])
def test_a_roi_off_its_lattice_is_refused(roi: Roi) -> None:
    with (
        build(RampSource(fields()) + Predict(small_net(), INPUTS, OUTPUTS)) as pipeline,
        pytest.raises(
            PipelineRequestError, match=r"off the lattice, whose voxels are|is not a multiple of voxel_size 8"
        ),
    ):
        fetch(pipeline, {FINE: roi})


def test_a_roi_off_its_lattice_is_told_what_would_be_on_it() -> None:
    near = r"\[0:16, 0:24\] \(16, 24\) around it or \[0:16, 8:16\] \(16, 8\) inside it"
    with (
        build(RampSource(fields()) + Predict(small_net(), INPUTS, OUTPUTS)) as pipeline,
        pytest.raises(PipelineRequestError, match=rf"'1_output': the ROI .* is off the lattice.* {near}"),
    ):
        fetch(pipeline, {FINE: Roi((0, 4), (16, 16))})


def refused_fields(key: ArrayKey, voxel_size: tuple[int, ...] | None) -> dict[ArrayKey, Field]:
    kept = {k: f for k, f in fields().items() if k != key}
    return kept if voxel_size is None else kept | {key: Field(voxel_size, texture, interpolatable=True)}


@pytest.mark.parametrize(
    ("voxel_size", "message"),
    [
        (None, "ScaleNet reads '1_input' from RAW_FINE, which no node upstream provides"),
        (
            (8, 4),
            r"'1_input' of ScaleNet has voxels of \(8, 8\) world units \(of 1 nm\), array RAW_FINE .* has \(8, 4\)",
        ),
        ((8, 8, 8), "'1_input' of ScaleNet has 2 spatial axes, array RAW_FINE upstream has 3"),
    ],
    ids=["absent", "voxel size", "dimensions"],
)
def test_data_that_do_not_fit_are_refused_before_any_is_read(voxel_size: tuple[int, ...] | None, message: str) -> None:
    source = RampSource(refused_fields(RAW["1"], voxel_size))
    with setup_refusal(message), build(source + Predict(small_net(), INPUTS, OUTPUTS)):
        pass
    assert not source.requests


def test_swapped_scales_are_refused() -> None:
    swapped = {"0_input": RAW["1"], "1_input": RAW["0"]}
    refusal = setup_refusal(r"'0_input' of ScaleNet has voxels of \(16, 16\)")
    with refusal, build(RampSource(fields()) + Predict(small_net(), swapped, OUTPUTS)):
        pass


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown input": ({"inputs": {**INPUTS, "2_input": RAW["1"]}}, r"no input \['2_input'\]; it has 0_input, 1_input"),
    "missing input": ({"inputs": {"0_input": RAW["0"]}}, r"no array is given for \['1_input'\]"),
    "unknown output": ({"outputs": {"output": FINE}}, r"no output \['output'\]; it has 0_output, 1_output"),
    "no output": ({"outputs": {}}, "at least one output of 0_output, 1_output"),
    "one array twice": (
        {"outputs": dict.fromkeys(OUTPUTS, FINE)},
        "'0_output': PREDICTION_FINE, '1_output': PREDICTION",
    ),
    "absent device": ({"device": "cuda:99"}, "'cuda:99' was asked for by name and is not here"),
}


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predict(small_net(), **({"inputs": INPUTS, "outputs": OUTPUTS} | arguments))


def test_outputs_that_nobody_wants_need_no_array() -> None:
    net, rois = small_net(), {FINE: ROIS[FINE]}
    with build(RampSource(fields()) + Predict(net, INPUTS, {"1_output": FINE})) as pipeline:
        np.testing.assert_array_equal(fetch(pipeline, rois)[FINE].data, by_hand(net, rois)[FINE])
        assert COARSE not in pipeline.spec
        assert pipeline.spec[FINE].voxel_size == Coordinate(8, 8)


def test_what_is_delivered_is_an_array_of_its_own() -> None:
    net = small_net()
    with build(RampSource(fields()) + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        first = fetch(pipeline, ROIS)[FINE]
        kept = first.data.copy()
        first.data[:] = -1
        again = fetch(pipeline, ROIS)[FINE]
    assert isinstance(again, Array)
    np.testing.assert_array_equal(again.data, kept)


BOUNDS = Roi((-72, 40), (600, 552))


def test_it_announces_all_that_can_be_computed_and_no_more() -> None:
    net = small_net()
    with build(RampSource(fields(), BOUNDS) + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        for name, key in OUTPUTS.items():
            size, announced = net.voxel_size[name], pipeline.spec[key].roi
            offered = {read: pipeline.spec[array].roi for read, array in INPUTS.items()}
            # the slow obvious twin: every voxel of a line along each axis by itself
            for axis in (0, 1):
                voxels = []
                for place in range(BOUNDS.begin[axis] // size[axis] * size[axis], BOUNDS.end[axis], size[axis]):
                    corner = list(announced.begin)
                    corner[axis] = place
                    voxels.append(Roi(corner, size))
                read = [net.plan({name: voxel}).inputs for voxel in voxels]
                fits = [all(offered[key].contains(roi) for key, roi in rois.items()) for rois in read]
                assert 0 < sum(fits) < len(voxels)
                assert fits == [announced.contains(voxel) for voxel in voxels]
            assert fetch(pipeline, {key: announced})[key].spec.roi == announced
    with build(RampSource(fields()) + Predict(net, INPUTS, OUTPUTS)) as pipeline:
        assert pipeline.spec[FINE].roi is None
    too_small = RampSource(fields(), Roi((0, 0), (64, 64)))
    with setup_refusal("no voxel of '0_output' can be computed"):
        build(too_small + Predict(net, INPUTS, OUTPUTS)).__enter__()


def test_gunpowder_scans_all_of_it_into_a_dataset_that_nobody_prepared(tmp_path: Path) -> None:
    net = small_net()
    reference = BatchRequest({FINE: ArraySpec(Roi((0, 0), (32, 48)))})
    chain = RampSource(fields(), BOUNDS) + Predict(net, INPUTS, OUTPUTS)
    chain += gp.ZarrWrite({FINE: "fine"}, store=str(tmp_path / "out.zarr"))
    with build(chain + gp.Scan(reference, progress_callback=Silent())) as pipeline:
        announced = pipeline.spec[FINE].roi
        pipeline.request_batch(BatchRequest())
    written = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")["fine"]
    assert tuple(written.attrs["offset"]) == tuple(announced.begin)
    assert tuple(written.attrs["resolution"]) == tuple(net.voxel_size["1_output"])
    np.testing.assert_allclose(written[:], by_hand(net, {FINE: announced})[FINE], rtol=0, atol=1e-6)
