from __future__ import annotations

import json

import gunpowder as gp
import numpy as np
import pytest

from scalenet_gp.nodes.augment.deform_augment import DeformAugment
from scalenet_gp.nodes.prefetch import prefetch as prefetch_module
from scalenet_gp.nodes.prefetch.prefetch import Prefetch
from scalenet_gp.nodes.prefetch.stack import Stack
from scalenet_gp.nodes.samplers.sample_location import SampleLocation, count_draws
from scalenet_gp.nodes.samplers.sampler import UniformSampler
from scalenet_gp.nodes.testing import RampSource, ramp

FINE, COARSE = gp.ArrayKey("FINE"), gp.ArrayKey("COARSE")
ROIS = {FINE: gp.Roi((0, 0, 0), (64, 64, 64)), COARSE: gp.Roi((-64, -64, -64), (192, 192, 192))}
REGIONS = [gp.Roi((0, 0, 0), (1024, 1024, 1024)), gp.Roi((4096, 0, 0), (1024, 1024, 1024))]


def chain() -> gp.Pipeline:
    source = RampSource({FINE: ramp((8, 8, 8)), COARSE: ramp((32, 32, 32))})
    return (
        source
        + DeformAugment((512,) * 3, (20,) * 3, mirror_axes=(0, 1, 2))
        + SampleLocation(FINE, UniformSampler(REGIONS))
    )


def request(seed: int | None = None) -> gp.BatchRequest:
    asked = gp.BatchRequest(random_seed=seed)
    for key, roi in ROIS.items():
        asked[key] = roi
    return asked


def batch_of(samples: int, seed: int | None = 1) -> gp.Batch:
    with gp.build(chain() + Stack(samples)) as pipeline:
        return pipeline.request_batch(request(seed))


def test_every_sample_keeps_its_records_and_they_replay_it() -> None:
    batch = batch_of(3)
    assert batch[FINE].data.shape == (3, 3, 8, 8, 8)
    records = batch[FINE].attrs
    assert records == batch[COARSE].attrs
    assert len(set(records["location"])) == len(set(records["deformation"])) == 3
    assert sum(count_draws(records["location"], "region").values()) == 3
    for number in range(3):
        source = RampSource({FINE: ramp((8, 8, 8)), COARSE: ramp((32, 32, 32))})
        again = source + DeformAugment((512,) * 3, (0,) * 3, replay=records["deformation"][number])
        again += SampleLocation(FINE, UniformSampler(REGIONS), replay=records["location"][number])
        with gp.build(again) as pipeline:
            sample = pipeline.request_batch(request())
        for key in ROIS:
            np.testing.assert_array_equal(sample[key].data, batch[key].data[number])


def test_a_sample_does_not_depend_on_how_many_are_stacked() -> None:
    many, one = batch_of(3), batch_of(1)
    np.testing.assert_array_equal(many[FINE].data[:1], one[FINE].data)
    assert many[FINE].attrs["location"][:1] == one[FINE].attrs["location"]
    assert json.loads(batch_of(1, seed=2)[FINE].attrs["location"][0]) != json.loads(one[FINE].attrs["location"][0])


def test_without_a_seed_all_samples_differ() -> None:
    assert len({array.tobytes() for array in batch_of(4, seed=None)[FINE].data}) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_records_come_through_worker_processes(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch_module, "bulk_reads_begun", lambda: False)  # this chain reads no volume: fork it
    with gp.build(chain() + Stack(2) + Prefetch(workers, seed=3)) as pipeline:
        records = pipeline.request_batch(request())[FINE].attrs["location"]
    assert [type(record) for record in records] == [str, str]


def test_what_only_some_samples_have_is_none_for_the_others() -> None:
    source = RampSource({FINE: ramp((8, 8, 8)), COARSE: ramp((32, 32, 32))})
    with gp.build(source + DeformAugment((512,) * 3, (20,) * 3, p=0.5) + Stack(20)) as pipeline:
        drawn = pipeline.request_batch(request(5))[FINE].attrs["deformation"]
    assert len(drawn) == 20
    assert 0 < drawn.count(None) < 20


def test_no_sample_is_no_batch() -> None:
    with pytest.raises(ValueError, match="num_repetitions is 0"):
        Stack(0)


def test_between_location_and_deformation_a_stack_asks_for_every_sample_at_its_place() -> None:
    source = RampSource({FINE: ramp((8, 8, 8)), COARSE: ramp((32, 32, 32))})
    chain = source + DeformAugment((512,) * 3, (0,) * 3) + Stack(3) + SampleLocation(FINE, UniformSampler(REGIONS[0]))
    with gp.build(chain) as pipeline:
        batch = pipeline.request_batch(request(4))
    begin = json.loads(batch[FINE].attrs["location"])["begin"]
    for sample in batch[FINE].data:
        np.testing.assert_allclose(sample[:, 0, 0, 0], np.array(begin) + 4, rtol=0, atol=1e-6)


def test_the_reference_may_be_a_placeholder() -> None:
    asked = request(1)
    asked[FINE].placeholder = True
    with gp.build(chain() + Stack(2)) as pipeline:
        batch = pipeline.request_batch(asked)
    assert FINE not in batch
    assert batch[COARSE].data.shape == (2, 3, 6, 6, 6)
