"""World units, exact lengths and lattices: integers inside, nanometers at the border."""

from scalenet_gp.geometry.snapping import snap_to_lattice
from scalenet_gp.geometry.world import Length, World, common_unit, exact, exact_size, format_size

__all__ = ["Length", "World", "common_unit", "exact", "exact_size", "format_size", "snap_to_lattice"]
