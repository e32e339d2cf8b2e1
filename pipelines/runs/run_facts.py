"""The file of facts of a run that is part of an experiment: what it took, and where it was computed."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Options, describe_problems
from scalenet_gp.serialization import atomic_write, package_versions

__all__ = ["Attempt", "RunFacts", "describe_machine"]

_PACKAGES = ("scalenet_gp", "torch", "numpy", "scipy", "gunpowder")


class Attempt(Options):
    """One process that worked on a run. Times are in seconds, memory in bytes.

    Attributes:
        machine: where and with which versions it computed: see :func:`describe_machine`.
        threads: threads that it computed with.
        training: time of the training, from the opening of the data to the last checkpoint.
        training_processor: processor time of the same, of all threads and of the processes that prepare batches.
        prediction: time of the prediction of the evaluation region.
        prediction_processor: processor time of the same.
        memory_before: memory of the process before the training, libraries included.
        memory_training: the most that it held until the end of the training; None if it does not tell of training.
        ended: ``done``, ``interrupted`` by a signal, ``failed``; ``lost`` as long as it runs, and for ever if it was
            killed.

    Example:
        >>> Attempt(machine={}, threads=1).ended
        'lost'
    """

    machine: dict[str, str]
    threads: int
    training: float | None = None
    training_processor: float | None = None
    prediction: float | None = None
    prediction_processor: float | None = None
    memory_before: int | None = None
    memory_training: int | None = None
    ended: Literal["done", "interrupted", "failed", "lost"] = "lost"


class RunFacts(Options):
    """The facts of a run.

    Attributes:
        version: version of the file's format.
        attempts: the processes that worked on it, one after the other.

    Example:
        >>> RunFacts().done
        False
    """

    version: Literal[1] = 1
    attempts: tuple[Attempt, ...] = ()

    @property
    def done(self) -> bool:
        """True if the run was trained, predicted and evaluated to its end."""
        return any(attempt.ended == "done" for attempt in self.attempts)

    @classmethod
    def read(cls, path: Path) -> RunFacts:
        """Return the facts in a file; none yet if there is no file.

        Raises:
            ConfigError: it is damaged, or of another version.
        """
        if not path.exists():
            return cls()
        try:
            content: Any = json.loads(path.read_bytes())
            return cls.model_validate(content)
        except ValidationError as error:
            problems = "; ".join(describe_problems(error, cls, content, "the file"))
            raise ConfigError(f"{path} does not hold the facts of a run: {problems}; remove it") from None
        except ValueError as error:
            raise ConfigError(f"{path} is not readable: {error}; remove it") from error

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            beside.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def with_attempt(self, attempt: Attempt, *, again: bool = False) -> RunFacts:
        """Return the facts with a further attempt, or with ``again`` the last one told anew."""
        before = self.attempts[:-1] if again else self.attempts
        return self.model_copy(update={"attempts": (*before, attempt)})


def describe_machine() -> dict[str, str]:
    """Return the processor, system and versions of packages that results depend on.

    Also the GPU if torch finds one, and the commit if the package runs from a repository of git.

    Example:
        >>> {"processor", "cores", "system", "python", "torch"} <= set(describe_machine())
        True
    """
    import torch

    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found | package_versions(_PACKAGES) | ({"commit": commit} if (commit := _commit()) else {})


def _commit() -> str:
    """Return the commit of git that the package runs from; nothing if it runs from none."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
