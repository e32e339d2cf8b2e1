from __future__ import annotations

import json
import re

import gunpowder as gp
import numpy as np
import pytest
from scipy.stats import chisquare

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.chains import build_chain, unwrap_errors
from scalenet_gp.nodes.requests import batch_seed, set_seed
from scalenet_gp.nodes.samplers.lazy_random_volume import LazyRandomVolume
from scalenet_gp.nodes.samplers.random_volume import RandomVolume
from scalenet_gp.nodes.sources import MultiscaleSource
from scalenet_gp.volumes import MultiscaleImage


@pytest.mark.parametrize("replay", ["x", "[]", "null", '"hela"', ""])
def test_what_is_no_record_is_refused_and_named(replay: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"replay={replay!r} is not a text of array.attrs")):
        RandomVolume({"hela": 1, "jurkat": 1}, replay=replay)


def test_a_record_names_one_of_the_volumes() -> None:
    for volume, name in (('"macrophage"', "'macrophage'"), ('["hela"]', r"\['hela'\]")):
        with pytest.raises(ValueError, match=f"replay names the volume {name}; there are hela, jurkat"):
            RandomVolume({"hela": 1, "jurkat": 1}, replay=f'{{"volume": {volume}}}')


RAW = gp.ArrayKey("RAW")
REQUEST = gp.BatchRequest({RAW: gp.Roi((0, 0, 0), (16, 16, 16))})


def opener(opened, size=8):
    """Opens volumes of one value, their number, and notes the names."""

    def open_branch(name):
        opened.append(name)
        voxels = np.full((2, 2, 2), int(name), np.uint8)
        return MultiscaleSource(MultiscaleImage.from_arrays([voxels], [(8, 8, 8)]), {RAW: (size,) * 3})

    return open_branch


def requested(seed):
    request = REQUEST.copy()
    set_seed(request, batch_seed(0, seed))
    return request


def test_volumes_are_drawn_by_weight_and_few_are_open():
    weights, opened = {"1": 5, "2": 0, "3": 2.5, "4": 1, "5": 1}, []
    node = LazyRandomVolume(weights, opener(opened), most_open=2)
    with build_chain(gp.Pipeline(node)) as pipeline:
        assert opened == ["1"]
        drawn = [int(pipeline.request_batch(requested(seed))[RAW].data.max()) for seed in range(400)]
        assert len(node._opened) == 2
        again = [int(pipeline.request_batch(requested(seed))[RAW].data.max()) for seed in range(20)]
    assert again == drawn[:20]
    assert 2 not in drawn
    counts = [drawn.count(int(name)) for name, weight in weights.items() if weight]
    expected = [400 * weight / 9.5 for weight in weights.values() if weight]
    assert chisquare(counts, expected).pvalue > 0.05
    assert not node._opened  # torn down


def test_the_record_names_the_volume_and_is_replayed():
    node = LazyRandomVolume({"1": 1, "2": 1}, opener([]))
    with build_chain(gp.Pipeline(node)) as pipeline:
        batch = pipeline.request_batch(requested(3))
    record = batch[RAW].attrs["location"]
    assert json.loads(record) == {"volume": str(batch[RAW].data.max())}
    with build_chain(gp.Pipeline(LazyRandomVolume({"1": 1, "2": 1}, opener([]), replay=record))) as pipeline:
        values = {int(pipeline.request_batch(requested(seed))[RAW].data.max()) for seed in range(8)}
    assert values == {int(json.loads(record)["volume"])}


def test_volumes_that_differ_in_their_arrays_are_refused():
    def open_branch(name):
        return opener([], 8 if name == "1" else 16)(name)

    message = r"voxel_size of RAW is \(8, 8, 8\) in 1, but \(16, 16, 16\) in 2"
    with (
        build_chain(gp.Pipeline(LazyRandomVolume({"1": 1e-9, "2": 1}, open_branch))) as pipeline,
        pytest.raises(PipelineError, match=message),
        unwrap_errors(),
    ):
        pipeline.request_batch(requested(0))
    with pytest.raises(ArgumentError, match="one volume has to be open"):
        LazyRandomVolume({"1": 1}, open_branch, most_open=0)
