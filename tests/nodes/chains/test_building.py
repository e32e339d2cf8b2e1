"""Errors of a node chain arrive as they were raised."""

import gunpowder as gp
import pytest
from gunpowder.producer_pool import WorkersDied

from scalenet_gp.nodes.chains.building import build_chain

KEY = gp.ArrayKey("RUNNING")


class Faulty(gp.BatchProvider):
    """Raises an error where it is told to."""

    def __init__(self, error, where):
        self.error, self.where = error, where

    def setup(self):
        self.provides(KEY, gp.ArraySpec(roi=gp.Roi((0,), (8,)), voxel_size=(1,)))
        if self.where == "setup":
            raise self.error

    def provide(self, request):
        raise self.error

    def teardown(self):
        if self.where == "teardown":
            raise self.error


class Passing(gp.BatchFilter):
    def process(self, batch, request):
        pass


def requested(chain, shape=8):
    with build_chain(chain) as pipeline:
        pipeline.request_batch(gp.BatchRequest({KEY: gp.ArraySpec(roi=gp.Roi((0,), (shape,)))}))


def built(chain):
    with build_chain(chain):
        pass


@pytest.mark.parametrize("where", ["setup", "provide", "teardown"])
@pytest.mark.parametrize("error", [ValueError("one"), OSError("two"), KeyError("three")], ids=repr)
def test_what_a_node_raises_arrives_as_it_is(where, error):
    chain = Faulty(error, where) + Passing() + Passing()
    with pytest.raises(type(error)) as raised:
        (built if where == "teardown" else requested)(chain)
    assert raised.value is error
    assert raised.value.__suppress_context__


def test_what_gunpowder_asserts_is_a_value_error():
    with pytest.raises(ValueError, match=r"gunpowder refuses the request: .* outside of my ROI"):
        requested(Faulty(None, None) + Passing(), shape=9)


def test_a_worker_that_was_killed_is_named():
    with pytest.raises(ChildProcessError, match="a worker process died"):
        requested(Faulty(WorkersDied(), "provide") + Passing())


def test_what_a_worker_raised_arrives_as_text():
    with pytest.raises(ChildProcessError, match="a worker process failed: ValueError: what is wrong"):
        requested(Faulty(ValueError("what is wrong"), "provide") + gp.PreCache(cache_size=1, num_workers=1))


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()], ids=repr)
def test_what_is_raised_beside_the_chain_passes(error):
    with pytest.raises(type(error)), build_chain(Faulty(None, None) + Passing()):
        raise error
