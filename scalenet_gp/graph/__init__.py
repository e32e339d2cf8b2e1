"""The model graph: nodes, tensors, plans, and the execution of a plan."""

from scalenet_gp.graph.execution import SpecializedNet, as_input, execute, run_step, validate_inputs
from scalenet_gp.graph.graph import Graph
from scalenet_gp.graph.node import Node, TensorSpec, build_node
from scalenet_gp.graph.phases import PhaseCache
from scalenet_gp.graph.plan import Crop, Plan, PlannedTensor, Step

__all__ = [
    "Crop",
    "Graph",
    "Node",
    "PhaseCache",
    "Plan",
    "PlannedTensor",
    "SpecializedNet",
    "Step",
    "TensorSpec",
    "as_input",
    "build_node",
    "execute",
    "run_step",
    "validate_inputs",
]
