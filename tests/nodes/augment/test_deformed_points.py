"""Points and graphs through a deformation: the inverse of the map, and where arrays show the same content."""

import gunpowder as gp
import numpy as np
import pytest
from gunpowder import ArrayKey, ArraySpec, Batch, BatchProvider, BatchRequest, Coordinate, GraphKey, GraphSpec, Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from scalenet_gp.nodes.augment.deform_augment import DeformAugment
from scalenet_gp.nodes.augment.deformation import Deformation
from scalenet_gp.nodes.augment.deformed_graph import deform_graph
from scalenet_gp.nodes.augment.deformed_points import source_box, source_positions, target_positions
from scalenet_gp.nodes.augment.samples import Samples
from scalenet_gp.nodes.samplers import SampleLocation, UniformSampler
from scalenet_gp.nodes.testing import Field, RampSource, ramp
from scalenet_gp.testing import voxel_centers

RAMP, DRAWN, POINTS = ArrayKey("DP_RAMP"), ArrayKey("DP_DRAWN"), GraphKey("DP_POINTS")
ROI = Roi((1000, -480, 240), (480, 640, 560))
NEAR, FAR = Coordinate((64,) * 3), Coordinate((400,) * 3)
ALL = (0, 1, 2)
MAPS = {
    "identity": {},
    "mirror and transposition": {"mirror_axes": ALL, "transpose_axes": ALL},
    "jitter": {"jitter_sigma": (25, 25, 25)},
    "everything": {
        "jitter_sigma": (25, 20, 25),
        "rotation_axes": ALL,
        "mirror_axes": ALL,
        "transpose_axes": ALL,
        "scale_interval": (0.7, 1.4),
    },
}


def drawn(seed, roi=ROI, **arguments):
    """A map as the node draws it, control points 256 apart."""
    node = DeformAugment((256,) * roi.dims, arguments.pop("jitter_sigma", (0,) * roi.dims), **arguments)
    return node.draw(np.random.default_rng(seed), roi, Coordinate((8,) * roi.dims))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(MAPS)), st.sampled_from([2, 3]))
def test_the_inverse_of_the_map_leads_back(seed, name, dims):
    arguments = dict(MAPS[name])
    roi = Roi(ROI.begin[:dims], ROI.shape[:dims])
    if dims == 2:
        arguments = {key: value[:2] for key, value in arguments.items()}
    deformation = drawn(seed, roi, **arguments)
    rng = np.random.default_rng(seed)
    targets = rng.uniform(roi.begin, roi.end, (200, dims))
    sources = source_positions(deformation, targets)
    np.testing.assert_allclose(target_positions(deformation, sources), targets, atol=0.05)
    box = source_box(deformation, roi)
    assert ((sources >= box.begin) & (sources < box.end)).all()
    assert target_positions(deformation, np.empty((0, dims))).shape == (0, dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_sources_are_those_that_arrays_are_read_from(dims):
    size = Coordinate((8,) * dims)
    roi = Roi(ROI.begin[:dims], ROI.shape[:dims])
    axes = (0, 1)
    deformation = drawn(0, roi, jitter_sigma=(25,) * dims, rotation_axes=axes, scale_interval=(0.7, 1.4))
    samples = Samples(deformation, roi, size)
    box = samples.box(True)
    read = samples.read(voxel_centers(box, size), True)
    targets = voxel_centers(roi, size).reshape(dims, -1).T
    np.testing.assert_allclose(source_positions(deformation, targets), read.reshape(dims, -1).T, atol=1e-6)


def test_a_map_that_folds_leaves_out_what_it_cannot_place():
    deformation = drawn(0, jitter_sigma=(200, 200, 200))
    targets = np.random.default_rng(0).uniform(ROI.begin, ROI.end, (300, 3))
    sources = source_positions(deformation, targets)
    found = target_positions(deformation, sources)
    there = ~np.isnan(found).any(axis=1)
    assert there.mean() > 0.5
    np.testing.assert_allclose(source_positions(deformation, found[there]), sources[there], atol=1e-3)


class Skeleton(BatchProvider):
    """Serves points at random places of a large box, each joined to the next one, cropped to the request."""

    def __init__(self, count):
        rng = np.random.default_rng(1)
        self.locations = rng.uniform(ROI.begin - FAR, ROI.end + FAR, (count, 3))

    def setup(self):
        self.provides(POINTS, GraphSpec(Roi((None,) * 3, (None,) * 3), directed=False))

    def provide(self, request):
        roi = request[POINTS].roi
        nodes = [gp.Node(n, place.astype(np.float32), attrs={"name": n}) for n, place in enumerate(self.locations)]
        edges = [gp.Edge(n, n + 1) for n in range(len(nodes) - 1)]
        batch = Batch()
        batch[POINTS] = gp.Graph(nodes, edges, GraphSpec(roi, directed=False)).crop(roi)
        return batch


@pytest.mark.parametrize("name", MAPS)
def test_nodes_lie_where_arrays_show_their_content(name):
    """An array that holds its own position in the source tells, at each node, the place that the node comes from."""
    source = Skeleton(500)
    arguments = {"jitter_sigma": (0, 0, 0), **MAPS[name]}
    chain = (RampSource({RAMP: ramp((8, 8, 8))}), source) + gp.MergeProvider()
    chain += DeformAugment((256,) * 3, **arguments) + SampleLocation(RAMP, UniformSampler(ROI.grow(NEAR, NEAR)))
    request = BatchRequest({RAMP: ArraySpec(Roi((0, 0, 0), ROI.shape))}, random_seed=5)
    request[POINTS] = GraphSpec(Roi((0, 0, 0), ROI.shape))
    with gp.build(chain) as pipeline:
        batch = pipeline.request_batch(request)
    array, graph = batch[RAMP], batch[POINTS]
    centres = [np.arange(4, n, 8) for n in ROI.shape]
    shown = RegularGridInterpolator(centres, np.moveaxis(array.data, 0, -1), method="linear")
    assert all(Roi((0, 0, 0), ROI.shape).contains(node.location) for node in graph.nodes)
    nodes = [node for node in graph.nodes if not node.temporary]  # others are where an edge leaves the request
    assert 0 < len(nodes) < graph.num_vertices()
    inside = [n for n in nodes if all(8 < x < size - 8 for x, size in zip(n.location, ROI.shape, strict=True))]
    assert len(inside) > 20
    for node in inside:
        np.testing.assert_allclose(shown(node.location)[0], source.locations[node.attrs["name"]], atol=1)
    # every point whose content lies within the array is there
    low, high = array.data.reshape(3, -1).min(axis=1), array.data.reshape(3, -1).max(axis=1)
    near = np.flatnonzero(((source.locations > low) & (source.locations < high)).all(axis=1))
    centre_of = array.data.reshape(3, -1).T
    contained = {int(n) for n in near if np.abs(centre_of - source.locations[n]).max(axis=1).min() < 3}
    assert contained <= {node.attrs["name"] for node in nodes}


def test_edges_are_cut_at_the_faces_also_below_zero():
    places = {1: (-5, 1), 2: (3, 1), 3: (-5, -9), 4: (40, 40), 5: (50, 50)}
    nodes = [gp.Node(n, np.array(place)) for n, place in places.items()]
    edges = [gp.Edge(1, 2, attrs={"width": 3}), gp.Edge(3, 1), gp.Edge(4, 5)]
    roi = Roi((-8, -8), (8, 16))
    identity = Deformation.centred(np.eye(2), roi, Coordinate(1, 1))
    cut = deform_graph(gp.Graph(nodes, edges, GraphSpec(None, directed=True)), identity, roi)
    found = {node.id: (node.location.tolist(), node.temporary) for node in cut.nodes}
    assert found == {1: ([-5, 1], False), 6: ([-0.001, 1], True), 7: ([-5, -8], True)}
    assert {(edge.u, edge.v): edge.attrs for edge in cut.edges} == {(1, 6): {"width": 3}, (7, 1): {}}
    assert cut.spec.roi == roi


def test_gunpowder_rasterizes_what_was_deformed():
    chain = (RampSource({RAMP: ramp((8, 8, 8))}), Skeleton(200)) + gp.MergeProvider()
    chain += DeformAugment((256,) * 3, (20,) * 3, rotation_axes=ALL)
    chain += SampleLocation(RAMP, UniformSampler(ROI.grow(NEAR, NEAR)))
    spec = ArraySpec(voxel_size=(8, 8, 8), dtype=np.uint8)
    chain += gp.RasterizeGraph(POINTS, DRAWN, spec, gp.RasterizationSettings(radius=(12, 12, 12)))
    rois = dict.fromkeys((RAMP, DRAWN), ArraySpec(Roi((0, 0, 0), ROI.shape)))
    request = BatchRequest(rois, random_seed=3)
    request[POINTS] = GraphSpec(Roi((0, 0, 0), ROI.shape))
    with gp.build(chain) as pipeline:
        batch = pipeline.request_batch(request)
    assert 0 < batch[DRAWN].data.mean() < 0.2
    whole = Roi((0, 0, 0), ROI.shape)  # the graph reaches further, as far as the balls about its nodes
    inside = [node for node in batch[POINTS].nodes if whole.contains(node.location)]
    assert len(inside) > 10
    assert all(batch[DRAWN].data[tuple((node.location // 8).astype(int))] for node in inside)


def test_a_graph_alone_is_deformed_too_and_wrong_axes_are_refused():
    source = Skeleton(200)
    with gp.build(source + DeformAugment((256,) * 3, (0, 0, 0), mirror_axes=(2,))) as pipeline:
        request = BatchRequest(random_seed=0)
        request[POINTS] = GraphSpec(ROI)
        nodes = [node for node in pipeline.request_batch(request)[POINTS].nodes if not node.temporary]
        found = {node.attrs["name"]: node.location for node in nodes}
    assert found
    for name, place in found.items():
        np.testing.assert_allclose(place[:2], source.locations[name][:2], atol=0.01)
        mirrored = 2 * (ROI.begin[2] + ROI.end[2]) / 2 - source.locations[name][2]
        assert min(abs(place[2] - mirrored), abs(place[2] - source.locations[name][2])) < 0.01
    message = "DP_POINTS has 3 spatial axes, control_point_spacing has 2"
    with (
        gp.build(source + DeformAugment((256,) * 2, (0, 0))) as pipeline,
        pytest.raises(gp.PipelineRequestError, match=message),
    ):
        pipeline.request_batch(request)


VECTORS = ArrayKey("DP_VECTORS")


def towards(site):
    """Vectors to a site, within 220 of it."""

    def content(centres):
        ways = np.reshape(site, (-1, 1, 1, 1)) - centres
        near = np.linalg.norm(centres - np.reshape(SYNAPSE, (-1, 1, 1, 1)), axis=0) < 220
        return (ways * near).astype(np.float32)

    return content


SYNAPSE, PARTNER = ROI.center, ROI.center + Coordinate(40, -150, 90)


@pytest.mark.parametrize("name", ["everything"])
def test_vectors_lead_to_where_the_content_of_their_ends_is_shown(name):
    """An array that holds its own position in the source tells, at the end of each vector, what the end shows."""
    fields = {RAMP: ramp((16, 16, 16)), VECTORS: Field((16, 8, 8), towards(PARTNER), interpolatable=True)}
    arguments = {"jitter_sigma": (0, 0, 0), **MAPS[name]}
    chain = RampSource(fields) + DeformAugment((256,) * 3, **arguments, vectors=[VECTORS])
    near = Roi(SYNAPSE, (0, 0, 0)).grow(Coordinate((96, 96, 96)), Coordinate((96, 96, 96)))
    near = near.snap_to_grid(Coordinate(16, 16, 16), mode="grow")
    wide = near.grow(Coordinate((256, 256, 256)), Coordinate((256, 256, 256)))
    request = BatchRequest({RAMP: ArraySpec(wide), VECTORS: ArraySpec(near)}, random_seed=5)
    with gp.build(chain) as pipeline:
        batch = pipeline.request_batch(request)
    data = batch[VECTORS].data
    assert data.dtype == np.float32
    there = data.any(axis=0)
    assert there.mean() > 0.7
    starts = voxel_centers(near, (16, 8, 8))[:, there].T
    centres = [np.arange(b + 8, e, 16) for b, e in zip(wide.begin, wide.end, strict=True)]
    shown = RegularGridInterpolator(centres, np.moveaxis(batch[RAMP].data, 0, -1), bounds_error=True)
    ends = shown(starts + data[:, there].T)
    np.testing.assert_allclose(ends, np.broadcast_to(PARTNER, ends.shape), atol=1)


def test_vectors_that_are_not_named_are_only_moved_and_other_arrays_are_no_vectors():
    field = Field((8, 8), lambda centres: np.stack([np.ones(centres.shape[1:]), np.zeros(centres.shape[1:])]), True)
    turn = {"mirror_axes": (0, 1), "transpose_axes": (0, 1)}
    seen = {True: set(), False: set()}
    for named, found in seen.items():
        with gp.build(
            RampSource({VECTORS: field}) + DeformAugment((64, 64), (0, 0), **turn, vectors=[VECTORS][:named])
        ) as chain:
            for seed in range(12):
                request = BatchRequest({VECTORS: ArraySpec(Roi((0, 0), (64, 64)))}, random_seed=seed)
                found.add(tuple(chain.request_batch(request)[VECTORS].data[:, 3, 3].tolist()))
    assert seen == {True: {(1, 0), (-1, 0), (0, 1), (0, -1)}, False: {(1, 0)}}
    for content, message in (
        (lambda centres: np.ones((3, *centres.shape[1:])), r"2 channels.* shape \(3, "),
        (lambda centres: np.ones(centres.shape, np.int16), "dtype int16"),
    ):
        chain = RampSource({VECTORS: Field((8, 8), content, True)}) + DeformAugment((64, 64), (0, 0), vectors=[VECTORS])
        with gp.build(chain) as pipeline, pytest.raises(gp.PipelineRequestError, match=message):
            pipeline.request_batch(request)
