"""How tests run: without a clock, as the machine may be busy, and reproducibly."""

import os

import pytest
import torch
from hypothesis import settings

pytest.register_assert_rewrite("scalenet_gp.testing")
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def _the_same_weights_in_any_order() -> None:
    """New weights are torch's random numbers; which those are must not depend on the tests that ran before."""
    torch.manual_seed(0)
