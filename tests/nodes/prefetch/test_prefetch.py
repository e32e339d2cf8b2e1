"""Prefetch: the same batches whatever the workers, and workers that fail, die, hang and end."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gunpowder as gp
import numpy as np
import pytest
import torch
from gunpowder import ArraySpec, Batch, BatchFilter, BatchRequest, GraphSpec, PipelineRequestError, Roi, build

from scalenet_gp.errors import WorkerFaultError
from scalenet_gp.nodes.chains.building import build_chain
from scalenet_gp.nodes.prefetch import prefetch as prefetch_module
from scalenet_gp.nodes.prefetch.prefetch import Prefetch
from scalenet_gp.nodes.prefetch.stack import Stack
from scalenet_gp.nodes.requests import batch_seed
from tests.nodes.prefetch.worker_nodes import (
    DRAWS,
    DTYPES,
    EMPTY,
    OBJECT,
    PLACES,
    POINTS,
    VALUE,
    Drawings,
    DrawValue,
    Exotic,
    Mishap,
    Unpicklable,
)

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

SEED = 5
SMALL = Roi((0, 0, 0), (64, 48, 40))


@pytest.fixture(autouse=True)
def nothing_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the volumes that other tests read in this process: the chains here read none, and may be forked."""
    monkeypatch.setattr(prefetch_module, "bulk_reads_begun", lambda: False)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGCHLD)
    yield
    assert multiprocessing.active_children() == []
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in children()]
    assert [c for c in commands if "multiprocessing." not in c and "warm_python" not in c] == []
    assert signal.getsignal(signal.SIGCHLD) in (handler, torch_handler())


def torch_handler() -> Any:
    """The handler that DataLoader leaves behind, as it always does."""
    handler = signal.getsignal(signal.SIGCHLD)
    return handler if getattr(handler, "__module__", "").startswith("torch.") else None


def children(of: int | str = "self") -> list[int]:
    found = []
    for children in Path(f"/proc/{of}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, children.read_text().split())
    return found


def request(seed: int | None = None, roi: Roi = SMALL) -> BatchRequest:
    wanted = BatchRequest(random_seed=seed)
    for key in (PLACES, DRAWS):
        wanted[key] = ArraySpec(roi=roi)
    wanted[VALUE] = ArraySpec(nonspatial=True)
    wanted[POINTS] = GraphSpec(roi=roi)
    return wanted


def chain(node: BatchFilter | None = None) -> gp.Pipeline:
    """Random places, with noise; ``node`` is the last."""
    nodes = Drawings() + gp.RandomLocation() + gp.NoiseAugment(DRAWS, clip=False) + DrawValue()
    return nodes if node is None else nodes + node


def draw(node: Prefetch, count: int, upstream: gp.Pipeline | None = None, seed: int | None = None) -> list[Batch]:
    with build_chain((upstream or chain()) + node) as pipeline:
        return [pipeline.request_batch(request(seed)) for _ in range(count)]


def assert_same(ours: Batch, theirs: Batch) -> None:
    assert set(ours.arrays) == set(theirs.arrays)
    assert set(ours.graphs) == set(theirs.graphs)
    for key, array in theirs.arrays.items():
        assert ours[key].spec == array.spec
        assert ours[key].attrs == array.attrs
        assert ours[key].data.dtype == array.data.dtype
        assert ours[key].data.shape == array.data.shape
        assert ours[key].data.tobytes() == array.data.tobytes()
    for key, graph in theirs.graphs.items():
        assert ours[key].spec == graph.spec
        assert str(ours[key]) == str(graph)
        assert [node.attrs["name"] for node in ours[key].nodes] == [node.attrs["name"] for node in graph.nodes]


# Equal batches


def by_hand(count: int) -> list[Batch]:
    """The batches that plain gunpowder makes of plain requests with the documented seeds."""
    return [seeded(k) for k in range(count)]


def seeded(number: int, roi: Roi = SMALL) -> Batch:
    seed = batch_seed(SEED, number)
    with build(chain()) as pipeline:
        torch.manual_seed(seed)
        return pipeline.request_batch(request(seed, roi))


@pytest.mark.parametrize(
    ("workers", "start_method"),
    [
        (0, None),
        (1, None),
        (2, "fork"),
        (3, "fork"),
        pytest.param(1, "forkserver", marks=pytest.mark.slow),
    ],
)
def test_a_batch_depends_on_the_seed_and_its_number_alone(workers: int, start_method: Any) -> None:
    assert_batches_of_the_seed(workers, start_method)


@pytest.mark.usefixtures("warm_workers")
def test_spawned_workers_make_these_batches_too() -> None:
    assert_batches_of_the_seed(1, "spawn")


def assert_batches_of_the_seed(workers: int, start_method: Any) -> None:
    node = Prefetch(workers, seed=SEED, start_method=start_method, prefetch_factor=3)
    batches = draw(node, 7)
    for ours, theirs in zip(batches, by_hand(7), strict=True):
        assert_same(ours, theirs)
    places = {str(batch[PLACES].attrs) for batch in batches}
    assert len(places) == len({batch[VALUE].data.item() for batch in batches}) == 7


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_can_begin_or_go_on_at_any_batch(workers: int) -> None:
    theirs = by_hand(10)
    assert_same(draw(Prefetch(workers, seed=SEED, first=8), 2)[1], theirs[9])
    node = Prefetch(workers, seed=SEED)
    with build_chain(chain() + node) as pipeline:
        for number in (4, 4, 9, 0):
            node.next_batch = number
            assert_same(pipeline.request_batch(request()), theirs[number])
            assert node.next_batch == number + 1
        assert_same(pipeline.request_batch(request()), theirs[1])
    with build_chain(chain() + node) as pipeline:  # a new run
        assert_same(pipeline.request_batch(request()), theirs[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_that_share_batches_make_disjoint_samples_which_are_those_of_one(workers: int) -> None:
    def samples(count: int, first: int = 0, begin: int = 0) -> list[list[tuple[Any, ...]]]:
        """The place and the value of each sample of batches ``begin`` to 5."""
        wanted = BatchRequest({PLACES: ArraySpec(roi=SMALL), VALUE: ArraySpec(nonspatial=True)})
        node = Prefetch(workers, seed=SEED)
        with build_chain(Drawings() + gp.RandomLocation() + DrawValue() + Stack(count, first) + node) as pipeline:
            node.next_batch = begin
            batches = [pipeline.request_batch(wanted) for _ in range(begin, 5)]
        return [list(zip(b[PLACES].attrs["begin"], b[VALUE].data.tolist(), strict=True)) for b in batches]

    alone = samples(4)
    ranks = [samples(2, first=2 * rank) for rank in range(2)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == alone
    assert len({sample for batch in alone for sample in batch}) == 4 * 5
    assert samples(2, first=2, begin=3) == ranks[1][3:]  # a run that goes on


@pytest.mark.parametrize("workers", [0, 1])
def test_without_a_seed_the_requests_seed_is_the_runs(workers: int) -> None:
    runs = [draw(Prefetch(workers), 2, seed=17) for _ in range(2)]
    for ours, theirs in zip(*runs, strict=True):
        assert_same(ours, theirs)
    assert runs[0][0][VALUE].data != runs[0][1][VALUE].data
    other = draw(Prefetch(workers), 2, seed=18)
    assert other[0][VALUE].data != runs[0][0][VALUE].data
    ignored = draw(Prefetch(workers, seed=SEED), 2, seed=18)
    assert_same(ignored[1], by_hand(2)[1])


@pytest.mark.parametrize("workers", [0, 1])
def test_without_any_seed_one_is_drawn_which_repeats_the_run(workers: int) -> None:
    node = Prefetch(workers)
    assert node.seed is None
    with build_chain(chain() + node) as pipeline:
        batches = [pipeline.request_batch(request()) for _ in range(2)]
        seed = node.seed
    again = draw(Prefetch(workers, seed=seed), 2)
    for ours, theirs in zip(batches, again, strict=True):
        assert_same(ours, theirs)
    assert draw(node, 1)[0][VALUE].data != batches[0][VALUE].data


@pytest.mark.parametrize("seeds", [(1, 2), (None, 2), (1, None)])
def test_requests_with_changing_seeds_are_refused(seeds: tuple[int | None, int | None]) -> None:
    first, second = seeds
    with build_chain(chain() + Prefetch()) as pipeline:
        pipeline.request_batch(request(first))
        with pytest.raises(PipelineRequestError, match="Give Prefetch the seed"):
            pipeline.request_batch(request(second))


def test_global_generators_are_left_alone() -> None:
    def draws(workers: int) -> list[float]:
        with build_chain(chain() + Prefetch(workers, seed=SEED)) as pipeline:
            torch.manual_seed(3)
            pipeline.request_batch(request(8))
            return [torch.rand(()).item(), np.random.random_sample()]  # noqa: NPY002

    assert draws(0) == draws(1)


# Requests


@pytest.mark.parametrize("workers", [0, 2])
def test_another_request_gets_what_it_asks_for_and_numbers_go_on(workers: int) -> None:
    larger = Roi((80, 0, 0), (80, 80, 80))
    rois = [SMALL, SMALL, larger, larger, SMALL]
    theirs = [seeded(number, roi) for number, roi in enumerate(rois)]
    with build_chain(chain() + Prefetch(workers, seed=SEED)) as pipeline:
        for number, roi in enumerate(rois):
            wanted = request(23, roi)
            assert_same(pipeline.request_batch(wanted), theirs[number])
            assert wanted == request(roi=roi)
            assert wanted.random_seed == 23


def test_every_kind_of_array_arrives_as_it_was() -> None:
    source = Exotic()
    wanted = BatchRequest({key: ArraySpec(nonspatial=True) for key in source.keys.values()})
    with build_chain(source + Prefetch()) as pipeline:
        theirs = pipeline.request_batch(wanted)
    with build_chain(source + Prefetch(1)) as pipeline:
        ours = pipeline.request_batch(wanted)
    assert (ours.loss, ours.iteration) == (0.5, 11)
    for name in DTYPES:
        key = source.keys[name]
        assert ours[key].data.dtype == theirs[key].data.dtype
        np.testing.assert_array_equal(ours[key].data, theirs[key].data)
        assert ours[key].attrs == {"record": {"name": name}}
        assert name == OBJECT or ours[key].data.flags.writeable
    assert ours[source.keys[EMPTY]].data.shape == (0, 3)


def test_timings_of_the_workers_arrive() -> None:
    stats = draw(Prefetch(1), 1)[0].profiling_stats
    assert stats.get_timing_summary("NoiseAugment", "process").counts() == 1
    assert stats.get_timing_summary("Prefetch").counts() == 1


# Failing, dying, hanging


def failing(mishap: str, start_method: Any = "fork", workers: int = 2, timeout: float = 60) -> str:
    """The message when the third batch goes wrong."""
    node = Prefetch(workers, seed=SEED, start_method=start_method, timeout=timeout)
    kind = TimeoutError if mishap == "hang" else ChildProcessError
    begun = time.monotonic()
    with pytest.raises(kind) as caught:
        draw(node, 3, chain(Mishap(mishap, SEED, 2)))
    assert node.next_batch == 0
    assert time.monotonic() - begun < 60
    return str(caught.value)


def test_a_node_that_raises_ends_the_run_with_its_traceback_and_request() -> None:
    message = failing("raise")
    assert "failed at batch 2 in Mishap: LookupError: the moon is missing" in message
    assert 'raise LookupError("the moon is missing")' in message
    assert "DRAWS: ROI: [0:64, 0:48, 0:40]" in message


@pytest.mark.parametrize(("mishap", "ours"), [("raise", True), ("refuse", False)])
def test_a_programming_error_in_a_worker_is_told_from_one_that_a_user_can_mend(mishap: str, ours: bool) -> None:
    with pytest.raises(ChildProcessError) as caught:
        draw(Prefetch(1, seed=SEED), 1, chain(Mishap(mishap, SEED, 0)))
    assert isinstance(caught.value, WorkerFaultError) == ours


def test_in_process_errors_are_raised_as_they_are() -> None:
    upstream = chain(Mishap("raise", SEED, 0))
    with (
        pytest.raises(LookupError, match=r"^the moon is missing"),
        build_chain(upstream + Prefetch(seed=SEED)) as pipeline,
    ):
        pipeline.request_batch(request())


# the news of a death may arrive while Python deletes something, where nobody can catch it; the next look finds it
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("mishap", "text"),
    [
        ("SIGKILL", r"was killed by SIGKILL \(.*memory"),
        ("SIGSEGV", "was killed by SIGSEGV"),
        ("exit", "exited with code 3"),
    ],
)
def test_a_worker_that_dies_is_named_with_its_batch(mishap: str, text: str) -> None:
    message = failing(mishap)
    assert re.search(rf"worker \d \(pid \d+\) {text}.* while making batch 2 \(", message)
    assert "Its request: \n\tPLACES: ROI: [0:64, 0:48, 0:40]" in message


@pytest.mark.slow
def test_a_worker_that_was_not_forked_is_named_too() -> None:
    assert "SIGKILL" in failing("SIGKILL", "forkserver", workers=1)


def test_a_worker_that_hangs_is_named() -> None:
    message = failing("hang", timeout=2)
    assert "batch 2 has not come within 2 s: worker 0 (pid" in message
    assert "is making batch 2 (for " in message
    assert "DRAWS: ROI: [0:64, 0:48, 0:40]" in message


def test_a_death_disturbs_nothing_downstream_and_is_reported_by_the_next_request() -> None:
    with build_chain(chain() + Prefetch(2, seed=SEED)) as pipeline:
        pipeline.request_batch(request())
        worker = multiprocessing.active_children()[0]
        worker.kill()
        worker.join()
        time.sleep(0.1)  # a handler that raises would have done so by now
        with pytest.raises(PipelineRequestError, match="was killed by SIGKILL"):
            pipeline.request_batch(request())


class Boom(BatchFilter):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def setup(self) -> None:
        pass

    def process(self, batch: Batch, request: BatchRequest) -> None:
        raise self.error


@pytest.mark.parametrize("error", [ArithmeticError("boom"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_an_exception_downstream_ends_the_workers(error: BaseException) -> None:
    pipeline = chain() + Prefetch(2, seed=SEED) + Boom(error)
    for _ in range(2):  # and the pipeline can be built again
        with pytest.raises(type(error)), build_chain(pipeline) as built:
            built.request_batch(request())
        assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    "end",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_workers_end_with_their_parent(end: signal.Signals, warm_executable: str, tmp_path: Path) -> None:
    script = """
        from tests.nodes.prefetch.test_prefetch import *
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
        with build(chain(Mishap("hang", SEED, 3, Path(sys.argv[1]))) + Prefetch(2, seed=SEED)) as pipeline:
            for _ in range(4):
                pipeline.request_batch(request())
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [warm_executable, "-c", textwrap.dedent(script), str(tmp_path)]
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        time.sleep(0.5)
        parent.send_signal(end)
        parent.wait(timeout=60)
        workers = [int(path.name) for path in tmp_path.iterdir()]
        wait_for(lambda: not any(is_running(pid) for pid in workers))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


@contextmanager
def running(python: str, script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process with a script, which leads a group of its own: its number is the one that the script knows."""
    script = "from tests.nodes.prefetch.test_prefetch import *\n" + textwrap.dedent(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command, pipe = [python, "-c", script, *arguments], subprocess.PIPE
    leader = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
    with leader:
        try:
            yield leader
        finally:
            with suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGKILL)


@pytest.mark.parametrize(("start_method", "workers"), [("fork", 2), pytest.param("spawn", 1, marks=pytest.mark.slow)])
def test_what_a_scheduler_signals_to_all_processes_is_for_the_parent_alone(
    start_method: str, workers: int, warm_executable: str
) -> None:
    """Signals to the group while workers start, and while they work: all batches still come, from the same workers.

    Spawned workers take Python itself: those of ``warm_executable`` would be of another group.
    """
    script = """
        from scalenet_gp.pipelines.process.signals import stop_requested
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
        multiprocessing.set_executable(sys.argv[3])
        node = Prefetch(int(sys.argv[2]), seed=SEED, start_method=sys.argv[1])
        with stop_requested() as received, build(chain() + node) as pipeline:
            print(os.getpid(), flush=True)
            first = pipeline.request_batch(request())
            helpers = children()
            print("working", flush=True)
            sys.stdin.readline()
            batches = [pipeline.request_batch(request()) for _ in range(12)]  # more than are made ahead
            print(received().name, children() == helpers, all(map(is_running, helpers)), flush=True)
            print(batches[-1][VALUE].data.item(), flush=True)
    """
    helpers = workers + (start_method == "spawn")  # one is the resource tracker
    with running(warm_executable, script, start_method, str(workers), sys.executable) as leader:
        assert leader.stdin is not None
        assert leader.stdout is not None
        group = int(leader.stdout.readline())
        wait_for(lambda: len(children(group)) == helpers)
        os.killpg(group, signal.SIGTERM)
        assert leader.stdout.readline() == "working\n"
        time.sleep(0.5)  # Python handles signals that wait together by their numbers, not in the order they came in
        os.killpg(group, signal.SIGUSR1)
        os.killpg(group, signal.SIGINT)
        output, _ = leader.communicate("go on\n", timeout=120)
    assert output.splitlines() == ["SIGTERM True True", str(seeded(12)[VALUE].data.item())]
    assert leader.returncode == 0


def test_a_process_that_ends_without_closing_anything_ends_its_workers(warm_executable: str) -> None:
    """multiprocessing would send them SIGTERM, which they ignore, and wait."""
    script = """
        running = build(chain() + Prefetch(2, seed=SEED))
        running.__enter__().request_batch(request())
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    """
    with running(warm_executable, script) as leader:
        output, _ = leader.communicate(timeout=60)
        assert leader.returncode == 0
        workers = [int(pid) for pid in output.split()]
        assert len(workers) == 2
        wait_for(lambda: not any(is_running(pid) for pid in workers))


def wait_for(condition: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 60
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Resources


def resident() -> int:
    """The memory of this process and its workers in bytes, shared pages divided among their holders.

    Without that of files: the share in a library grows when any other process that has it ends.
    """
    total = 0
    for pid in [os.getpid(), *children()]:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += 1024 * sum(int(n) for n in re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB", rollup, re.MULTILINE))
    return total


def test_nothing_grows_over_300_batches() -> None:
    held, files, shared = [], [], []
    large = Roi((0, 0, 0), (256, 256, 256))
    with build_chain(chain() + Prefetch(2, seed=SEED)) as pipeline:
        for number in range(300):
            pipeline.request_batch(request(roi=large))
            if number % 30 == 29:
                held.append(resident())
                files.append(sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in [os.getpid(), *children()]))
                shared.append(len(list(Path("/dev/shm").iterdir())))
    batch_size = 2 * 8 * 32**3
    assert max(held[5:]) - max(held[:5]) < 40 * batch_size, held  # it is 150 if none is freed
    assert max(files[1:]) <= files[0] + 24, files
    assert max(shared) <= shared[0] + 6, shared


# Starting


def test_fork_is_refused_after_bulk_reads_and_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch_module, "bulk_reads_begun", lambda: True)
    with pytest.raises(RuntimeError, match="'fork', but this process has read volumes"):
        draw(Prefetch(1, start_method="fork"), 1)
    with pytest.raises(TypeError, match=r"Unpicklable cannot be .* by 'spawn': .*lambda"):
        draw(Prefetch(1), 1, chain(Unpicklable()))


def test_a_chain_that_cannot_be_pickled_can_be_forked() -> None:
    assert len(draw(Prefetch(1), 1, chain(Unpicklable()))) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"workers": -1}, "workers is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"first": -2}, "first is -2"),
        ({"prefetch_factor": 0}, "prefetch_factor is 0"),
        ({"timeout": 0}, "timeout is 0"),
        ({"start_method": "thread"}, "start_method is 'thread'; this system knows 'fork'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Prefetch(**arguments)


def test_errors_pass_through_gunpowders_build() -> None:
    with (
        pytest.raises(PipelineRequestError, match="moon"),
        build(chain(Mishap("raise", SEED, 0)) + Prefetch(1, seed=SEED)) as pipeline,
    ):
        pipeline.request_batch(request())
