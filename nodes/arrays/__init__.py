"""Arrays of a batch as tensors of a network, and back."""

from scalenet_gp.nodes.arrays.deciding import DecidingItems
from scalenet_gp.nodes.arrays.network_arrays import NetworkArrays, as_tensor, extend_request
from scalenet_gp.nodes.arrays.sample_arrays import SampleArrays

__all__ = ["DecidingItems", "NetworkArrays", "SampleArrays", "as_tensor", "extend_request"]
