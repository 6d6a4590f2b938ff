"""Which parameters were learnt, and what an optimiser's weight decay is to an objective: λ by name and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from upweight import scalars
from upweight.adapters import ADAPTERS, has_adapters
from upweight.errors import InputError
from upweight.frameworks.said import said_of_parameters
from upweight.parameters import select
from upweight.penalty import l2_of
from upweight.wrappers import unwrapped_optimizer

L2 = float | Mapping[str, float] | None


def penalty_of(
    l2: L2, optimizer: Any, model: nn.Module, parameters: Any, times: int = 1
) -> tuple[float | Mapping[str, float], str]:
    """λ as it was given, else what the optimiser's decay amounts to, else 0; and a sentence on it.

    ``times``: how many times the mean loss the gradient was that the optimiser met.
    """
    if optimizer is not None and not isinstance(unwrapped_optimizer(optimizer), torch.optim.Optimizer):
        raise InputError(
            f"optimizer: give the torch.optim.Optimizer that trained the model; got {scalars.shown(optimizer)}"
        )
    if l2 is not None:
        return l2, "the penalty ½λ‖θ‖² is the l2 given"
    if optimizer is None:
        return 0.0, "no penalty: neither l2 nor an optimiser was given"
    found = l2_of(optimizer, model)
    said = words(unwrapped_optimizer(optimizer), found, model, parameters)
    if times == 1:
        return found, said
    return {name: value / times for name, value in found.items()}, (
        f"{said}; all of it divided by {times}, as the loss of an accumulated batch was the sum of its {times} parts' "
        "means"
    )


@dataclass(frozen=True)
class Learnt:
    """What of a model was learnt, and under which penalty.

    Attributes
    ----------
    parameters
        θ, as `Objective` takes it: the adapters where a model has some and nobody said.
    l2
        λ.
    notes
        Both in sentences.
    """

    parameters: Any
    l2: float | Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def is_adapted(self) -> bool:
        """Whether θ is the adapters."""
        return isinstance(self.parameters, str) and self.parameters == ADAPTERS


def learnt(model: nn.Module, parameters: Any, l2: L2, optimizer: Any, times: int = 1) -> Learnt:
    """Parameters and penalty of a training, as they were given or as model and optimiser say; see `penalty_of`."""
    if parameters is None and has_adapters(model):
        parameters = ADAPTERS
    strength, penalty = penalty_of(l2, optimizer, model, parameters, times)
    found = Learnt(parameters, strength, (penalty,))
    return replace(found, notes=(penalty, *said_of_parameters(model, is_adapted=found.is_adapted)))


def words(optimizer: Any, l2: Mapping[str, float], model: nn.Module, parameters: Any) -> str:
    """The regulariser in a sentence."""
    names = select(model, parameters).names if not hasattr(parameters, "restricted") else tuple(l2)
    values = [l2.get(name, 0.0) for name in names]
    decays = sorted({float(group.get("weight_decay", 0.0)) for group in optimizer.param_groups})
    kind, strongest = type(optimizer).__name__, max(decays, default=0.0)
    with_it = [value for value in values if value > 0]
    if not with_it:
        return f"no penalty: {kind} has no weight decay on these parameters"
    free = len(values) - len(with_it)
    without = f"; {free} of {len(values)} parameters have none" if free else ""
    if abs(max(with_it) - strongest) <= 1e-12 * strongest:
        return f"the weight decay {strongest:g} of {kind} is the penalty ½λ‖θ‖² with λ = {strongest:g}{without}"
    return (
        f"the weight decay {strongest:g} of {kind} is decoupled from the gradient: where training ends it acts as a "
        f"penalty ½λ‖θ‖² with λ from {min(with_it):.2g} to {max(with_it):.2g} by parameter (uw.l2_of){without}"
    )
