"""Tools for tests of own nodes and networks: testers that each goes through, random weights and inputs, positions.

It needs pytest, which the package itself does not require. The gunpowder part is :mod:`scalenet_gp.nodes.testing`.
"""

from scalenet_gp.testing.network_tester import NetworkCase, NetworkTester
from scalenet_gp.testing.node_tester import NodeCase, NodeTester, odd_twins
from scalenet_gp.testing.positions import voxel_centers
from scalenet_gp.testing.tensors import crop_to_roi, random_inputs, randomize

__all__ = [
    "NetworkCase",
    "NetworkTester",
    "NodeCase",
    "NodeTester",
    "crop_to_roi",
    "odd_twins",
    "random_inputs",
    "randomize",
    "voxel_centers",
]
