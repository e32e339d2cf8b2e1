"""Arrays of a batch as tensors of a network, and back."""

from scalenet_gp.nodes.arrays.network_arrays import NetworkArrays, as_tensor, extend_request

__all__ = ["NetworkArrays", "as_tensor", "extend_request"]
