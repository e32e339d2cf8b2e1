"""The folder of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scalenet_gp.pipelines.experiments.plan import Cell

__all__ = ["ExperimentFolder"]


@dataclass(frozen=True, slots=True)
class ExperimentFolder:
    """The folder of an experiment, which may not exist yet.

    Attributes:
        path: the folder.

    Example:
        >>> str(ExperimentFolder(Path("first")).run(Cell("unet", "demo", 0)))
        'first/runs/unet/demo/0'
    """

    path: Path

    @property
    def plan(self) -> Path:
        """The plan, JSON."""
        return self.path / "experiment.json"

    def run(self, cell: Cell) -> Path:
        """Return the folder of a run."""
        return self.path / "runs" / cell.model / cell.data / str(cell.seed)

    def file(self, cell: Cell) -> Path:
        """Return the run file of a run."""
        return self.path / "files" / cell.model / cell.data / f"{cell.seed}.yaml"

    def log(self, cell: Cell) -> Path:
        """Return the file for what the process of a run tells."""
        return self.path / "logs" / cell.model / cell.data / f"{cell.seed}.log"
