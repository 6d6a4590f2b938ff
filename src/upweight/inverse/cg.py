"""(H + δI)⁻¹ by block conjugate gradients: all right-hand sides search one common space.

Each pass over the data serves every vector, and each vector gains by the directions of all (O'Leary 1980), so a
hundred need far fewer passes than one. The form is Dubrulle's (2001, BCGrQ): the residuals are kept as C Q with
orthonormal Q, which stays accurate where right-hand sides depend on each other or are done at different times.
It differs from the paper in: 1. directions that are zero to rounding are left out, so a product is never made for
more than p vectors; 2. Q may be orthonormal in a preconditioner; 3. the residual is recomputed with the matrix
before convergence is claimed, and the iteration restarted from it if the recurrence had drifted; 4. a direction of
negative curvature ends the solve with its figure. One vector alone takes the steps of the textbook; the solutions
of other groupings agree to the tolerance.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, is_dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Curvature, Hessian, Operator
from upweight.inverse.advice import against_negative, against_slowness
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
    precondition,
    relative,
)
from upweight.messages import NegativeCurvatureError
from upweight.objective import Objective
from upweight.progress import track, with_residual

RESTARTS = 3
MARGIN = 0.8
"""Share of the tolerance that the recurrence aims for: its residual drifts from the true one by rounding."""
ROUNDING = 10
"""Multiple of the precision below which a direction is noise."""


@dataclass(frozen=True)
class CG:
    """Conjugate gradients on H + δI, which must be positive definite.

    Parameters
    ----------
    tolerance
        Relative residual ‖v − (H+δI)x‖/‖v‖ (default: 1e-10 in float64, 1e-5 in float32).
    max_iterations
        Passes over the data before giving up (the report then says not converged).
    preconditioner
        Any inverse, fitted or not; an approximation of (H+δI)⁻¹ that is symmetric and positive definite. One that
        isn't fitted and has no damping of its own (0 or "auto") takes this one's δ.

    Raises
    ------
    NegativeCurvatureError
        If a direction d with dᵀ(H+δI)d ≤ 0 is met; the message gives the figure.
    """

    curvature: Curvature = field(default_factory=Hessian)
    _: KW_ONLY
    damping: Damping = 0.0
    tolerance: float | None = None
    max_iterations: int = 1000
    preconditioner: Inverse | Solver | None = None

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.whole("max_iterations", self.max_iterations)
        if self.tolerance is not None:
            scalars.number("tolerance", self.tolerance, above=0, below=1)

    def fit(self, target: Objective | Operator) -> CGSolver:
        """Bind to a matrix; fits the preconditioner if it isn't yet."""
        operator = operator_of(target, self.curvature)
        damping = resolve(self.damping, operator)
        preconditioner = None if self.preconditioner is None else _fitted(self.preconditioner, target, damping)
        return CGSolver(operator, damping, self, preconditioner)


def _fitted(preconditioner: Inverse | Solver, target: Objective | Operator, damping: float) -> Solver:
    unset = isinstance(preconditioner, Inverse) and getattr(preconditioner, "damping", None) in (0, "auto")
    if unset and is_dataclass(preconditioner) and not isinstance(preconditioner, type):
        preconditioner = replace(preconditioner, damping=damping)
    return as_solver(preconditioner, target)


@dataclass(frozen=True)
class CGSolver:
    """CG bound to a matrix."""

    operator: Operator
    damping: float
    settings: CG
    preconditioner: Solver | None = None

    def with_damping(self, damping: Damping) -> CGSolver:
        """The same matrix with another δ, and the preconditioner with that and what damping it had more; no fit."""
        absolute, preconditioner = resolve(damping, self.operator), self.preconditioner
        if preconditioner is not None:
            more = max(preconditioner.damping - self.damping, 0.0)
            preconditioner = preconditioner.with_damping(absolute + more)
        return replace(self, damping=absolute, preconditioner=preconditioner)

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """X = V (H+δI)⁻¹ to the tolerance."""
        vectors = checked(vectors, self.operator)
        tolerance = self.settings.tolerance or default_tolerance(vectors.dtype)
        x = torch.zeros_like(vectors)
        residual = vectors.clone()
        history: list[float] = []
        smallest, best = float("inf"), torch.ones(len(vectors))
        for _ in range(RESTARTS):
            unfinished, limit = relative(residual, vectors) > tolerance, self.settings.max_iterations
            if not unfinished.any() or len(history) > limit:
                break
            if history:
                history.pop()  # begun again from what the residual really is
            sizes = vectors[unfinished].norm(dim=1)
            step, steps, quotient = self._iterate(residual[unfinished], sizes, MARGIN * tolerance, limit - len(history))
            x[unfinished] += step
            history += steps
            smallest = min(smallest, quotient)
            residual = vectors - self._damped(x)
            now = relative(residual, vectors)
            if not (now < 0.5 * best.to(now)).any():
                break  # rounding: a further restart gains nothing
            best = now
        residuals = relative(residual, vectors)
        stopped = ""
        if (residuals > 1.01 * tolerance).any():
            stopped = against_slowness(self.operator, self.damping, preconditioned=self.preconditioner is not None)
            stopped += " helps"
        report = SolveReport(
            solver=f"CG on the {name_of(self.operator)}",
            damping=self.damping,
            iterations=max(len(history) - 1, 0),
            residuals=residuals,
            # The recomputed residual carries the rounding of one more product.
            tolerance=1.01 * tolerance,
            smallest_curvature=smallest,
            history=tuple(history) or (0.0,),
            stopped=stopped,
        )
        return Solution(x, report)

    def _damped(self, vectors: Tensor) -> Tensor:
        return self.operator.apply(vectors) + self.damping * vectors

    def _iterate(self, residual: Tensor, sizes: Tensor, target: float, limit: int) -> tuple[Tensor, list[float], float]:
        """Block CG from zero until every row's ‖r‖ ≤ target · its size.

        Returns x, the largest ‖r‖/size before the first iteration and after each, and the smallest dᵀAd/dᵀd.
        """
        x = torch.zeros_like(residual)
        norms = residual.norm(dim=1, keepdim=True)
        mixing, q, s = self._orthonormal(residual / norms, len(residual) ** 0.5)
        c = norms * mixing
        smallest, largest, history = float("inf"), 0.0, [float((norms[:, 0] / sizes).max())]
        for _ in track(range(limit), with_residual("CG", history, target)):
            if not len(q) or history[-1] <= target:
                break
            turn, directions, product, lowest, highest = self._conjugate(s, len(history), largest)
            smallest, largest = min(smallest, lowest), max(largest, highest)
            x += (c @ turn) @ directions
            step = turn @ product
            mixing, q, z = self._orthonormal(q - step, float(q.norm() + step.norm()))
            c = c @ mixing
            s = z + mixing.T @ s
            history.append(float(((c @ q).norm(dim=1) / sizes).max()))
        return x, history, smallest

    def _orthonormal(self, rows: Tensor, size: float) -> tuple[Tensor, Tensor, Tensor]:
        """B, Q, Z with rows = B Q, Z = M⁻¹Q and Q Zᵀ = I; parts that are rounding of terms of this size are dropped."""
        basis, triangle = torch.linalg.qr(rows.T)
        left, values, right = torch.linalg.svd(triangle, full_matrices=False)
        keep = values > ROUNDING * torch.finfo(rows.dtype).eps * size
        q, mixing = (basis @ left[:, keep]).T, right[keep].T * values[keep]
        if self.preconditioner is None or not len(q):
            return mixing, q, q
        z = precondition(self.preconditioner, q)
        gram = q @ z.T
        factor, failed = torch.linalg.cholesky_ex((gram + gram.T) / 2)
        if failed:
            raise NegativeCurvatureError(
                "CG: the preconditioner is not positive definite to rounding; use a larger damping in it, or another"
            )
        solve = torch.linalg.solve_triangular
        return mixing @ factor, solve(factor, q, upper=False), solve(factor, z, upper=False)

    def _conjugate(self, s: Tensor, used: int, largest: float) -> tuple[Tensor, Tensor, Tensor, float, float]:
        """T, D = TᵀS and D A, with D A Dᵀ = I, the flattest curvature, and the largest stretch ‖As‖/‖s‖.

        Beside others, directions whose curvature is zero to rounding wait for a later iteration.
        """
        product = self._damped(s)
        gram = s @ product.T
        if not torch.isfinite(gram).all():
            raise self._not_positive(float("nan"), used, float("nan"))
        values, turn = torch.linalg.eigh((gram + gram.T) / 2)
        flattest = turn[:, 0] @ s
        lowest = float(values[0] / (flattest @ flattest))
        rounding = ROUNDING * torch.finfo(s.dtype).eps * float(values.abs().max())
        keep = values > rounding
        stretch = float((product.norm(dim=1) / s.norm(dim=1)).max())
        if float(values[0]) < -rounding or not keep.any():
            raise self._not_positive(lowest, used, max(largest, stretch))
        turn = turn[:, keep] / values[keep].sqrt()
        return turn, turn.T @ s, turn.T @ product, lowest, stretch

    def _not_positive(self, quotient: float, used: int, largest: float) -> NegativeCurvatureError:
        tolerance = self.settings.tolerance or default_tolerance(self.operator.dtype)
        return NegativeCurvatureError(
            f"CG met a direction d with dᵀ(H+δI)d/dᵀd = {quotient:.3e} ≤ 0 after {used} iterations, at damping "
            f"{self.damping:.3g}: H + δI is not positive definite. "
            + against_negative(self.operator, self.damping, quotient, largest, tolerance)
        )
