"""PointSampler: samples that hold a point, from files, sources and arrays."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import gunpowder as gp
import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.errors import ArgumentError, DataError, LatticeError, PipelineError, VolumeFormatError
from scalenet_gp.geometry import World
from scalenet_gp.nodes import DeformAugment, MultiscaleSource, PointSampler, SampleLocation
from scalenet_gp.nodes.samplers.sampler import Axis
from scalenet_gp.volumes import MultiscaleImage, read_points
from tests.nodes.samplers.test_samplers import OPENING, assert_frequencies, draws

RAW, DRAWN, POINTS = gp.ArrayKey("PS_RAW"), gp.ArrayKey("PS_DRAWN"), gp.GraphKey("PS_POINTS")


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(0, 7))
def test_a_sample_holds_its_point_within_the_central_half(seed: int, factor: int, offset: int) -> None:
    points = np.random.default_rng(seed).uniform(-300, 300, (5, 2))
    opening = [Axis(64, 8, 8 * factor, offset), Axis(48, 8, 8, 0)]
    for sample in draws(PointSampler(points), 4, opening, seed):
        for place, begin, axis in zip(points[sample.info["point"]], sample.begin, opening, strict=True):
            assert (begin - axis.offset) % axis.step == 0
            assert begin + axis.length / 4 <= place + 1
            assert place < begin + 3 * axis.length / 4 + 1


def test_points_are_drawn_alike_or_balanced_against_their_neighbours() -> None:
    crowd = [(n, 0) for n in range(8)]
    points = [*crowd, (500, 0), (900, 40)]
    counts = Counter(sample.info["point"] for sample in draws(PointSampler(points), 600))
    assert_frequencies(counts, dict.fromkeys(range(10), 0.1))
    balanced = PointSampler(points, balance_radius=10)
    counts = Counter(min(sample.info["point"], 8) for sample in draws(balanced, 300))
    assert_frequencies(Counter({0: counts.total() - counts[8], 8: counts[8]}), {0: 1 / 3, 8: 2 / 3})
    within = PointSampler(points, within=Roi((400, 0), (600, 30)))
    assert {sample.info["point"] for sample in draws(within, 20)} == {8}
    again = pickle.loads(pickle.dumps(balanced))
    assert draws(again, 5) == draws(balanced, 5)


def test_points_that_no_sample_can_hold_are_passed_over() -> None:
    bounded = [Axis(64, 8, 8, 0, low=0, high=80, low_by="RAW", high_by="RAW"), OPENING[1]]
    points = [(-20, 10), (100, 10), (400, 10)]
    assert {sample.info["point"] for sample in draws(PointSampler(points), 20, bounded)} == {1}
    message = r"2 points: of 1000 drawn, none can lie in .*\(RAW\).* world units are missing"
    with pytest.raises(LatticeError, match=message):
        draws(PointSampler(points[::2]), 1, bounded)
    inside = PointSampler(points, inside=Roi((96, 0), (64, 48)))
    assert {tuple(sample.begin) for sample in draws(inside, 10)} == {(96, 0)}
    with pytest.raises(PipelineError, match="1 points has 3 axes, the sample has 2"):
        draws(PointSampler([(1, 2, 3)]), 1)


@pytest.mark.parametrize(
    ("points", "options", "error", "message"),
    [
        ([], {}, DataError, "no point to lay"),
        ([(1, 2)], {"within": Roi((5, 5), (9, 9))}, DataError, "no point of 1 within"),
        ([(1, 2)], {"within": Roi((5,), (9,))}, ArgumentError, "1 axes, the points have 2"),
        ([1, 2], {}, ArgumentError, r"shape \(2,\)"),
        ([(1, np.nan)], {}, ArgumentError, "finite"),
        ([(1, 2)], {"balance_radius": 0}, ArgumentError, "above 0"),
    ],
)
def test_what_it_cannot_draw_from_is_refused(points: list, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        PointSampler(points, **options)


def test_files_and_sources_are_read(tmp_path: Path) -> None:
    table, swc = tmp_path / "sites.csv", tmp_path / "cell.swc"
    table.write_text("id, x, y, z\na, 3, 2, 1.5\nb, 30, 20, 10\n")
    swc.write_text("1 0 3 2 1.5 1 -1\n2 0 30 20 10 1 1\n")
    expected = [[1.5, 2, 3], [10, 20, 30]]
    assert read_points(table).tolist() == read_points(swc).tolist() == expected
    assert read_points(table, ("y", "x")).tolist() == [[2, 3], [20, 30]]
    world = World("1/2", origin=(1, 0, 0))
    assert PointSampler.of_file(table, world).points.tolist() == [[1, 4, 6], [18, 40, 60]]
    plain = tmp_path / "plain.csv"
    np.savetxt(plain, expected, delimiter=",")
    source = gp.CsvPointsSource(str(plain), POINTS, [0, 1, 2], scale=2)
    assert PointSampler.of_source(source, POINTS).points.tolist() == [[3, 4, 6], [20, 40, 60]]
    part = Roi((15, 0, 0), (20, 99, 99))
    assert PointSampler.of_source(source, POINTS, part).points.tolist() == [[20, 40, 60]]
    with pytest.raises(PipelineError, match="does not provide OTHER"):
        PointSampler.of_source(source, gp.GraphKey("OTHER"))
    endless = gp.CsvPointsSource(str(plain), POINTS, [0, 1, 2], gp.GraphSpec(Roi((None,) * 3, (None,) * 3)))
    with pytest.raises(PipelineError, match="has no bounds; name the roi"):
        PointSampler.of_source(endless, POINTS)
    for text, message in (
        ("a,b\n1,2\n", "no column z, y, x; its first line names a, b"),
        ("z,y,x\n1,2\n", r"line 2: \(1, 2, None\) is not a position"),
        ("z,y,x\n1,2,3\n1,2,inf\n", r"line 3: \(1, 2, inf\)"),
        ("z,y,x\n", "has no point"),
        ("", "names none"),
    ):
        table.write_text(text)
        with pytest.raises(VolumeFormatError, match=message):
            read_points(table)


def test_a_chain_shows_the_point_and_gunpowder_draws_it(tmp_path: Path) -> None:
    """Behind a deformation, no ``Pad`` and no larger request is needed."""
    table = tmp_path / "sites.csv"
    sites = np.random.default_rng(0).uniform(200, 300, (6, 2))
    np.savetxt(table, sites, delimiter=",")
    points = gp.CsvPointsSource(str(table), POINTS, [0, 1], gp.GraphSpec(Roi((None,) * 2, (None,) * 2)))
    volume = MultiscaleImage.from_arrays([np.zeros((64, 64), np.uint8)], [(8, 8)])
    sampler = PointSampler(sites)
    chain = (MultiscaleSource(volume, {RAW: (8, 8)}, padding="constant"), points) + gp.MergeProvider()
    chain += DeformAugment((64, 64), (3, 3), rotation_axes=(0, 1)) + SampleLocation(RAW, sampler)
    spec = gp.ArraySpec(voxel_size=(8, 8), dtype=np.uint8)
    chain += gp.RasterizeGraph(POINTS, DRAWN, spec, gp.RasterizationSettings(radius=(8, 8)))
    roi = Roi((0, 0), (64, 64))
    with gp.build(chain) as pipeline:
        for seed in range(5):
            request = gp.BatchRequest({RAW: gp.ArraySpec(roi), DRAWN: gp.ArraySpec(roi)}, random_seed=seed)
            request[POINTS] = gp.GraphSpec(roi)
            batch = pipeline.request_batch(request)
            drawn = json.loads(batch[RAW].attrs["location"])["point"]
            shown = {int(node.id): Coordinate(node.location // 8) for node in batch[POINTS].nodes}
            assert batch[DRAWN].data[shown[drawn]] == 1
