"""Batches by number, made ahead in worker processes."""

from scalenet_gp.nodes.prefetch.prefetch import Prefetch
from scalenet_gp.nodes.prefetch.seeded_batches import SeededBatches
from scalenet_gp.nodes.prefetch.stack import Stack

__all__ = ["Prefetch", "SeededBatches", "Stack"]
