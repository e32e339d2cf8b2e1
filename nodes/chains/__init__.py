"""Chains of nodes: building them, with errors as the nodes raise them."""

from scalenet_gp.nodes.chains.building import build_chain, unwrap_errors

__all__ = ["build_chain", "unwrap_errors"]
