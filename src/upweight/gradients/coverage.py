"""How much of a model an attribution speaks for: parameters and gradient norm, by the way they are differentiated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight.data import Batch
from upweight.gradients.interface import ExampleFunction
from upweight.gradients.substituted import substituted


@dataclass(frozen=True)
class Part:
    """One parameter of the model.

    Attributes
    ----------
    way
        ``factors``; ``slow`` (differentiated without factors, exact all the same); ``unused`` (the loss doesn't depend
        on it); ``left out`` (not among the selected parameters).
    reason
        Why, where the way isn't ``factors``.
    norm
        Norm of its gradient of the mean loss over the examples looked at.
    """

    name: str
    numbers: int
    way: str
    reason: str
    norm: float


@dataclass(frozen=True)
class Coverage:
    """Which parameters an attribution covers.

    Attributes
    ----------
    parts
        Every parameter of the model, in its order.
    """

    parts: tuple[Part, ...]

    def parameters(self, *ways: str) -> float:
        """Share of the model's parameters that go these ways."""
        total = sum(part.numbers for part in self.parts)
        return sum(part.numbers for part in self.parts if part.way in ways) / max(total, 1)

    def gradient(self, *ways: str) -> float:
        """Share of the squared gradient norm that these ways carry."""
        total = sum(part.norm**2 for part in self.parts)
        return sum(part.norm**2 for part in self.parts if part.way in ways) / total if total else 1.0

    @property
    def attributed(self) -> float:
        """Share of the squared gradient norm that the attribution speaks for."""
        return self.gradient("factors", "slow", "unused")

    def __str__(self) -> str:
        covered = ("factors", "slow", "unused")
        lines = [
            f"coverage: {self.parameters(*covered):.1%} of the parameters, {self.attributed:.1%} of the squared "
            f"gradient norm; by factors {self.parameters('factors'):.1%} and {self.gradient('factors'):.1%}"
        ]
        lines += [
            f"  {part.way}: {part.name} ({part.numbers:,}; {part.reason})"
            for part in self.parts
            if part.way != "factors"
        ]
        return "\n".join(lines)


def coverage(
    model: nn.Module, loss: Any, function: ExampleFunction, params: Float[Tensor, " p"], batch: Batch
) -> Coverage:
    """The report: what the function's plan says of the selected parameters, and the gradients of all on a batch."""
    layout = function.layout
    named = {name: value.detach().clone() for name, value in model.named_parameters()}
    named.update(layout.unflatten(params))
    leaves = {name: value.detach().requires_grad_() for name, value in named.items() if value.is_floating_point()}
    with torch.enable_grad():
        mean = substituted(model, loss)(leaves, batch).mean()
        found = torch.autograd.grad(mean, list(leaves.values()), allow_unused=True)
    gradients = dict(zip(leaves, found, strict=True))
    slow, unused = function.plan.slow, function.plan.unused
    parts = []
    for name, value in model.named_parameters():
        gradient = gradients.get(name)
        norm = 0.0 if gradient is None else float(torch.linalg.vector_norm(gradient))
        if name not in layout.names:
            reason = "frozen" if not value.requires_grad else "not among the objective's parameters"
            parts.append(Part(name, value.numel(), "left out", reason, norm))
        elif name in slow:
            parts.append(Part(name, value.numel(), "slow", slow[name], norm))
        elif name in unused:
            parts.append(Part(name, value.numel(), "unused", "the loss doesn't depend on it", norm))
        else:
            parts.append(Part(name, value.numel(), "factors", "", norm))
    return Coverage(tuple(parts))
