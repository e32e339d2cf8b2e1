"""gunpowder nodes."""

if __name__ != "scalenet_gp.nodes":
    raise ImportError(f"import scalenet_gp.nodes, not {__name__}: this folder is a subpackage of scalenet_gp")
