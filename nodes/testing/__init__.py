"""Sources for tests of own gunpowder nodes, whose content tells the world position of each voxel."""

from scalenet_gp.nodes.testing.ramps import Content, Field, RampSource, label_ramp, ramp

__all__ = ["Content", "Field", "RampSource", "label_ramp", "ramp"]
