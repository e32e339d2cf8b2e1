"""Multi-scale networks for 3D electron microscopy, and the gunpowder nodes that feed them.

Names are imported when they are first used, so that ``import scalenet_gp`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scalenet_gp._version import __version__

if TYPE_CHECKING:
    from scalenet_gp.errors import (
        ArgumentError,
        CheckpointError,
        ConfigError,
        DataError,
        GraphError,
        LatticeError,
        PipelineError,
        ScaleNetError,
        TrainingDivergedError,
        UnknownNameError,
        VolumeFormatError,
        WorkerFaultError,
    )
    from scalenet_gp.geometry import World
    from scalenet_gp.graph import Node, Plan, TensorSpec
    from scalenet_gp.leibnet import LeibNet
    from scalenet_gp.networks import build_attentive_scalenet, build_autoencoder, build_scalenet, build_unet

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "GraphError",
    "LatticeError",
    "LeibNet",
    "Node",
    "PipelineError",
    "Plan",
    "ScaleNetError",
    "TensorSpec",
    "TrainingDivergedError",
    "UnknownNameError",
    "VolumeFormatError",
    "WorkerFaultError",
    "World",
    "__version__",
    "build_attentive_scalenet",
    "build_autoencoder",
    "build_scalenet",
    "build_unet",
]

_ROOMS = {
    "LeibNet": "leibnet",
    "Node": "graph",
    "Plan": "graph",
    "TensorSpec": "graph",
    "World": "geometry",
    "build_attentive_scalenet": "networks",
    "build_autoencoder": "networks",
    "build_scalenet": "networks",
    "build_unet": "networks",
}
"""The room of each name; all others are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOMS.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
