"""(H + δI)⁻¹ by conjugate gradients, all right-hand sides together.

This differs from the textbook in: 1. each pass over the data serves every vector that is not yet done;
2. the residual is recomputed with the matrix before convergence is claimed, and the iteration restarted from
it if the recurrence had drifted; 3. a direction of negative curvature ends the solve with its figure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import Curvature, Hessian, Operator
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import (
    Inverse,
    Solution,
    Solver,
    SolveReport,
    as_solver,
    checked,
    default_tolerance,
    name_of,
    operator_of,
    relative,
)
from upweight.messages import InputError, NegativeCurvatureError
from upweight.objective import Objective

RESTARTS = 3


@dataclass(frozen=True)
class CG:
    """Conjugate gradients on H + δI, which must be positive definite.

    Parameters
    ----------
    tolerance
        Relative residual ‖v − (H+δI)x‖/‖v‖ (default: 1e-10 in float64, 1e-5 in float32).
    max_iterations
        Products with the matrix per vector before giving up (the report then says not converged).
    preconditioner
        Any inverse, fitted or not; an approximation of (H+δI)⁻¹ that is symmetric and positive definite.

    Raises
    ------
    NegativeCurvatureError
        If a direction d with dᵀ(H+δI)d ≤ 0 is met; the message gives the figure.
    """

    curvature: Curvature = field(default_factory=Hessian)
    damping: Damping = 0.0
    tolerance: float | None = None
    max_iterations: int = 1000
    preconditioner: Inverse | Solver | None = None

    def fit(self, target: Objective | Operator) -> CGSolver:
        """Bind to a matrix; fits the preconditioner if it isn't yet."""
        if self.max_iterations < 1:
            raise InputError(f"max_iterations: must be at least 1; got {self.max_iterations}")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise InputError(f"tolerance: a relative residual between 0 and 1; got {self.tolerance}")
        operator = operator_of(target, self.curvature)
        preconditioner = None if self.preconditioner is None else as_solver(self.preconditioner, target)
        return CGSolver(operator, resolve(self.damping, operator), self, preconditioner)


@dataclass(frozen=True)
class CGSolver:
    """CG bound to a matrix."""

    operator: Operator
    damping: float
    settings: CG
    preconditioner: Solver | None = None

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """X = V (H+δI)⁻¹ to the tolerance."""
        vectors = checked(vectors, self.operator)
        tolerance = self.settings.tolerance or default_tolerance(vectors.dtype)
        x = torch.zeros_like(vectors)
        residual = vectors.clone()
        iterations, smallest, best = 0, float("inf"), torch.ones(len(vectors))
        for _ in range(RESTARTS):
            todo = relative(residual, vectors) > tolerance
            if not todo.any() or iterations >= self.settings.max_iterations:
                break
            targets = tolerance * vectors[todo].norm(dim=1)
            step, used, quotient = self._iterate(residual[todo], targets, self.settings.max_iterations - iterations)
            x[todo] += step
            iterations += used
            smallest = min(smallest, quotient)
            residual = vectors - self._damped(x)
            now = relative(residual, vectors)
            if not (now < 0.5 * best.to(now)).any():
                break  # rounding: a further restart gains nothing
            best = now
        report = SolveReport(
            solver=f"CG on the {name_of(self.operator)}",
            damping=self.damping,
            iterations=iterations,
            residuals=relative(residual, vectors),
            # The recomputed residual carries the rounding of one more product.
            tolerance=1.01 * tolerance,
            smallest_curvature=smallest,
        )
        return Solution(x, report)

    def _damped(self, vectors: Tensor) -> Tensor:
        return self.operator.apply(vectors) + self.damping * vectors

    def _precondition(self, residual: Tensor) -> Tensor:
        return residual if self.preconditioner is None else self.preconditioner.solve(residual).x

    def _iterate(self, residual: Tensor, targets: Tensor, limit: int) -> tuple[Tensor, int, float]:
        """CG from zero for each row until ‖r‖ ≤ its target; returns x, iterations, smallest dᵀAd/dᵀd."""
        x = torch.zeros_like(residual)
        rows = torch.arange(len(residual), device=residual.device)
        r = residual.clone()
        z = self._precondition(r)
        d, rz = z.clone(), (r * z).sum(1)
        smallest, used = float("inf"), 0
        while len(rows) and used < limit:
            product = self._damped(d)
            used += 1
            curvature = (d * product).sum(1)
            quotient = curvature / (d * d).sum(1)
            smallest = min(smallest, float(quotient.min()))
            if not torch.isfinite(quotient).all() or smallest <= 0:
                raise NegativeCurvatureError(
                    f"CG met a direction d with dᵀ(H+δI)d/dᵀd = {smallest:.3e} ≤ 0 after {used} iterations, at "
                    f"damping {self.damping:.3g}: H + δI is not positive definite. Use damping > "
                    f"{self.damping - smallest:.3g} (a lower bound), curvature.GGN(), or inverse.LSMR()"
                )
            alpha = (rz / curvature)[:, None]
            x[rows] += alpha * d
            r = r - alpha * product
            keep = r.norm(dim=1) > targets[rows]
            if not keep.all():
                rows, r, d, rz = rows[keep], r[keep], d[keep], rz[keep]
                if not len(rows):
                    break
            z = self._precondition(r)
            new = (r * z).sum(1)
            d = z + (new / rz)[:, None] * d
            rz = new
        return x, used, smallest
