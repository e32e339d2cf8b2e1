"""Requests: cheap copies, and random generators that depend on the request alone."""

from scalenet_gp.nodes.requests.cheap_copy_request import CheapCopyRequest
from scalenet_gp.nodes.requests.cheap_copy_spec import CheapCopySpec
from scalenet_gp.nodes.requests.random_generator import request_generator

__all__ = ["CheapCopyRequest", "CheapCopySpec", "request_generator"]
