"""Arguments and options: checked once, kept as JSON can hold them."""

from scalenet_gp.options.arguments import coerce_arguments, to_json_value

__all__ = ["coerce_arguments", "to_json_value"]
