"""Facts about a graph: sizes, cost, memory, field of view, summary, figures."""

from scalenet_gp.analysis.cost import predict_cost, predict_slabbed_memory
from scalenet_gp.analysis.field_of_view import receptive_field
from scalenet_gp.analysis.figure import fields_of_view_figure
from scalenet_gp.analysis.mermaid import to_mermaid
from scalenet_gp.analysis.sizes import largest_plan, smallest_plan, valid_output_shapes
from scalenet_gp.analysis.summary import Summary, summarize

__all__ = [
    "Summary",
    "fields_of_view_figure",
    "largest_plan",
    "predict_cost",
    "predict_slabbed_memory",
    "receptive_field",
    "smallest_plan",
    "summarize",
    "to_mermaid",
    "valid_output_shapes",
]
