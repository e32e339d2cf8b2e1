"""A graph as a torch module, and its spec and weights on disk."""

from scalenet_gp.leibnet.files import SPEC, spec_in
from scalenet_gp.leibnet.leibnet import LeibNet

__all__ = ["SPEC", "LeibNet", "spec_in"]
