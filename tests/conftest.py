"""Settings of all tests: they are reproducible, and no time limit of Hypothesis counts, as the machine may be busy."""

import gc
import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.warm_python import WarmPython

pytest.register_assert_rewrite("scalenet_gp.testing")
# tests whose cases are many say so themselves; HYPOTHESIS_PROFILE=thorough looks further
settings.register_profile("default", deadline=None, max_examples=50)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what was imported: it is never freed, and looking through it takes long."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _imports_are_set_aside_too() -> Iterator[None]:
    """The same for what a test has imported: torch imports much when it is first needed."""
    before = len(sys.modules)
    yield
    if len(sys.modules) > before + 100:
        pytest_collection_finish()


@pytest.fixture(autouse=True)
def _the_same_weights_in_any_order() -> None:
    """New weights are torch's random numbers; which those are must not depend on the tests that ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def _warm_server() -> Iterator[WarmPython]:
    folder = Path(tempfile.mkdtemp(prefix="warm"))
    server = WarmPython(folder)
    server.wait()
    yield server
    server.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def warm_executable(_warm_server: WarmPython) -> str:
    """The path of a Python that starts with torch and the package imported, see :mod:`tests.warm_python`."""
    return str(_warm_server.executable)


@pytest.fixture
def warm_python(warm_executable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python processes of the test are those of ``warm_executable``."""
    monkeypatch.setattr(sys, "executable", warm_executable)


@pytest.fixture
def warm_workers(warm_executable: str) -> Iterator[None]:
    """Processes that multiprocessing spawns in the test are those of ``warm_executable``."""
    multiprocessing.resource_tracker.ensure_running()  # it stays, so it takes Python itself
    before = multiprocessing.spawn.get_executable()
    multiprocessing.spawn.set_executable(warm_executable)
    yield
    multiprocessing.spawn.set_executable(before)
