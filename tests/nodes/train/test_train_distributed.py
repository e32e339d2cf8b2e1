"""Training by several processes, from sample streams to weights, against one process that does all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gunpowder as gp
import numpy as np
import pytest
import torch

from scalenet_gp import build_unet
from scalenet_gp.losses import CrossEntropyDice
from scalenet_gp.nodes.chains.building import build_chain
from scalenet_gp.nodes.prefetch.prefetch import Prefetch
from scalenet_gp.nodes.prefetch.stack import Stack
from scalenet_gp.nodes.requests import request_generator
from scalenet_gp.training import ComputeConfig, Optimization, TrainingState
from scalenet_gp.training.distributed import ProcessGroup, distributed_context

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

ROOT = Path(__file__).parents[3]
SIZE, BATCHES, ACCUMULATE = 2, 8, 2
RAW, TARGET, MASK = gp.ArrayKey("RAW"), gp.ArrayKey("TARGET"), gp.ArrayKey("MASK")
SPOILED = (5, 1)
"""The batch and the sample in it that is not finite."""


class Noise(gp.BatchProvider):
    """Samples that are the request's random numbers; masks leave out another share of each."""

    def setup(self) -> None:
        for key in (RAW, TARGET, MASK):
            self.provides(key, gp.ArraySpec(gp.Roi((-800,) * 2, (1600,) * 2), gp.Coordinate((8, 8)), dtype=np.float32))

    def provide(self, request: gp.BatchRequest) -> gp.Batch:
        batch = gp.Batch()
        draws = request_generator(request, "noise")
        share = draws.random()
        for key, spec in request.array_specs.items():
            data = draws.random((1, *(spec.roi.shape / 8)), dtype=np.float32)
            if key != RAW:
                data = (data < (0.5 if key == TARGET else share)).astype(np.float32)
            served = self.spec[key].copy()
            served.roi = spec.roi
            batch[key] = gp.Array(data, served)
        return batch


def train(ranks: ProcessGroup, samples: int, workers: int) -> dict[str, Any]:
    """The results of training on batches of which this rank makes ``samples`` samples each."""
    torch.manual_seed(0)
    net = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)], norm_layer=None)
    plan = net.plan({"output": gp.Roi((0, 0), (64, 64))})
    optimization = Optimization(
        optimizer=partial(torch.optim.SGD, lr=0.5), accumulate=ACCUMULATE, clip_norm=0.3, ema_decay=0.9
    )
    state = TrainingState(net, optimization, ComputeConfig(device="cpu"), 1, ranks)
    request = gp.BatchRequest({key: gp.ArraySpec(roi=plan.outputs["output"]) for key in (TARGET, MASK)})
    request[RAW] = gp.ArraySpec(roi=plan.inputs["input"])
    seen, steps, losses = [], [], []
    prefetch = Prefetch(workers, seed=3)
    with build_chain(Noise() + Stack(samples, first=ranks.rank * samples) + prefetch) as pipeline:
        for number in range(BATCHES):
            batch = pipeline.request_batch(request)
            raw, target, mask = (torch.from_numpy(batch[key].data.copy()) for key in (RAW, TARGET, MASK))
            seen.append(raw)
            if number == SPOILED[0] and (mine := SPOILED[1] - ranks.rank * samples) in range(samples):
                raw = raw.clone()
                raw[mine] = torch.nan
            state.begin()
            made = ranks.gather(state.forward({"input": raw}, plan)["output"])
            finite = bool(made.isfinite().all())
            loss = made.sum() * torch.nan
            if finite:
                loss = CrossEntropyDice()(made, ranks.gather(target), ranks.gather(mask))
            step = state.advance(loss)
            losses.append(float(loss.detach()))
            steps.append((step.taken, step.skipped))
    return {
        "weights": net.state_dict(),
        "average": dict(state.eval_net.state_dict()),
        "seen": torch.stack(seen),
        "steps": steps,
        "losses": losses,
    }


def run_as_rank(folder: Path) -> None:
    """Train as one rank of two, and write its results to ``folder``: the program of :func:`results`."""
    with distributed_context("cpu") as ranks:
        torch.save(train(ranks, 1, workers=1), folder / f"{ranks.rank}.pt")


@pytest.fixture(scope="module")
def results(warm_executable: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of both ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "script.py"
    script.write_text(
        "import sys, pathlib\nfrom tests.nodes.train.test_train_distributed import run_as_rank\n"
        "run_as_rank(pathlib.Path(sys.argv[1]))\n"
    )
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    launch = [warm_executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(SIZE)]
    done = subprocess.run(
        [*launch, str(script), str(folder)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(SIZE)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """The results of one process that makes all the samples."""
    return train(ProcessGroup(), SIZE, workers=0)


def test_each_rank_sees_samples_of_its_own_which_together_are_those_of_one_process(
    results: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    together = torch.cat([found["seen"] for found in results], dim=1)
    assert torch.equal(together, alone["seen"])
    assert len({sample.numpy().tobytes() for batch in together for sample in batch}) == SIZE * BATCHES


def test_weights_are_equal_on_every_rank_to_the_bit(results: list[dict[str, Any]]) -> None:
    for part in ("weights", "average"):
        for name, tensor in results[0][part].items():
            assert torch.equal(tensor, results[1][part][name]), name


def test_two_processes_come_to_the_weights_of_one(results: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    torch.manual_seed(0)
    beginning = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)], norm_layer=None).state_dict()
    assert max(float((alone["weights"][name] - tensor).abs().max()) for name, tensor in beginning.items()) > 0.05
    for part in ("weights", "average"):
        for name, tensor in alone[part].items():
            torch.testing.assert_close(results[0][part][name], tensor, rtol=0, atol=1e-5)
    for found in results:
        np.testing.assert_allclose(found["losses"], alone["losses"], rtol=1e-5)


def test_a_step_that_is_not_finite_on_one_rank_is_skipped_on_all(
    results: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    taken, skipped, within = (True, False), (False, True), (False, False)
    for found in (*results, alone):
        assert found["steps"] == [within, taken, within, taken, within, skipped, within, taken]
        assert np.isnan(found["losses"]).tolist() == [number == SPOILED[0] for number in range(BATCHES)]
