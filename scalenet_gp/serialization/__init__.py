"""Files and states: atomic writes, safetensors, states as plain values and tensors."""

from scalenet_gp.serialization.atomic_files import atomic_write, naming_full_disk
from scalenet_gp.serialization.safetensors_files import CHECKSUMS, open_safetensors, serialize_tensors
from scalenet_gp.serialization.state_serialization import flatten_state, unflatten_state
from scalenet_gp.serialization.versions import package_versions

__all__ = [
    "CHECKSUMS",
    "atomic_write",
    "flatten_state",
    "naming_full_disk",
    "open_safetensors",
    "package_versions",
    "serialize_tensors",
    "unflatten_state",
]
