"""Options: frozen models and their field types, and arguments as JSON can hold them."""

from scalenet_gp.options.arguments import coerce_arguments, to_json_value
from scalenet_gp.options.lengths import InWorldUnits, PhysicalOptions, WholeLength, WholeSize
from scalenet_gp.options.model import Options
from scalenet_gp.options.problems import describe_problems, reword, show_value, suggest
from scalenet_gp.options.signature import ComponentOptions, options_of, union_of
from scalenet_gp.options.types import (
    Bound,
    Factor,
    Length,
    Precision,
    Probability,
    Shape,
    Size,
    Whole,
    to_yaml_length,
)

__all__ = [
    "Bound",
    "ComponentOptions",
    "Factor",
    "InWorldUnits",
    "Length",
    "Options",
    "PhysicalOptions",
    "Precision",
    "Probability",
    "Shape",
    "Size",
    "Whole",
    "WholeLength",
    "WholeSize",
    "coerce_arguments",
    "describe_problems",
    "options_of",
    "reword",
    "show_value",
    "suggest",
    "to_json_value",
    "to_yaml_length",
    "union_of",
]
