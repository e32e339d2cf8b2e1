"""The nodes that derive targets, one after the other in the chain that they are made for."""

import numpy as np
import pytest
from gunpowder import (
    ArrayKey,
    ArraySpec,
    BatchRequest,
    Coordinate,
    MergeProvider,
    PipelineSetupError,
    Roi,
    Stack,
    build,
)

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.sources.multiscale_source import MultiscaleSource
from scalenet_gp.nodes.targets.affinities import Affinities
from scalenet_gp.nodes.targets.boundary_distance import BoundaryDistance
from scalenet_gp.nodes.targets.class_targets import ClassTargets
from scalenet_gp.nodes.targets.class_weights import ClassWeights
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from tests.nodes.targets.derived_arrays import Held
from tests.scalenet_gp.volumes.ome_zarr_files import write_multiscale

KEYS = {
    scale: {name: ArrayKey(f"{name}_{scale}") for name in ("L", "LM", "T", "TM", "D", "DM", "A", "AM", "W")}
    for scale in ("FINE", "COARSE")
}
SIZES = {"FINE": Coordinate(8, 8), "COARSE": Coordinate(16, 16)}
OFFSETS = [(-1, 0), (0, -1), (-2, 3)]


@pytest.fixture
def labels(tmp_path):
    """Instances with identifiers beyond 32 bits, 24 x 24 voxels of 8 nm that begin at 160 nm."""
    data = np.random.default_rng(0).integers(0, 3, (4, 4)).astype(np.uint64) << np.uint64(33)
    data = data.repeat(6, 0).repeat(6, 1)
    return MultiscaleImage.open(write_multiscale(tmp_path / "cells", [data], [(8.0, 8.0)], [(164.0, 164.0)], axes="yx"))


def chain(labels):
    by = {name: {scale: KEYS[scale][name] for scale in SIZES} for name in KEYS["FINE"]}
    instances = MultiscaleSource(
        labels,
        {by["L"][scale]: size for scale, size in SIZES.items()},
        labels=True,
        padding="constant",
        masks={by["L"][scale]: by["LM"][scale] for scale in SIZES},
    )
    targets = ClassTargets(
        {"cell": labels},
        {by["T"][scale]: size for scale, size in SIZES.items()},
        {by["T"][scale]: by["TM"][scale] for scale in SIZES},
        World(),
    )
    nodes = (instances, targets) + MergeProvider()
    for key in KEYS.values():
        nodes += BoundaryDistance(key["T"], key["D"], 40, world=World(), mask=key["TM"], distance_mask=key["DM"])
        nodes += Affinities(key["L"], key["A"], OFFSETS, mask=key["LM"], affinities_mask=key["AM"])
        nodes += ClassWeights(key["T"], key["W"], mask=key["TM"])
    return nodes


def test_all_targets_of_all_scales_come_in_one_batch(labels):
    roi = Roi((128, 144), (192, 208))  # reaches out of the annotation on two sides
    request = BatchRequest()
    for key in KEYS.values():
        for name in ("D", "DM", "A", "AM", "W"):
            request[key[name]] = ArraySpec(roi=roi)
    with build(chain(labels) + Stack(2)) as pipeline:
        batch = pipeline.request_batch(request)
    for scale, size in SIZES.items():
        shape = roi.shape // size
        data = {name: batch[KEYS[scale][name]].data for name in ("D", "DM", "A", "AM", "W")}
        for name, channels in (("D", 1), ("DM", 1), ("A", 3), ("AM", 3), ("W", 1)):
            assert data[name].shape == (2, channels, *shape)
        inside = np.zeros(shape, bool)
        inside[tuple(slice(b, None) for b in (Coordinate(160, 160) - roi.begin) // size)] = True
        for edge, offset in enumerate(OFFSETS):
            for voxel in np.ndindex(inside.shape):
                # beyond the request, the annotation goes on to 352 nm
                place = roi.begin + size * (Coordinate(voxel) + Coordinate(offset))
                other = all(160 <= p < 352 for p in place)
                assert data["AM"][(0, edge, *voxel)] == (inside[voxel] and other)
        assert not data["W"][0, 0][~inside].any()
        assert (data["W"][0, 0][inside] > 0).all()
        assert not data["DM"][0, 0][~inside].any()
        assert data["DM"][0, 0].any()
        assert (np.abs(data["D"]) <= 40).all()


def test_the_scales_agree_where_the_coarse_voxels_are_uniform(labels):
    roi = Roi((160, 160), (192, 192))
    request = BatchRequest()
    for key in KEYS.values():
        request[key["D"]] = request[key["DM"]] = ArraySpec(roi=roi)
    with build(chain(labels)) as pipeline:
        batch = pipeline.request_batch(request)
    fine, coarse = (batch[KEYS[scale]["D"]].data[0] for scale in SIZES)
    sure = batch[KEYS["FINE"]["DM"]].data[0].reshape(12, 2, 12, 2).all((1, 3)) & (
        batch[KEYS["COARSE"]["DM"]].data[0] > 0
    )
    mean = fine.reshape(12, 2, 12, 2).mean((1, 3))
    assert sure.mean() > 0.3
    # cells of 48 nm are whole voxels at both scales, and a distance changes by no more than the place it is taken at
    difference = np.abs(mean - coarse)[sure]
    assert difference.max() <= np.hypot(4, 4)
    assert difference.mean() < 1


def test_the_shorter_of_target_and_mask_bounds_what_is_derived():
    target, mask, weights = (KEYS["FINE"][name] for name in ("T", "TM", "W"))
    sources = (
        Held({target: np.zeros((1, 9, 9), np.uint8)}, (8, 8), unbounded=True),
        Held({mask: np.ones((1, 4, 5), np.uint8)}, (8, 8), (16, 0)),
    )
    with build(sources + MergeProvider() + ClassWeights(target, weights, mask=mask)) as pipeline:
        assert pipeline.spec[weights].roi == Roi((16, 0), (32, 40))


def test_target_and_mask_have_one_voxel_size():
    target, mask, weights = (KEYS["FINE"][name] for name in ("T", "TM", "W"))
    sources = (
        Held({target: np.zeros((1, 8, 8), np.uint8)}, (8, 8)),
        Held({mask: np.ones((1, 4, 4), np.uint8)}, (16, 16)),
    )
    pipeline = sources + MergeProvider() + ClassWeights(target, weights, mask=mask)
    with pytest.raises(PipelineSetupError) as error, build(pipeline):
        pass
    assert "different voxel sizes: {'T_FINE': (8, 8), 'TM_FINE': (16, 16)}" in str(error.value.__cause__)


def test_a_source_that_ends_within_the_margin_is_refused_when_the_pipeline_is_built():
    labels, mask, weights, affinities = (KEYS["FINE"][name] for name in ("L", "LM", "W", "A"))
    small = Held({labels: np.zeros((6, 9), np.uint8)}, (8, 8), (80, 0))
    with build(small + Affinities(labels, affinities, [(-2, 0), (3, -1)])) as pipeline:
        assert pipeline.spec[affinities].roi == Roi((96, 8), (8, 64))  # one row of voxels is left
    elsewhere = Held({mask: np.zeros((6, 9), np.uint8)}, (8, 8), (400, 0))
    for chain, message in (
        (small + Affinities(labels, affinities, [(-3, 0), (3, 0)]), r"L_FINE end with [80:128, 0:72]"),
        ((small, elsewhere) + MergeProvider() + ClassWeights(labels, weights, mask=mask), "L_FINE and LM_FINE end"),
    ):
        with pytest.raises(PipelineSetupError) as error, build(chain):
            pass
        assert message in str(error.value.__cause__)
        assert "a source with padding and a mask" in str(error.value.__cause__)
