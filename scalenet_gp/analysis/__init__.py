"""Functions of a graph: sizes, cost, memory, receptive field, summary, figures."""

from scalenet_gp.analysis.architecture import architecture_figure
from scalenet_gp.analysis.cost import Cost, predict_cost
from scalenet_gp.analysis.field_of_view import EffectiveField, effective_receptive_field, receptive_field
from scalenet_gp.analysis.figure import fields_of_view_figure
from scalenet_gp.analysis.mermaid import to_mermaid
from scalenet_gp.analysis.sizes import largest_plan, smallest_plan, valid_output_shapes
from scalenet_gp.analysis.summary import Summary, summarize

__all__ = [
    "Cost",
    "EffectiveField",
    "Summary",
    "architecture_figure",
    "effective_receptive_field",
    "fields_of_view_figure",
    "largest_plan",
    "predict_cost",
    "receptive_field",
    "smallest_plan",
    "summarize",
    "to_mermaid",
    "valid_output_shapes",
]
