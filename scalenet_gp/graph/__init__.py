"""The model graph: nodes, tensors, plans, and the execution of a plan."""

from scalenet_gp.graph.execution import Specialised, as_input, execute, run_step, validate_inputs
from scalenet_gp.graph.fusion import fused_inputs
from scalenet_gp.graph.node import Node, TensorSpec, build_node
from scalenet_gp.graph.plan import Crop, Plan, PlannedTensor, Step
from scalenet_gp.graph.planning import check_request, plan_pass, plan_request, planned_tensor, required_rois, union
from scalenet_gp.graph.topology import resolve_specs, topological_order

__all__ = [
    "Crop",
    "Node",
    "Plan",
    "PlannedTensor",
    "Specialised",
    "Step",
    "TensorSpec",
    "as_input",
    "build_node",
    "check_request",
    "execute",
    "fused_inputs",
    "plan_pass",
    "plan_request",
    "planned_tensor",
    "required_rois",
    "resolve_specs",
    "run_step",
    "topological_order",
    "union",
    "validate_inputs",
]
