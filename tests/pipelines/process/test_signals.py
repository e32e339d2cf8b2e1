"""Signals that ask a run to end: remembered by the main thread, and told to the shell."""

import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scalenet_gp.nodes.prefetch.worker_dataset import PARENTS_SIGNALS
from scalenet_gp.pipelines.process import signals
from scalenet_gp.pipelines.process.signals import EXIT_CODES, Interrupted, stop_requested

pytestmark = pytest.mark.usefixtures("python_interrupts")


def handlers():
    return [signal.getsignal(number) for number in EXIT_CODES]


def test_workers_leave_the_same_signals_to_their_parent():
    assert set(PARENTS_SIGNALS) == set(EXIT_CODES)


@pytest.mark.parametrize("number", EXIT_CODES)
def test_a_signal_is_remembered_and_the_handlers_come_back(number):
    before = handlers()
    with stop_requested() as received:
        assert received() is None
        signal.raise_signal(number)
        assert received() is number
        signal.raise_signal(signal.SIGTERM)
        assert received() is number
    assert handlers() == before
    with stop_requested() as received:
        assert received() is None


def test_a_second_ctrl_c_is_obeyed_at_once():
    before = handlers()
    with stop_requested() as received:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert received() is signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert handlers() == before


def test_one_within_another_is_asked_alone():
    with stop_requested() as outer:
        with stop_requested() as inner:
            signal.raise_signal(signal.SIGUSR1)
        assert (outer(), inner()) == (None, signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        assert outer() is signal.SIGTERM


def test_what_a_background_job_ignores_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_requested() as received:
        signal.raise_signal(signal.SIGINT)
        assert received() is None


def test_another_thread_installs_nothing():
    def inside():
        assert threading.current_thread() is not threading.main_thread()
        with stop_requested() as received:
            return handlers(), received()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(inside).result() == (handlers(), None)


def test_an_interrupted_run_says_where_it_goes_on():
    ended = Interrupted(signal.SIGUSR1, Path("run/checkpoints/checkpoint_7.safetensors"))
    assert str(ended) == "SIGUSR1 ended the run, which resumes from run/checkpoints/checkpoint_7.safetensors"
    assert str(Interrupted(signal.SIGINT, None)) == "SIGINT ended the run before its first checkpoint"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("commands", [False, True], ids=["a script", "a command line"])
def test_the_shell_gets_the_code_after_a_whole_iteration(number, code, commands):
    """The loop of a run in a process of its own: two cheap iterations, a signal in the midst of the third."""
    script = """
        import runpy, signal, sys, time
        import typer
        module = runpy.run_path(sys.argv.pop())  # importing it would import torch, which takes seconds
        Interrupted, stop_requested = module["Interrupted"], module["stop_requested"]
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it

        def run():
            with stop_requested() as received:
                for iteration in range(1000):
                    if received() is not None:
                        break
                    if iteration == 2:
                        print("ready", flush=True)
                    while iteration == 2 and received() is None:
                        time.sleep(0.01)
                    print("done", iteration, flush=True)
                raise Interrupted(received(), None)

        app = typer.Typer()
        app.command()(run)
        app() if sys.argv.pop() == "True" else run()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(commands), signals.__file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert [run.stdout.readline() for _ in range(3)] == ["done 0\n", "done 1\n", "ready\n"]
        run.send_signal(number)
        out, errors = run.communicate(timeout=60)
    assert (out, errors, run.returncode) == ("done 2\n", "", code)
