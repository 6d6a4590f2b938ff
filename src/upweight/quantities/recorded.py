"""Solves whose reports are kept, so that a result of many of them can say what the worst did."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from upweight.inverse import Solution, SolveReport
from upweight.solve_report import joined


class Recorded:
    """(H+δI)⁻¹ of vectors as rows, with a record of every solve."""

    def __init__(self, solve: Callable[[Float[Tensor, "k p"]], Solution]):
        self.solve = solve
        self.reports: list[SolveReport] = []

    def __call__(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """Solve, and record it."""
        return self.add(self.solve(vectors))

    def add(self, solution: Solution) -> Solution:
        """Record a solve that was made otherwise."""
        self.reports.append(solution.report)
        return solution

    @property
    def report(self) -> SolveReport | None:
        """All of them as one; None where nothing was solved."""
        return joined(self.reports) if self.reports else None
