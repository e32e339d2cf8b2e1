"""CheapCopyRequest behaves as gunpowder's BatchRequest, copies included."""

from __future__ import annotations

from typing import Any

import gunpowder as gp
import numpy as np
import pytest
from gunpowder import ArrayKey, ArraySpec, BatchRequest, Coordinate, GraphKey, GraphSpec, Roi, build
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.nodes.requests.cheap_copy import CheapCopyRequest
from tests.nodes.prefetch.worker_nodes import DRAWS, PLACES, POINTS, Drawings

ARRAYS = [ArrayKey(f"LIGHT_{i}") for i in range(3)]
GRAPHS = [GraphKey(f"LIGHT_GRAPH_{i}") for i in range(2)]
numbers = st.integers(-100, 100)
sizes = st.integers(0, 100)
rois = st.builds(Roi, st.tuples(numbers, numbers), st.tuples(sizes, sizes)) | st.just(Roi((None,) * 2, (None,) * 2))
spatial = st.builds(
    ArraySpec,
    st.none() | rois,
    st.none() | st.just((4, 8)),
    st.none() | st.booleans(),
    dtype=st.none() | st.just(np.uint8),
    placeholder=st.booleans(),
)
array_specs = spatial | st.just(ArraySpec(nonspatial=True))
graph_specs = st.builds(GraphSpec, rois, st.none() | st.booleans(), placeholder=st.booleans())
seeds = st.none() | st.integers(0, 2**32 - 1)
requests = st.builds(
    BatchRequest,
    st.dictionaries(st.sampled_from(ARRAYS), array_specs),
    st.dictionaries(st.sampled_from(GRAPHS), graph_specs),
    random_seed=seeds,
)


def assert_alike(light: BatchRequest, plain: BatchRequest) -> None:
    assert light == plain
    assert plain == light
    assert list(light.items()) == list(plain.items())
    assert light.is_deterministic() == plain.is_deterministic()
    assert not plain.is_deterministic() or light.random_seed == plain.random_seed


@settings(max_examples=50)
@given(requests)
def test_copies_are_those_of_gunpowder(plain: BatchRequest) -> None:
    light = CheapCopyRequest.of(plain, random_seed=plain._random_seed)
    for _ in range(4):
        assert_alike(light, plain)
        light, plain = light.copy(), plain.copy()
        assert isinstance(light, CheapCopyRequest)


@settings(max_examples=50)
@given(requests, seeds)
def test_what_a_node_may_do_to_a_copy_leaves_the_original(plain: BatchRequest, seed: int | None) -> None:
    before = plain.copy()
    light = CheapCopyRequest.of(plain, random_seed=seed)
    for request in (light.copy(), CheapCopyRequest.of(plain)):
        for _, spec in request.items():
            if spec.roi is not None:
                spec.roi.shape = Coordinate((7, 7))
                spec.roi.offset = Coordinate((1, 1))
            spec.placeholder = not spec.placeholder
            spec.dtype = np.float64
        request[ARRAYS[0]] = ArraySpec(nonspatial=True)
        request.remove_placeholders()
        assert plain == before
        assert light == before
        assert light._random_seed == seed


@settings(max_examples=50)
@given(requests, requests)
def test_dependencies_are_merged_as_gunpowder_does(plain: BatchRequest, dependencies: BatchRequest) -> None:
    light = CheapCopyRequest.of(plain, random_seed=plain._random_seed)
    assert_alike(light.update_with(dependencies), plain.update_with(dependencies))


def test_other_requests_differ() -> None:
    plain = BatchRequest({ARRAYS[0]: ArraySpec(roi=Roi((0, 0), (8, 8)))})
    light = CheapCopyRequest.of(plain)
    light[ARRAYS[0]].roi = Roi((0, 0), (8, 9))
    assert light != plain
    assert plain != light


@pytest.mark.parametrize("seed", [0, 1, 4_000_000_000])
def test_a_seeded_chain_draws_the_same(seed: int) -> None:
    plain = BatchRequest(random_seed=seed)
    for key, spec in ((PLACES, ArraySpec), (DRAWS, ArraySpec), (POINTS, GraphSpec)):
        plain[key] = spec(roi=Roi((0, 0, 0), (40, 40, 40)))
    chain: Any = Drawings() + gp.RandomLocation() + gp.Pad(PLACES, None) + gp.NoiseAugment(DRAWS, clip=False)
    with build(chain + gp.Stack(2)) as pipeline:
        ours, theirs = (
            pipeline.request_batch(request) for request in (CheapCopyRequest.of(plain, random_seed=seed), plain)
        )
    np.testing.assert_array_equal(ours[PLACES].data, theirs[PLACES].data)
    assert str(ours[POINTS]) == str(theirs[POINTS])
