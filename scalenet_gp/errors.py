"""Errors that a user can mend. Every message gives the problem, its location, the value, and a right one.

Each class derives from :class:`ScaleNetError` and from the built-in error that Python's users expect, so that both
``except ScaleNetError`` and ``except ValueError`` catch it. Anything else that is raised is a programming error, ours
or that of another package. Errors of the operating system (``FileNotFoundError``, ``BlockingIOError`` and so on) and
``MemoryError`` are raised as they are.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "GraphError",
    "LatticeError",
    "PipelineError",
    "ScaleNetError",
    "TrainingDivergedError",
    "UnknownNameError",
    "VolumeFormatError",
    "WorkerFaultError",
]


class ScaleNetError(Exception):
    """The base of all errors that a user can mend.

    Example:
        >>> from scalenet_gp import build_unet
        >>> try:
        ...     build_unet((8, 8, 8), base_nc=0)
        ... except ScaleNetError as error:
        ...     print(type(error).__name__)
        ArgumentError
    """


class ArgumentError(ScaleNetError, ValueError):
    """An argument or option has another type or lies outside its range."""


class LatticeError(ScaleNetError, ValueError):
    """A length, position or ROI is not a whole number of voxels or of world units."""


class GraphError(ScaleNetError, ValueError):
    """Nodes, tensors, a plan or a network do not fit together."""


class VolumeFormatError(ScaleNetError, ValueError):
    """A file does not hold what its format promises, or a format that is not read."""


class DataError(ScaleNetError, ValueError):
    """Data cannot be used as they are: nothing is annotated, values are out of range or not finite."""


class ConfigError(ScaleNetError, ValueError):
    """A run file, or an option of the command line, is wrong or does not fit the data."""


class CheckpointError(ScaleNetError, ValueError):
    """A checkpoint or network file is damaged, of another format version, or of another network."""


class PipelineError(ScaleNetError, ValueError):
    """Arrays, requests and nodes of a gunpowder pipeline do not fit together."""


class UnknownNameError(ScaleNetError, KeyError):
    """No output, tensor, class or array has that name."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError shows the repr


class TrainingDivergedError(ScaleNetError, FloatingPointError):
    """Too many steps in a row had a loss or gradient that is not finite."""


class WorkerFaultError(ChildProcessError):
    """A worker process failed with an error that a user cannot mend: a programming error.

    It is not a :class:`ScaleNetError`. An error in a worker that a user can mend is a plain ``ChildProcessError``.
    """
