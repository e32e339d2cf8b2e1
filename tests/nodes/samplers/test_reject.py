"""Reject: samples drawn again under a seed, the same ones for any number of workers."""

from __future__ import annotations

import sys

import gunpowder as gp
import numpy as np
import pytest
from gunpowder import ArrayKey, ArraySpec, Batch, BatchRequest, GraphSpec, Roi

from scalenet_gp.errors import ArgumentError, DataError, PipelineError
from scalenet_gp.nodes import Prefetch, Reject, Stack
from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.nodes.prefetch import prefetch as prefetch_module
from tests.nodes.prefetch.worker_nodes import PLACES, POINTS, Drawings
from tests.nodes.targets.derived_arrays import Held

MASK, PLACE = ArrayKey("REJECT_MASK"), ArrayKey("REJECT_PLACE")
SAMPLE = Roi((0, 0), (4, 4))
RARE = np.zeros((64, 64), np.uint8)
RARE[32:, 44:] = 255  # one location of about 6 holds enough of it


def wanted(seed: int | None = None) -> BatchRequest:
    return BatchRequest({MASK: ArraySpec(SAMPLE), PLACE: ArraySpec(SAMPLE)}, random_seed=seed)


def located() -> gp.Pipeline:
    """Samples at random locations, with the number of each voxel."""
    return Held({MASK: RARE, PLACE: np.arange(64 * 64).reshape(64, 64)}, (1, 1)) + gp.RandomLocation()


def test_samples_that_do_are_drawn_and_the_first_one_that_does_is_kept() -> None:
    with build_chain(located() + Reject(MASK, 0.25)) as chain:
        batches = [chain.request_batch(wanted(seed)) for seed in range(15)]
        again = chain.request_batch(wanted(7))
        unseeded = [chain.request_batch(wanted()) for _ in range(3)]
    assert all((batch[MASK].data > 0).mean() > 0.25 for batch in (*batches, *unseeded))
    assert len({batch[PLACE].data.tobytes() for batch in batches}) > 10
    np.testing.assert_array_equal(again[PLACE].data, batches[7][PLACE].data)
    tries = [batch[PLACE].attrs["rejected"] for batch in batches]
    assert max(tries) > 3
    # a sample that does at the first try is the one that the chain gives without the node
    first = tries.index(0)
    with build_chain(located()) as chain:
        plain = chain.request_batch(wanted(BatchRequest(random_seed=first).copy().copy().random_seed))
    assert plain[PLACE].data.tobytes() == batches[first][PLACE].data.tobytes()


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")
def test_batches_are_the_same_for_any_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch_module, "bulk_reads_begun", lambda: False)
    runs = []
    for workers in (0, 1, 2):
        with build_chain(located() + Reject(MASK, 0.25) + Stack(2) + Prefetch(workers, seed=3)) as chain:
            runs.append([chain.request_batch(wanted()) for _ in range(4)])
    assert len({batch[PLACE].data.tobytes() for batch in runs[0]}) == 4
    for run in runs[1:]:
        for ours, theirs in zip(run, runs[0], strict=True):
            assert ours[PLACE].data.tobytes() == theirs[PLACE].data.tobytes()
            assert ours[PLACE].attrs == theirs[PLACE].attrs


def test_gunpowders_own_nodes_that_repeat_a_sample_under_a_seed_are_refused_by_name() -> None:
    for node, message in (
        (gp.Reject(MASK, 0.25), "gunpowder's Reject .* Use scalenet_gp.nodes.Reject"),
        (gp.PreCache(), r"gunpowder's PreCache .* Prefetch\(workers=…\)"),
    ):
        chain = (located() + node, located()) + gp.RandomProvider() + Stack(1) + Prefetch(seed=0)
        with pytest.raises(PipelineError, match=message), build_chain(chain):
            pass


def test_a_share_of_samples_that_do_not_is_kept() -> None:
    with build_chain(located() + Reject(MASK, 0.25, reject_probability=0.5)) as chain:
        batches = [chain.request_batch(wanted(seed)) for seed in range(40)]
    poor = np.mean([(batch[MASK].data > 0).mean() <= 0.25 for batch in batches])
    assert 0.4 < poor < 1  # a poor sample is kept by a coin: 5 / (5 + 2) of those kept


def test_a_graph_or_a_function_decides_too() -> None:
    seen = []

    def accepts(batch: Batch) -> bool:
        seen.append(int(batch[PLACES].attrs["begin"][0]))
        return len(seen) > 2

    request = BatchRequest({PLACES: ArraySpec(Roi((0, 0, 0), (64, 48, 40)))}, random_seed=1)
    request[POINTS] = GraphSpec(Roi((0, 0, 0), (64, 48, 40)))
    chain = Drawings() + gp.RandomLocation() + Reject(ensure_nonempty=POINTS, accepts=accepts)
    with build_chain(chain) as pipeline:
        batch = pipeline.request_batch(request)
    assert batch[PLACES].attrs["rejected"] == 2
    assert batch[POINTS].num_vertices() == 3
    assert len(set(seen)) == 3


def test_it_gives_up_and_refuses_what_cannot_be() -> None:
    message = r"none of 20 samples has more than 0.9 of its voxels in REJECT_MASK \(the most was 0.5\)"
    half = (np.indices((64, 64)).sum(axis=0) % 2).astype(np.uint8)
    none = Held({MASK: half, PLACE: half}, (1, 1)) + gp.RandomLocation()
    with pytest.raises(DataError, match=message), build_chain(none + Reject(MASK, 0.9, most_draws=20)) as chain:
        chain.request_batch(wanted(0))
    with pytest.raises(PipelineError, match="REJECT_MASK, which is not req"), build_chain(none + Reject(MASK)) as chain:
        chain.request_batch(BatchRequest({PLACE: ArraySpec(SAMPLE)}))
    with (
        pytest.raises(PipelineError, match="POINTS, which no node upstream provides"),
        build_chain(none + Reject(ensure_nonempty=POINTS)),
    ):
        pass
    for arguments, message in (
        ({}, "nothing to decide by"),
        ({"mask": MASK, "min_masked": 1}, "no share of voxels exceeds that"),
        ({"mask": MASK, "reject_probability": 2}, "a probability lies between"),
        ({"mask": MASK, "most_draws": 0}, "one sample has to be drawn"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Reject(**arguments)
