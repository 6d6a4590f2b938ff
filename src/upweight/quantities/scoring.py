"""Scores of training examples for given queries: what is made once of the queries, then meets any training examples.

A scoring can be sent to other processes. It scores whichever positions it is asked for, the same whoever asks: so the
examples of a long job can be divided.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.attribution import Quantity
from upweight.data import Data
from upweight.engine.stationarity import Moments
from upweight.errors import InputError
from upweight.gradients import Gradients
from upweight.gradients.blocks import Scorer
from upweight.inverse import Solution, Solver, SolveReport, unmeasured, warned
from upweight.measurements import Loss, Measurement
from upweight.objective import Objective
from upweight.precision import ROUGHER, Precision
from upweight.quantities import further, leverage, meanings, removal, self_influence
from upweight.quantities.moved import linear_outputs
from upweight.quantities.pairs import (
    SAMPLED,
    PairSolver,
    beside,
    order_kept,
    order_of_forward,
    pair_scores,
    pays,
    query_factors,
)
from upweight.quantities.queries import query_gradients
from upweight.quantities.recorded import Recorded
from upweight.solve_report import joined

Solve = Callable[[Tensor], Solution]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a training example and a query; see `upweight.Influence.attribute`."""

    quantity: str = "removal"
    renormalize: bool = False
    leverage_corrected: bool = False
    newton_steps: int = 1

    def check(self, objective: Objective) -> None:
        """Refuse choices that don't go together.

        Raises
        ------
        InputError
            Names the argument.
        """
        scalars.one_of("quantity", self.quantity, ("removal", "upweight"))
        removal.refuse_corrections(objective, self.renormalize, self.leverage_corrected)
        further.check(objective, self.newton_steps, self.leverage_corrected)
        if self.quantity == "upweight" and (self.renormalize or self.leverage_corrected):
            raise InputError("quantity: renormalize and leverage_corrected belong to 'removal', not to 'upweight'")


class AskedOptions(TypedDict, total=False):
    """The same as arguments, with the queries' measurement, the training examples and the queries' names."""

    quantity: Literal["removal", "upweight"]
    measurement: Any
    train: Any
    renormalize: bool
    leverage_corrected: bool
    newton_steps: int
    query_ids: Sequence[Any] | None


class Scoring(ABC):
    """Scores of training examples for the queries that it was made for.

    Attributes
    ----------
    objective, data, measurement
        The trained model, the queries (None: every example is its own), and what is explained of them.
    asked
        What is asked.
    """

    objective: Objective
    data: Data | None
    measurement: Measurement
    asked: Asked

    gathers = False
    """Whether the training gradients' moments can be had on the way."""

    @abstractmethod
    def __call__(self, positions: Tensor | None, moments: Moments | None = None) -> Float[Tensor, "*queries train"]:
        """Scores of the training examples at these positions (None: all)."""

    @property
    def queries(self) -> int | None:
        """How many there are; None where every example is its own."""
        return None if self.data is None else len(self.data)

    @property
    @abstractmethod
    def report(self) -> SolveReport:
        """What the solver did, as far as it has."""

    @property
    def meaning(self) -> Quantity:
        """What a score is."""
        if self.asked.quantity == "upweight":
            return meanings.upweight(self.measurement, self.objective.loss)
        return meanings.removal(self.measurement, self.objective.loss, renormalize=self.asked.renormalize)

    def scaled(
        self, products: Float[Tensor, "queries train"], penalties: Float[Tensor, " queries"] | None = None
    ) -> Float[Tensor, "queries train"]:
        """The quantity, of products s_qᵀw_z∇ℓ_z and s_qᵀ(λθ)."""
        if self.asked.quantity == "upweight":
            return products.neg_()
        if self.asked.renormalize:
            assert penalties is not None
            return products.add_(penalties[:, None]).div_(self.objective.n - 1)
        return products.div_(self.objective.n)


@dataclass(eq=False)
class ByPairs(Scoring):
    """∇L_qᵀ(H+δI)⁻¹w_z∇ℓ_z from factors: no vector of the length of θ is made.

    ``factors`` of the queries may be handed over; they are let go once the scorer has them in its own form.
    """

    objective: Objective
    data: Data
    measurement: Measurement
    asked: Asked
    solver: PairSolver
    precision: Precision | None = None
    factors: Gradients | None = None
    words: list[str] = field(default_factory=list)

    gathers = True

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "_scorer"}
        return {**kept, "factors": None}

    @cached_property
    def _scorer(self) -> tuple[Scorer, int]:
        """Of the queries, and the training examples that fit memory beside what it makes."""
        objective = self.objective
        handed = [self.factors if self.factors is not None else query_factors(objective, self.data, self.measurement)]
        self.factors = None
        rows = objective.engine.rows_beside(beside(self.solver, handed[0]))
        few = handed[0].take(slice(0, SAMPLED[0])) if self.precision in ROUGHER else None
        score = self.solver.scorer(handed.pop())
        self.words[:] = [self.solver.name, getattr(score, "words", "")]
        if few is not None:
            self.words.append(f"products in {self.precision} ({order_kept(objective, self.solver, few)})")
        self.words.append(order_of_forward(objective, self.solver, self.data, self.measurement))
        return score, rows

    def __call__(self, positions: Tensor | None, moments: Moments | None = None) -> Float[Tensor, "queries train"]:
        """See `Scoring`."""
        score, rows = self._scorer
        return self.scaled(pair_scores(self.objective, score, rows, positions, moments))

    @property
    def report(self) -> SolveReport:
        """See `Scoring`."""
        _ = self._scorer
        nothing = torch.zeros(len(self.data), 1, dtype=self.objective.dtype)
        return unmeasured(", ".join(filter(None, self.words)), self.solver.damping, nothing)


@dataclass(eq=False)
class ByVectors(Scoring):
    """s_qᵀw_z∇ℓ_z with s_q = (H+δI)⁻¹∇L_q, solved for beforehand.

    Attributes
    ----------
    solution
        s_q of every query.
    """

    objective: Objective
    data: Data
    measurement: Measurement
    asked: Asked
    solution: Solution

    def __call__(self, positions: Tensor | None, moments: Moments | None = None) -> Float[Tensor, "queries train"]:
        """See `Scoring`."""
        objective, x = self.objective, self.solution.x
        products = objective.engine.inner(x, positions)
        return self.scaled(products, x @ (objective.l2 * objective.params) if self.asked.renormalize else None)

    @property
    def report(self) -> SolveReport:
        """See `Scoring`."""
        return self.solution.report


@dataclass(eq=False)
class ByLeverage(Scoring):
    """What one Newton step, or a few, on the objective without the example do to the measurement."""

    objective: Objective
    data: Data
    measurement: Measurement
    asked: Asked
    solver: Solver
    solve: Solve | None = None

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if not name.startswith("_")}
        return {**kept, "solve": None}

    @cached_property
    def _solve(self) -> Recorded:
        return Recorded(self.solve or (lambda vectors: warned(self.solver.solve(vectors))))

    @cached_property
    def _score(self) -> tuple[Callable[[Tensor], Float[Tensor, "queries k"]], bool]:
        return removal.score_of_steps(self.objective, self.data, self.measurement)

    def __call__(self, positions: Tensor | None, moments: Moments | None = None) -> Float[Tensor, "queries train"]:
        """See `Scoring`."""
        score, _ = self._score
        lead = further.Further(self.objective, self.asked.newton_steps - 1, self.solver.damping)
        found = leverage.removal(self.objective, self._solve, positions, score, self.solver.damping, lead)
        lead.warn()
        return found

    @property
    def report(self) -> SolveReport:
        """See `Scoring`."""
        found = self._solve.report
        nothing = torch.zeros(0, 1, dtype=self.objective.dtype)
        return unmeasured("no solve yet", self.solver.damping, nothing) if found is None else found

    @property
    def meaning(self) -> Quantity:
        """See `Scoring`."""
        steps, loss = self.asked.newton_steps, self.objective.loss
        return meanings.removal(self.measurement, loss, leverage=True, evaluated=self._score[1], steps=steps)


@dataclass(eq=False)
class OfItself(Scoring):
    """What leaving an example out does to its own loss."""

    objective: Objective
    asked: Asked
    solver: Solver
    solve: Solve | None = None
    reports: list[SolveReport] = field(default_factory=list)

    data = None
    measurement = Loss()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "solve": None}

    def __call__(self, positions: Tensor | None, moments: Moments | None = None) -> Float[Tensor, " train"]:
        """See `Scoring`."""
        solves = self.solve or (lambda vectors: warned(self.solver.solve(vectors)))
        if self.asked.leverage_corrected:
            recorded = Recorded(solves)
            scores = leverage.self_removal(self.objective, recorded, positions, self.solver.damping)
            report = recorded.report
        else:
            scores, report = self_influence.quadratic(
                self.objective, self.solver, solves, positions, self.asked.renormalize
            )
        if report is not None:
            self.reports.append(report)
        return scores

    @property
    def report(self) -> SolveReport:
        """See `Scoring`."""
        nothing = torch.zeros(0, 1, dtype=self.objective.dtype)
        return joined(self.reports) if self.reports else unmeasured("no solve yet", self.solver.damping, nothing)

    @property
    def meaning(self) -> Quantity:
        """See `Scoring`."""
        loss = self.objective.loss
        if self.asked.leverage_corrected:
            return meanings.self_influence(loss, leverage=True, evaluated=linear_outputs(self.objective))
        return meanings.self_influence(loss, renormalize=self.asked.renormalize)


def scoring(
    objective: Objective,
    solver: Solver,
    solve: Solve,
    data: Data,
    measurement: Measurement,
    asked: Asked,
    precision: Precision | None = None,
) -> Scoring:
    """What scores training examples for these queries: pair by pair from factors where that costs less.

    Parameters
    ----------
    solve
        (H+δI)⁻¹ of rows by the solver, as whoever asks wants it warned of.
    """
    if asked.leverage_corrected:
        return ByLeverage(objective, data, measurement, asked, solver, solve)
    if isinstance(solver, PairSolver) and not asked.renormalize:
        factors = query_factors(objective, data, measurement)
        if pays(solver, factors, objective.n, objective.p):
            return ByPairs(objective, data, measurement, asked, solver, precision, factors)
        del factors
    solution = solve(query_gradients(objective, data, measurement))
    words = [solution.report.solver, order_of_forward(objective, solver, data, measurement)]
    report = replace(solution.report, solver=", ".join(filter(None, words)))
    return ByVectors(objective, data, measurement, asked, replace(solution, report=report))
