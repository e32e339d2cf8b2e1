"""gunpowder's nodes of which nothing is measured in test_gunpowder_nodes.py: each is tried between several voxel sizes.

Every public node has a row in docs/reference/gunpowder_nodes.md.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gunpowder as gp
import h5py
import networkx as nx
import numpy as np
import pytest
import zarr
from gunpowder import ArrayKey, ArraySpec, Batch, BatchRequest, Coordinate, GraphKey, GraphSpec, Roi
from gunpowder import contrib as gp_contrib
from gunpowder.ext import NoSuchModule, malis

from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.nodes.testing import Field, RampSource, ramp
from scalenet_gp.testing import voxel_centers
from tests.nodes.targets.derived_arrays import Held
from tests.nodes.train.two_scales import Silent

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "gunpowder_nodes.md"
COARSE, FINE, MADE, LABELS = (ArrayKey(name) for name in ("MG_COARSE", "MG_FINE", "MG_MADE", "MG_LABELS"))
MASK, OTHER = ArrayKey("MG_MASK"), ArrayKey("MG_OTHER")
POINTS, PARTNERS = GraphKey("MG_POINTS"), GraphKey("MG_PARTNERS")
SIZES = {COARSE: 32, FINE: 8}
SCALES = {key: ramp((size,) * 3) for key, size in SIZES.items()}
BOUNDS = Roi((-512,) * 3, (1024,) * 3)
ROIS = {COARSE: Roi((-64,) * 3, (192,) * 3), FINE: Roi((8, 16, 24), (64,) * 3)}
CUBE = Roi((0, 0, 0), (64,) * 3)
SITES = ((0, 0, 0), (333, 100, 7), (-200, 20, 300))
INSTANCES = np.random.default_rng(0).integers(0, 4, (8, 8, 8)).astype(np.uint64)


def fetch(chain: Any, rois: dict, seed: int | None = 1) -> Batch:
    request = BatchRequest(random_seed=seed)
    for key, roi in rois.items():
        request[key] = GraphSpec(roi) if isinstance(key, GraphKey) else ArraySpec(roi)
    with build_chain(chain) as pipeline:
        return pipeline.request_batch(request)


def moved(batch: Batch, rois: dict = ROIS) -> set[tuple[float, ...]]:
    """Distances that the contents of ramps were moved by: one entry if all were moved alike."""
    ways = set()
    for key, roi in rois.items():
        off = (batch[key].data - voxel_centers(roi, (SIZES[key],) * 3)).reshape(3, -1)
        assert np.ptp(off, axis=1).max() < 1e-6
        ways.add(tuple(np.round(off[:, 0], 6).tolist()))
    return ways


class Sites(gp.BatchProvider):
    """Serves SITES."""

    def setup(self) -> None:
        self.provides(POINTS, GraphSpec(BOUNDS))

    def provide(self, request: BatchRequest) -> Batch:
        roi, batch = request[POINTS].roi, Batch()
        nodes = [gp.Node(n, np.array(place, float)) for n, place in enumerate(SITES) if roi.contains(Coordinate(place))]
        batch[POINTS] = gp.Graph(nodes, [], GraphSpec(roi))
        return batch


def test_every_public_node_has_a_row() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    public = set()
    for module in ("", "torch", "contrib", "tensorflow", "jax"):
        for name, item in vars(importlib.import_module(f"gunpowder.{module}".rstrip("."))).items():
            if inspect.isclass(item) and issubclass(item, gp.BatchProvider):
                public.add(f"{module}.{name}".lstrip("."))
    assert len(public) > 60
    assert public - {"BatchFilter", "BatchProvider"} <= named


# Unchanged


@pytest.mark.parametrize(
    "node",
    [
        lambda folder: gp.PrintProfilingStats(every=1),
        lambda folder: gp.Snapshot({COARSE: "c", FINE: "f"}, str(folder), "{id}.zarr"),
        lambda folder: gp.ZarrWrite({COARSE: "c", FINE: "f"}, store=str(folder / "0.zarr")),
        lambda folder: gp.AsType(MADE, np.float32),
        lambda folder: gp.Crop(MADE, CUBE),
    ],
    ids=["PrintProfilingStats", "Snapshot", "ZarrWrite", "AsType", "Crop"],
)
def test_nodes_that_leave_content_where_it_is(node: Callable[[Path], gp.BatchFilter], tmp_path: Path) -> None:
    bounds = Roi((-64,) * 3, (192,) * 3)
    made = {**SCALES, MADE: ramp((8,) * 3)}
    assert moved(fetch(RampSource(made, bounds) + node(tmp_path), ROIS)) == {(0, 0, 0)}
    for written in tmp_path.iterdir():
        stored = zarr.open_group(str(written), mode="r")
        assert {name: stored[name].shape[1:] for name in "cf"} in (
            {"c": (6,) * 3, "f": (8,) * 3},
            {"c": (6,) * 3, "f": (24,) * 3},  # a dataset of all that upstream has
        )


def test_casts_crops_and_scales_change_the_named_array_only() -> None:
    source = RampSource(SCALES, BOUNDS)
    cast = fetch(source + gp.AsType(FINE, np.float32) + gp.IntensityScaleShift(COARSE, 2, 1), ROIS)
    assert cast[FINE].data.dtype == np.float32
    np.testing.assert_array_equal(cast[COARSE].data, 2 * voxel_centers(ROIS[COARSE], (32,) * 3) + 1)
    with build_chain(source + gp.Crop(FINE, CUBE)) as pipeline:
        assert (pipeline.spec[FINE].roi, pipeline.spec[COARSE].roi) == (CUBE, BOUNDS)
    with build_chain(source + gp.Crop(FINE, fraction_negative=(0.25, 0, 0))) as pipeline:
        assert pipeline.spec[FINE].roi.begin == BOUNDS.begin  # true: a quarter further in
        assert pipeline.spec[FINE].roi.shape == (768, 1024, 1024)
    one = RampSource({FINE: Field((8,) * 3, lambda centres: centres[:1], True)})
    chain = one + gp.Squeeze([FINE]) + gp.Unsqueeze([FINE]) + gp.Squeeze([FINE])
    assert fetch(chain, {FINE: CUBE})[FINE].data.shape == (8, 8, 8)


def test_scan_goes_over_all_scales() -> None:
    reference = BatchRequest({key: ArraySpec(Roi((0, 0, 0), (64,) * 3)) for key in SCALES})
    rois = dict.fromkeys(SCALES, Roi((-64, 0, 0), (128, 64, 64)))
    scan = gp.Scan(reference, progress_callback=Silent())
    assert moved(fetch(RampSource(SCALES) + scan, rois), rois) == {(0, 0, 0)}


def test_hdf5_writes_and_reads_all_scales(tmp_path: Path) -> None:
    bounds = Roi((-64,) * 3, (192,) * 3)
    with pytest.warns(DeprecationWarning, match="HDF5LikeWrite"):
        write = gp.Hdf5Write({COARSE: "c", FINE: "f"}, output_dir=str(tmp_path), output_filename="o.h5")
    fetch(RampSource(SCALES, bounds) + write, dict.fromkeys(SCALES, bounds))
    with pytest.warns(DeprecationWarning, match="HDF5LikeSource"):
        source = gp.Hdf5Source(str(tmp_path / "o.h5"), {COARSE: "c", FINE: "f"})
    assert moved(fetch(source, ROIS)) == {(0, 0, 0)}


@pytest.mark.parametrize("kind", ["specified", "iterated"])
def test_locations_that_are_named_keep_scales_in_step_and_are_hit_to_the_coarsest_voxel(kind: str) -> None:
    named = {
        "specified": lambda: gp.SpecifiedLocation(SITES[1:2]),
        "iterated": lambda: gp.IterateLocations(POINTS, Roi(SITES[1], (1,) * 3)),
    }
    node = named[kind]()
    # the middle of all ROIs, (32, 32, 32), goes to (333, 100, 7)
    found = moved(fetch((RampSource(SCALES, BOUNDS), Sites()) + gp.MergeProvider() + node, ROIS))
    assert found == {(288, 64, -32)}


def test_graphs_are_read_cut_and_rasterized() -> None:
    graph = nx.Graph()
    for number, place in enumerate(SITES):
        graph.add_node(number, location=np.array(place, float))
    nodes = [gp.Node(n, np.array(place, np.float32)) for n, place in enumerate(SITES)]
    held = gp.GPGraphSource(POINTS, gp.Graph(nodes, [gp.Edge(0, 1)], GraphSpec(BOUNDS)))
    near = Roi((-64,) * 3, (256,) * 3)
    found = fetch(held, {POINTS: near})[POINTS]
    assert sorted(node.location.round().tolist() for node in found.nodes)[0] == [0, 0, 0]
    assert found.num_vertices() == 2  # the edge ends in a new node at the face
    stored = SimpleNamespace(directed=False, position_attribute="position")

    class Provider(SimpleNamespace):
        def __getitem__(self, roi: Roi) -> nx.Graph:
            inside = nx.Graph()
            inside.add_nodes_from((n, {"position": p}) for n, p in enumerate(SITES) if roi.contains(Coordinate(p)))
            return inside

    read = gp.GraphSource(Provider(**vars(stored)), POINTS, GraphSpec(BOUNDS))
    assert [node.location.tolist() for node in fetch(read, {POINTS: near})[POINTS].nodes] == [[0, 0, 0]]
    spec, ball = ArraySpec(voxel_size=(32,) * 3), gp.RasterizationSettings(radius=(40,) * 3)
    chain = (RampSource(SCALES), Sites()) + gp.MergeProvider() + gp.RasterizeGraph(POINTS, MADE, spec, ball)
    drawn = fetch(chain, {MADE: near, **ROIS})[MADE].data
    assert np.argwhere(drawn).mean(axis=0).tolist() == [2, 2, 2]  # the voxel of (0, 0, 0), and its neighbours
    with pytest.raises(ValueError, match="outside of my ROI"):
        fetch(chain, {MADE: BOUNDS.grow(Coordinate((32,) * 3), Coordinate((32,) * 3))})


# Not between several voxel sizes, or not with a channel axis


def test_elastic_augment_takes_arrays_of_one_voxel_size() -> None:
    with pytest.warns(DeprecationWarning, match="ElasticAugment is deprecated"):
        node = gp.ElasticAugment((8, 8, 8), (0, 0, 0), (0, 0))
    assert moved(fetch(RampSource(SCALES) + node, {FINE: CUBE}), {FINE: CUBE}) == {(0, 0, 0)}
    with pytest.raises(ValueError, match="can only be used with arrays of same voxel sizes"):
        fetch(RampSource(SCALES) + node, ROIS)


def test_down_and_up_sample_take_single_voxels_and_resample_interpolates() -> None:
    fine = RampSource({FINE: ramp((8,) * 3)})
    expected = voxel_centers(CUBE, (32,) * 3)
    down = fetch(fine + gp.DownSample(FINE, 4, MADE), {MADE: CUBE})[MADE].data
    np.testing.assert_array_equal(down, expected - 12)  # the corner of each block
    np.testing.assert_allclose(
        fetch(fine + gp.Resample(FINE, Coordinate((32,) * 3), MADE), {MADE: CUBE})[MADE].data, expected, atol=1e-2
    )
    up = fetch(RampSource({COARSE: ramp((32,) * 3)}) + gp.UpSample(COARSE, 4, MADE), {MADE: CUBE})[MADE].data
    assert up[0, :, 0, 0].tolist() == [16] * 4 + [48] * 4


def test_exclude_labels_makes_its_mask_of_labels_without_a_channel_only() -> None:
    node = gp.ExcludeLabels(LABELS, [2], MASK, 16)
    rois = {LABELS: CUBE, MASK: CUBE}
    batch = fetch(Held({LABELS: INSTANCES.copy()}, (8,) * 3) + node, rois)
    assert set(np.unique(batch[LABELS].data)) == {0, 1, 3}
    assert batch[MASK].data.shape == (8, 8, 8)
    with pytest.raises(RuntimeError, match="sequence argument must have length equal to input rank"):
        fetch(Held({LABELS: INSTANCES[None].copy()}, (8,) * 3) + node, rois)


@pytest.mark.skipif(not isinstance(malis, NoSuchModule), reason="malis is installed")
def test_renumber_connected_components_needs_malis() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'malis'"):
        fetch(Held({LABELS: INSTANCES}, (8,) * 3) + gp.RenumberConnectedComponents(LABELS), {LABELS: CUBE})


def test_contributed_nodes_that_work() -> None:
    flat = np.ones((8, 8, 8), np.uint8)
    node = gp_contrib.ZeroOutConstSections(FINE)
    assert not fetch(Held({FINE: flat.copy()}, (8,) * 3) + node, {FINE: CUBE})[FINE].data.any()
    with pytest.raises(IndexError, match="out of bounds"):
        fetch(Held({FINE: flat[None].copy()}, (8,) * 3) + node, {FINE: CUBE})
    gradients = gp_contrib.AddBoundaryDistanceGradients(LABELS, MADE)
    assert fetch(Held({LABELS: INSTANCES}, (8,) * 3) + gradients, {MADE: CUBE})[MADE].data.shape == (3, 8, 8, 8)


class Pairs(gp.BatchProvider):
    """A site at (28, 28, 28) whose partner is at (92, 28, 28)."""

    def setup(self) -> None:
        self.provides(POINTS, GraphSpec(BOUNDS))
        self.provides(PARTNERS, GraphSpec(BOUNDS))

    def provide(self, request: BatchRequest) -> Batch:
        batch = Batch()
        for number, (key, place) in enumerate(((POINTS, (28, 28, 28)), (PARTNERS, (92, 28, 28)))):
            node = gp.Node(number, np.array(place, float), attrs={"partner_ids": [1]})
            batch[key] = gp.Graph([node], [], GraphSpec(request[key].roi))
        return batch


def test_the_vector_map_of_partners_counts_from_the_corners_of_voxels() -> None:
    arguments: tuple[Any, ...] = ({MADE: (POINTS, PARTNERS)}, {MADE: Coordinate((8,) * 3)}, 8, "min_distance")
    everywhere = RampSource({MASK: Field((8,) * 3, lambda centres: np.ones(centres.shape[1:], np.uint8), False)})
    node = gp_contrib.AddVectorMap(*arguments, stayinside_array_keys={MADE: MASK}, pad_for_partners=(64,) * 3)
    vectors = fetch((Pairs(), everywhere) + gp.MergeProvider() + node, {MADE: CUBE, POINTS: CUBE})[MADE].data
    voxels = np.argwhere(vectors.any(axis=0))
    assert len(voxels) > 0
    for voxel in voxels:
        assert (vectors[(slice(None), *voxel)] + voxel * 8).tolist() == [92, 28, 28]
    without = gp_contrib.AddVectorMap(*arguments, pad_for_partners=(64,) * 3)
    with pytest.raises(AttributeError, match="has no attribute 'items'"):
        fetch(Pairs() + without, {MADE: CUBE, POINTS: CUBE})


BINARY = {MASK: np.ones((8,) * 3, np.uint8), OTHER: np.ones((8,) * 3, np.uint8)}
INNER = Roi((16,) * 3, (32,) * 3)
BLOBS = {
    "points_key": POINTS,
    "output_array_key": MADE,
    "output_array_dtype": np.int64,
    "radius": 8,
    "output_voxel_size": Coordinate((8,) * 3),
    "restrictive_mask_key": MASK,
    "max_desired_overlap": 0.1,
}
OLD: dict[str, tuple[Callable[[Path], Any], dict[Any, Roi], type[Exception]]] = {
    "AddGtMaskExclusiveZone": (lambda folder: gp_contrib.AddGtMaskExclusiveZone({MADE: MASK}), {MADE: CUBE}, TypeError),
    "AddNonsymmetricAffinities": (
        lambda folder: gp_contrib.AddNonsymmetricAffinities(np.array([[8, 0, 0]]), MASK, OTHER, MADE, FINE),
        dict.fromkeys((MASK, OTHER, MADE, FINE), INNER),
        TypeError,
    ),
    "AddBlobsFromPoints": (
        lambda folder: gp_contrib.AddBlobsFromPoints({"a": BLOBS}),
        {MADE: CUBE, MASK: CUBE},
        TypeError,
    ),
    "Hdf5PointsSource": (
        lambda folder: gp_contrib.Hdf5PointsSource(str(folder / "p.h5"), {POINTS: "x"}, {POINTS: BOUNDS}),
        {POINTS: CUBE},
        NameError,
    ),
    "DvidPartnerAnnotationSource": (
        lambda folder: gp_contrib.DvidPartnerAnnotationSource("host", 1, "uuid"),
        {POINTS: CUBE},
        TypeError,
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_contributed_nodes_from_before_graphs_stop(name: str, tmp_path: Path) -> None:
    make, rois, error = OLD[name]
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["x"] = np.zeros((2, 3))

    def run() -> None:
        node = make(tmp_path)
        upstream = (Held(BINARY, (8,) * 3), Sites()) + gp.MergeProvider()
        fetch(node if name.endswith("Source") else upstream + node, rois)

    with pytest.raises(error):
        run()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: gp.DvidSource("host", 1, "uuid", {FINE: "x"}), ModuleNotFoundError, "No module named 'dvision'"),
        (lambda: gp.jax.Train(None, {}, {}), ModuleNotFoundError, "No module named 'jax'"),
        (lambda: RampSource(SCALES) + gp.DaisyRequestBlocks(BatchRequest(), {}), KeyError, "DAISY_CONTEXT"),
    ],
    ids=["DvidSource", "jax.Train", "DaisyRequestBlocks"],
)
def test_nodes_that_need_what_is_not_here(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fetch(make(), {} if error is KeyError else {FINE: CUBE})
