"""H := I: what is left of influence when curvature is ignored, inner products of gradients.

With it every quantity of `Influence` is available as a baseline under the same signs and ids: `removal` is
∇L_q·∇ℓ_z/n, the ranking of TracIn at the last checkpoint (Pruthi et al. 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from upweight.curvature import Hessian, Operator
from upweight.inverse.costs import Counts, Work, identity_stages
from upweight.inverse.damping import Damping
from upweight.inverse.interface import Solution, SolveReport, checked, operator_of
from upweight.objective import Objective


@dataclass(frozen=True)
class Identity:
    """x = v: no matrix is built, multiplied with or damped; there is nothing to choose."""

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return Work(tuple(identity_stages(counts)))

    def fit(self, target: Objective | Operator) -> IdentitySolver:
        """Bind to a matrix, of which only the size matters."""
        return IdentitySolver(operator_of(target, Hessian()))


@dataclass(frozen=True)
class IdentitySolver:
    """The identity in place of the inverse of a matrix."""

    operator: Operator
    damping: float = 0.0

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return Work(tuple(identity_stages(counts)))

    def with_damping(self, damping: Damping) -> IdentitySolver:
        """Itself, whatever the damping: (1+δ)⁻¹ would only scale every score."""
        return self

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """V itself; how far from the inverse that is, is not measured (nan)."""
        vectors = checked(vectors, self.operator)
        report = SolveReport(
            solver="identity in place of the inverse (gradient similarity)",
            damping=self.damping,
            iterations=0,
            residuals=vectors.new_full((len(vectors),), math.nan),
            tolerance=math.nan,
            smallest_curvature=math.nan,
        )
        return Solution(vectors.clone(), report)

    def precondition(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V itself."""
        return vectors
