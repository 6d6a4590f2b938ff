"""What a solver did, as figures that a program can read and a sentence for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class SolveReport:
    """What a solve did.

    Attributes
    ----------
    solver
        The algorithm and the matrix, in words.
    damping
        The absolute δ.
    iterations
        Products with the matrix for the slowest vector; 0 for direct methods.
    residuals
        ‖v − (H+δI)x‖/‖v‖ per vector, recomputed with the matrix, ``[k]`` (nan: not measured).
    tolerance
        The relative residual that was asked for (nan: no such promise).
    smallest_curvature
        Smallest xᵀ(H+δI)x/xᵀx seen, an upper bound of the smallest eigenvalue (nan: not measured).
    standard_error
        For stochastic methods: standard error of x relative to ‖x‖, per vector, ``[k]``.
    history
        Of CG and LSMR: residual of the worst vector before the first iteration and after each, relative, as the
        recurrence has it: ‖r‖/‖v‖ of CG, ‖Ar‖/‖Av‖ with A = H+δI of LSMR.
    stopped
        Why it stopped before what was asked for, and what helps; "" if it didn't.
    """

    solver: str
    damping: float
    iterations: int
    residuals: Float[Tensor, " k"]
    tolerance: float
    smallest_curvature: float
    standard_error: Float[Tensor, " k"] | None = None
    history: tuple[float, ...] = ()
    stopped: str = ""

    @property
    def converged(self) -> bool:
        """Whether every vector reached the tolerance."""
        return not self.stopped and not bool((self.residuals > self.tolerance).any())

    def __str__(self) -> str:
        worst = self.residual
        residual = "residual not measured" if math.isnan(worst) else f"relative residual ≤ {worst:.1e}"
        text = f"{self.solver}, δ={self.damping:.3g}: {residual}"
        if self.iterations:
            text += f" in {self.iterations} iterations"
        if self.standard_error is not None:
            text += f", standard error {float(self.standard_error.max()):.1%}"
        if self.converged:
            return text
        missed = "" if math.isnan(self.tolerance) else f"tolerance {self.tolerance:.0e} not reached"
        return f"{text} ({'; '.join(filter(None, (missed, self.stopped)))})"

    @property
    def residual(self) -> float:
        """The largest of the residuals (nan: not measured)."""
        return float(self.residuals.max()) if len(self.residuals) else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Its figures as plain values, of the residuals and standard errors the largest; `from_dict` reads them."""
        error = None if self.standard_error is None else float(self.standard_error.max())
        return {
            "solver": self.solver,
            "damping": self.damping,
            "iterations": self.iterations,
            "residual": _or_none(self.residual),
            "tolerance": _or_none(self.tolerance),
            "smallest_curvature": _or_none(self.smallest_curvature),
            "standard_error": error,
            "stopped": self.stopped,
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> SolveReport:
        """What `to_dict` gave."""
        error = said["standard_error"]
        return cls(
            said["solver"],
            float(said["damping"]),
            said["iterations"],
            torch.tensor([_or_nan(said["residual"])], dtype=torch.float64),
            _or_nan(said["tolerance"]),
            _or_nan(said["smallest_curvature"]),
            None if error is None else torch.tensor([float(error)], dtype=torch.float64),
            (),
            said["stopped"],
        )


def joined(reports: Sequence[SolveReport]) -> SolveReport:
    """Several solves by one solver as one: every vector's residual, the most iterations, whatever stopped one."""
    first = reports[0]
    if len(reports) == 1:
        return first
    slowest = max(reports, key=lambda report: report.iterations)
    errors = [report.standard_error for report in reports if report.standard_error is not None]
    curvatures = [each.smallest_curvature for each in reports if not math.isnan(each.smallest_curvature)]
    tolerances = [each.tolerance for each in reports if not math.isnan(each.tolerance)]
    return SolveReport(
        first.solver,
        first.damping,
        slowest.iterations,
        torch.cat([report.residuals for report in reports]),
        max(tolerances, default=math.nan),
        min(curvatures, default=math.nan),
        torch.cat(errors) if errors else None,
        slowest.history,
        next((report.stopped for report in reports if report.stopped), ""),
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
