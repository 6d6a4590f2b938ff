"""What `generalized` gives: a step of θ, and how well it was solved for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight.kept import copied
from upweight.objective import Objective
from upweight.select import Subset

Method = Literal["GIF", "FIF", "PIF", "IF", "SIF"]


@dataclass(frozen=True, eq=False)
class Response:
    """A step of θ in answer to a change of the data, and how well it was solved for.

    Attributes
    ----------
    step
        Δ over θ, 0 outside J, ``[p]``.
    gradient
        g, ``[p]``.
    least_squares
        ‖HΔ − g‖/‖g‖ over all coordinates, recomputed: what GIF makes smallest.
    restricted
        ‖H_JJ Δ_J − g_J‖/‖g_J‖, recomputed: what FIF makes zero.
    quadratic
        ½ΔᵀHΔ − gᵀΔ: predicted change of the changed risk; FIF makes it smallest, where H_JJ is positive.
    solved
        How far the method's own equations are satisfied, relative; to be at most ``tolerance``.
    products
        Products of H with a vector that the solver took.
    history
        Residual of the method's own equations before the first iteration and after each, relative, as the solver's
        recurrence has it: ‖Aᵀr‖/‖Aᵀv‖ of LSMR and the Neumann series, ‖r‖/‖v‖ of conjugate gradients; of SIF's two
        systems one after the other.
    smallest_curvature
        Smallest Ritz value of H_JJ found by a few products, an upper bound of its smallest eigenvalue; of a convex
        loss's GGN, which is never negative, the lower bound δ + min λ.
    """

    objective: Objective
    method: Method
    subset: Subset
    step: Float[Tensor, " p"]
    gradient: Float[Tensor, " p"]
    least_squares: float
    restricted: float
    quadratic: float
    solved: float
    tolerance: float
    products: int
    history: tuple[float, ...]
    smallest_curvature: float
    damping: float
    seconds: float

    @property
    def iterations(self) -> int:
        """Of the solver."""
        return len(self.history) - 1

    @property
    def converged(self) -> bool:
        """Whether the solver reached its tolerance."""
        return self.solved <= 1.01 * self.tolerance

    def params(self, scale: float = 1.0) -> Float[Tensor, " p"]:
        """θ + scale · Δ."""
        return self.objective.params + scale * self.step

    def model(self, scale: float = 1.0) -> nn.Module:
        """A copy of the model with the step taken; the objective's own is untouched."""
        model = copied(self.objective.model)
        values = self.objective.layout.unflatten(self.params(scale))
        with torch.no_grad():
            for name, value in values.items():
                model.get_parameter(name).copy_(value)
        return model

    def __repr__(self) -> str:
        return (
            f"{self.method} on {self.subset}\n"
            f"  ‖Δ‖ = {float(self.step.norm()):.3g}, δ = {self.damping:.3g}; residuals: least squares "
            f"{self.least_squares:.2e}, restricted {self.restricted:.2e}; own equations {self.solved:.1e} in "
            f"{self.iterations} iterations, {self.products} products"
            + ("" if self.converged else f" (tolerance {self.tolerance:.0e} not reached)")
        )
