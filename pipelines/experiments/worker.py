"""One run of an experiment, by a process of its own, ``python -m scalenet_gp.pipelines.experiments.worker``."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from scalenet_gp.errors import ScaleNetError
from scalenet_gp.kernels import keep_freed_memory, set_deterministic_mkl
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import resolve_sources, sources_of
from scalenet_gp.pipelines.evaluation import final_evaluation
from scalenet_gp.pipelines.experiments.objects import compare_objects
from scalenet_gp.pipelines.process import Interrupted, ending_at_once
from scalenet_gp.pipelines.runs import Attempt, RunFacts, RunFolder, describe_machine
from scalenet_gp.pipelines.training import train
from scalenet_gp.training import peak_resident_bytes, resident_bytes

__all__ = ["do_run"]


def do_run(config: Config, run: Path, device: str | None = None, objects: Sequence[str] = ()) -> RunFacts:
    """Train, or resume, a run, then predict and evaluate it, and its objects; note in ``facts.json`` what that took.

    A run that is done is left alone. Progress is told as lines of JSON: see :class:`.JsonReport`.

    Args:
        config: the run file, with a ``data.folder``.
        run: folder of the run.
        device: name of a torch device; that of the config unless given.
        objects: names of classes, or of objects of affinities, to find and to compare.

    Raises:
        ScaleNetError, OSError, MemoryError: as the training and the final evaluation.
        Interrupted: a signal asked to stop. The same call resumes the run.
    """
    folder, volume = RunFolder(run), config.data.folder or ""
    facts = RunFacts.read(folder.facts)
    if facts.done:
        return facts
    attempt = Attempt(machine=describe_machine(), threads=torch.get_num_threads(), memory_before=resident_bytes())
    facts = facts.with_attempt(attempt)
    facts.write(folder.facts)
    begun, used = time.perf_counter(), _processor_seconds()

    def note(**more: object) -> None:
        nonlocal facts, attempt
        attempt = attempt.model_copy(update=more)
        facts = facts.with_attempt(attempt, again=True)
        facts.write(folder.facts)

    try:
        try:
            checkpoint = train(config, volume, run, device, "json")
        finally:
            note(
                training=time.perf_counter() - begun,
                training_processor=_processor_seconds() - used,
                memory_training=peak_resident_bytes(),
            )
        if sources := sources_of(config, resolve_sources(config.data, volume), "evaluate"):
            with ending_at_once(checkpoint):
                result = final_evaluation(config, volume, run, checkpoint, device)
                if objects:
                    compare_objects(config, folder, objects, sources[0])
            note(prediction=result.seconds, prediction_processor=result.processor_seconds)
    except Interrupted:
        note(ended="interrupted")
        raise
    except BaseException:
        note(ended="failed")
        raise
    note(ended="done")
    return facts


def _processor_seconds() -> float:
    """Return the processor time of this process and of those that it has waited for."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, _WHO))


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _end_with_standard_input() -> None:
    """Ask this process to stop when whoever started it is gone, which closes standard input."""

    def watch() -> None:
        while os.read(0, 4096):  # sys.stdin has a lock, which a forked process would find locked
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the run of the process's arguments; return the exit code. The last line of an error says what it is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device")
    parser.add_argument("--objects", type=lambda text: text.split(","), default=[])
    parser.add_argument("--until-input-ends", action="store_true")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; whoever started this ends it in good order
    logging.getLogger("gunpowder").setLevel(logging.CRITICAL)  # it logs every error that is raised too
    keep_freed_memory()
    set_deterministic_mkl()
    torch.set_num_threads(options.threads)
    if options.until_input_ends:
        _end_with_standard_input()
    try:
        do_run(Config.read(options.file), options.run, options.device, options.objects)
    except Exception as error:
        traceback.print_exception(error)
        known = isinstance(error, ScaleNetError | OSError | MemoryError)
        message = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(f"{message if known else f'{type(error).__name__}: {message}'}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
