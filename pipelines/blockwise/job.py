"""The job file of a task: all that a worker needs, which shares only the file system with other processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import ValidationError

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Options, describe_problems
from scalenet_gp.pipelines.blockwise.task import WorkFolder
from scalenet_gp.serialization import atomic_write

__all__ = ["BlockJob"]

_VERSION: Literal[1] = 1


class BlockJob(Options):
    """Abstract: a job that makes a volume, or a group of them, block by block. Paths are absolute.

    Attributes:
        version: version of the file's format.
        kind: kind of the job.
        output: the file or group to make.
    """

    without_voxels: ClassVar[tuple[str, ...]] = ("output", "block")
    """Fields that change no voxel, at any depth: a job that differs in them resumes."""

    version: Literal[1] = _VERSION
    kind: str
    output: Path

    @property
    def folder(self) -> WorkFolder:
        """The folder of the unfinished work."""
        return WorkFolder(self.output)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the job in a file.

        Raises:
            FileNotFoundError: there is no such file.
            ConfigError: the file has another format version, or is another kind of job.
        """
        try:
            content = json.loads(path.read_bytes())
            return cls.model_validate(content)
        except ValidationError as error:
            problems = describe_problems(error, cls, content, "the job")
            raise ConfigError(
                f"{path} is not a job that this version of the program began: {'; '.join(problems)}; remove the folder "
                f"{path.parent} to begin again"
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"{path} is not readable: {error}; remove the folder {path.parent} to begin again"
            ) from error

    def write(self) -> None:
        """Write the job to its folder, whole or not at all."""
        with atomic_write(self.folder.job) as beside:
            beside.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    def resumed(self) -> Self | None:
        """Return the job as it began; None if there is no unfinished work.

        Raises:
            ConfigError: the unfinished work is another one.
        """
        folder = self.folder
        if not (folder.job.exists() and folder.group.exists()):
            return None
        begun = type(self).read(folder.job)
        if differences := begun.differences(self):
            raise ConfigError(
                f"{folder.path} is unfinished work of another kind, there and here: {'; '.join(differences)}. Resume "
                "it with its own settings, remove the folder, or choose another output"
            )
        return begun

    def differences(self, other: Self) -> list[str]:
        """Return the fields that change voxels and differ, each as ``voxel_size: [8] and [9]``."""
        mine, others = (self._compared(job.model_dump(mode="json")) for job in (self, other))
        return [
            f"{name}: {json.dumps(mine.get(name))} and {json.dumps(others.get(name))}"
            for name in mine | others
            if mine.get(name) != others.get(name)
        ]

    @classmethod
    def _compared(cls, values: Mapping[str, Any], name: str = "") -> dict[str, Any]:
        """Return the values that change voxels, by their dotted names."""
        found: dict[str, Any] = {}
        for key, value in values.items():
            if key in cls.without_voxels:
                continue
            if isinstance(value, dict):
                found |= cls._compared(value, f"{name}{key}.")
            else:
                found[f"{name}{key}"] = value
        return found
