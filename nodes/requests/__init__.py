"""Requests: cheap copies, seeds, and a shift by less than the common lattice."""

from scalenet_gp.nodes.requests.cheap_copy import CheapCopyRequest, CheapCopySpec
from scalenet_gp.nodes.requests.seeds import batch_seed, request_generator, seed_of, set_seed
from scalenet_gp.nodes.requests.subvoxel_shift import (
    answer_shift,
    check_shift,
    offer_shift,
    offered_shift,
    request_shift,
    shift_key,
    take_shift,
)

__all__ = [
    "CheapCopyRequest",
    "CheapCopySpec",
    "answer_shift",
    "batch_seed",
    "check_shift",
    "offer_shift",
    "offered_shift",
    "request_generator",
    "request_shift",
    "seed_of",
    "set_seed",
    "shift_key",
    "take_shift",
]
