"""WeighMask against the product, and the faults it finds before any data."""

import numpy as np
import pytest
from gunpowder import ArrayKey, Roi

from scalenet_gp.errors import PipelineError
from scalenet_gp.nodes import WeighMask
from scalenet_gp.nodes.chains import build_chain, unwrap_errors
from tests.nodes.targets.derived_arrays import Held, provided

MASK, WEIGHTS = ArrayKey("WM_M"), ArrayKey("WM_W")


def test_every_channel_of_the_mask_is_multiplied():
    mask = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 2
    weights = np.linspace(0, 3, 12, dtype=np.float32).reshape(1, 3, 4)
    source = Held({MASK: mask, WEIGHTS: weights}, (8, 8))
    found = provided(source + WeighMask(MASK, WEIGHTS), WM_M=Roi((8, 8), (16, 24)))["WM_M"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (mask * weights)[:, 1:, 1:])


def test_what_is_not_provided_is_named():
    chain = Held({MASK: np.ones((1, 2, 2), np.uint8)}, (8, 8)) + WeighMask(MASK, WEIGHTS)
    with pytest.raises(PipelineError, match="reads WM_W, which no node"), unwrap_errors(), build_chain(chain):
        pass
