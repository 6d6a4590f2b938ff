"""The trained θ that a job began with, kept in its store: a study that trains gives other last digits each time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.objective import Objective
from upweight.store.backend import Backend
from upweight.store.blocks import Blocks
from upweight.store.tensors import pack, unpack

NAME = "theta"
MOST = 2**30
"""Bytes of θ up to which it is kept: what takes more is loaded from a file, not trained by a study."""
NEAR = {torch.float64: 1e-6, torch.float32: 1e-3}
"""‖θ − θ₀‖/‖θ₀‖ up to which training anew came to the same optimum: what convex fits leave at their tolerance."""


def keep(place: Backend, objective: Objective) -> None:
    """Put θ into a store."""
    params = objective.params
    if params.numel() * params.element_size() <= MOST:
        Blocks(place).commit(NAME, pack({"params": params}))


def kept(place: Backend) -> Float[Tensor, " p"] | None:
    """θ of a store; None where it has none.

    Raises
    ------
    InputError
        If it is damaged.
    """
    blocks = Blocks(place)
    return unpack(blocks.content(NAME), str(place))[0]["params"] if blocks.mark(NAME) is not None else None


def at_kept(objective: Objective, params: Float[Tensor, " p"] | None) -> Objective:
    """The objective at this θ where its own is the same but for its last digits; else as it is."""
    own = objective.params
    if params is None or params.shape != own.shape or params.dtype != own.dtype:
        return objective
    given = params.to(own.device)
    distance, size = float((given - own).norm()), float(given.norm())
    return objective.at(given) if 0 < distance <= NEAR.get(own.dtype, 0.0) * size else objective
