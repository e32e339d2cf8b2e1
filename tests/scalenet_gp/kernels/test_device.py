"""The device that a network runs on: one that the machine has, or an error."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from scalenet_gp.kernels.device import choose_device

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@without_gpu
def test_without_a_gpu_it_is_the_processor() -> None:
    assert choose_device() == torch.device("cpu")


@with_gpu
def test_with_a_gpu_it_is_the_gpu() -> None:
    assert choose_device().type == "cuda"
    assert choose_device("cuda:0") == torch.device("cuda:0")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cpu", torch.device("cpu")])
def test_the_processor_is_always_there(name: str | torch.device) -> None:
    assert choose_device(name) == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
@without_gpu
def test_a_gpu_that_is_asked_for_by_name_is_not_replaced(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' was asked for by name and is not here; here are cpu$"):
        choose_device(name)


def test_a_gpu_beyond_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'cuda:99' was asked for by name and is not here; here are cpu"):
        choose_device("cuda:99")


@pytest.mark.parametrize("name", ["banana", "", "cuda:x", "cuda:-1"])
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is not a device; here are cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["mps", "xpu", "hpu", "vulkan", "meta"])
def test_a_device_on_which_nothing_can_be_computed_here_is_refused(name: str) -> None:
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is such a device")
    with pytest.raises(ValueError, match=rf"device '{name}' cannot be used here \((?s:.*)\); here are cpu"):
        choose_device(name)


FAULTS = """
import resource, torch
from scalenet_gp.kernels.device import keep_freed_memory

def fewest(rounds):
    for size in (2**26, 3 * 2**27):  # 256 MiB and 1.5 GiB
        pages = []
        for _ in range(rounds[size]):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.empty(size)[:: 2**10] = 0  # a value of every page
            pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        print(min(pages))

fewest({2**26: 1, 3 * 2**27: 1})
assert keep_freed_memory()
fewest({2**26: 6, 3 * 2**27: 4})  # the first ones may leave gaps that are too small
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    """Tensors, each let go of before the next: the fewest pages that the system has to clear for one of each size."""
    run = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    pages = [int(line) for line in run.stdout.splitlines()]
    assert len(pages) == 4
    assert min(pages[:2]) > 1000 > 100 > max(pages[2:])


PRODUCTS = """
import sys
import torch
from funlib.geometry import Roi
from scalenet_gp import build_scalenet
from scalenet_gp.kernels.device import set_deterministic_mkl
from scalenet_gp.inference import SlabbedInference

set_deterministic_mkl()
torch.manual_seed(0)
net = build_scalenet([{"top_resolution": (size,) * 3, "base_nc": 6} for size in (128, 32, 8)]).eval()
sweep = SlabbedInference.of(net, {"2_output": Roi((0, 0, 0), (512, 256, 256))})
inputs = {name: torch.rand(1, tensor.channels, *tensor.shape) for name, tensor in sweep.plan.input_tensors.items()}
made = []
with torch.inference_mode():
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        made.append(sweep.run(net, inputs)["2_output"])
assert all(torch.equal(made[0], other) for other in made[1:])
"""


def test_the_number_of_threads_changes_no_bit_of_a_prediction():
    result = subprocess.run([sys.executable, "-c", PRODUCTS], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
