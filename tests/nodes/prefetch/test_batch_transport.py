"""Keys and chains that have been set up, after a journey to another process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gunpowder as gp
import numpy as np
import pytest
from funlib.persistence import Array as StoredArray
from gunpowder import ArrayKey, ArraySpec, BatchRequest, GraphKey, Roi, build

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.augment.deform_augment import DeformAugment
from scalenet_gp.nodes.augment.intensity_augment import IntensityAugment
from scalenet_gp.nodes.prefetch import batch_transport
from scalenet_gp.nodes.prefetch.seeded_batches import SeededBatches
from scalenet_gp.nodes.sources.multiscale_source import MultiscaleSource
from scalenet_gp.nodes.targets.class_targets import ClassTargets
from tests.nodes.prefetch.worker_nodes import DRAWS, PLACES, Drawings
from tests.scalenet_gp.volumes.ome_zarr_files import write_multiscale

SIZE = (8, 8, 8)
BOX = Roi((0, 0, 0), (48, 48, 48))
NOISE = np.random.default_rng(0).random((64, 64, 64), dtype=np.float32)

ELSEWHERE = f"""
import pickle, sys
import {batch_transport.__name__}
from gunpowder import ArrayKey, GraphKey
entries = pickle.load(sys.stdin.buffer)
found = [entries.get(key) for key in (ArrayKey("A"), GraphKey("G"))]
pickle.dump((found, hash("A"), {{ArrayKey("B"): 3, GraphKey("H"): 4}}), sys.stdout.buffer)
"""


def test_keys_find_their_entries_in_a_process_with_other_hashes_and_back() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=pickle.dumps({ArrayKey("A"): 1, GraphKey("G"): 2}),
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONHASHSEED": "31"},
        check=True,
    )
    found, other_hash, entries = pickle.loads(answer.stdout)
    assert other_hash != hash("A")
    assert found == [1, 2]
    assert [entries.get(key) for key in (ArrayKey("B"), GraphKey("H"))] == [3, 4]
    assert isinstance(next(iter(entries)), ArrayKey)


def drawings(*nodes: gp.BatchFilter) -> Callable[[Path], gp.Pipeline]:
    def chain(_: Path) -> gp.Pipeline:
        pipeline = Drawings() + gp.RandomLocation()
        for node in nodes:
            pipeline = pipeline + node
        return pipeline

    return chain


def from_memory(*nodes: gp.BatchFilter) -> Callable[[Path], gp.Pipeline]:
    def source(key: ArrayKey) -> gp.BatchProvider:
        data = NOISE if key == DRAWS else (NOISE * 100).astype(np.int64)
        return gp.ArraySource(key, StoredArray(data, (0,) * 3, SIZE), interpolatable=key == DRAWS)

    def chain(_: Path) -> gp.Pipeline:
        pipeline = tuple(source(key) for key in (DRAWS, PLACES)) + gp.MergeProvider() + gp.RandomLocation()
        for node in nodes:
            pipeline = pipeline + node
        return pipeline

    return chain


def from_files(folder: Path) -> gp.Pipeline:
    names = [(folder / name, data) for name, data in (("raw", NOISE), ("class", (NOISE > 0.5).astype(np.uint8)))]
    raw, labels = (write_multiscale(path, [data], [SIZE], [(4, 4, 4)]) for path, data in names)
    sources = (
        MultiscaleSource(raw, {DRAWS: SIZE}, World()),
        ClassTargets({"class": labels}, {PLACES: SIZE}, {PLACES: ArrayKey("KNOWN")}, World()),
    )
    return sources + gp.MergeProvider() + gp.RandomLocation() + DeformAugment((64, 64, 64), (8, 8, 8))


@pytest.mark.parametrize(
    "chain",
    [
        drawings(gp.Pad(DRAWS, None), gp.NoiseAugment(DRAWS, clip=False), gp.Stack(2)),
        from_memory(gp.Normalize(DRAWS), gp.SimpleAugment(), gp.NoiseAugment(DRAWS), gp.Unsqueeze([DRAWS])),
        from_memory(gp.AsType(DRAWS, np.float64), gp.IntensityScaleShift(DRAWS, 2, -1)),
        from_memory(DeformAugment((64, 64, 64), (8, 8, 8), rotation_axes=(1, 2)), IntensityAugment([DRAWS], (0.5, 2))),
        from_files,
    ],
    ids=["graphs and stack", "memory", "types", "ours", "files"],
)
def test_a_chain_that_was_set_up_works_after_unpickling(chain: Callable[[Path], gp.Pipeline], tmp_path: Path) -> None:
    request = BatchRequest({key: ArraySpec(roi=BOX) for key in (DRAWS, PLACES)})
    with build(chain(tmp_path)) as pipeline:
        provider = pipeline.output
        rebuilt = pickle.loads(pickle.dumps(provider))
        assert rebuilt.spec == provider.spec
        assert rebuilt.provided_items == provider.provided_items
        ours, theirs = (SeededBatches(node, request, 6)[3] for node in (rebuilt, provider))
        other = SeededBatches(rebuilt, request, 6)[4]
    for key in request.array_specs:
        np.testing.assert_array_equal(ours[key].data, theirs[key].data)
        assert ours[key].spec == theirs[key].spec
    assert not np.array_equal(ours[DRAWS].data, other[DRAWS].data)
