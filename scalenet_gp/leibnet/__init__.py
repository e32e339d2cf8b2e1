"""A graph as a torch module, and its spec and weights on disk."""

from scalenet_gp.leibnet.files import SPEC, read_network, rebuild_network, spec_in
from scalenet_gp.leibnet.leibnet import LeibNet

__all__ = ["SPEC", "LeibNet", "read_network", "rebuild_network", "spec_in"]
