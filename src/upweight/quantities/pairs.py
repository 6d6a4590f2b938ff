"""Scores of pairs straight from factors: no vector of the length of θ is made where a solver can do without."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.data import Data
from upweight.engine.stationarity import Moments
from upweight.forward import words
from upweight.gradients import Gradients
from upweight.gradients.blocks import Scorer, concatenated, conformed, unseen
from upweight.gradients.terms import Outer
from upweight.inverse import Solver
from upweight.linalg.ranks import rank_agreement
from upweight.measurements import Measurement
from upweight.objective import Objective
from upweight.precision import products
from upweight.progress import track
from upweight.quantities.queries import check_query_targets, query_factor_blocks, query_gradients

SAMPLED, PART = (4, 64), 4
"""Queries and training examples of which scores are compared with those in float32, a quarter of all at most."""

TABLES = 3
"""Inner products of a batch with a solver's rows that live together: the sum, and a layer's by both of its sides."""


@runtime_checkable
class OfRows(Protocol):
    """A solver of the rows of training examples, near singular beside them: others' must not meet them in it."""

    def of_examples(self, objective: Objective, positions: Tensor) -> Solver:
        """With the rows of some examples alone, as another objective has them."""
        ...


@runtime_checkable
class PairSolver(Solver, Protocol):
    """A solver that scores pairs of factored gradients."""

    @property
    def name(self) -> str:
        """The solver in words."""
        ...

    def scorer(self, queries: Gradients) -> Scorer:
        """A function of a batch's factors that gives ∇L_qᵀ(H+δI)⁻¹∇ℓ_z, and shows each block on its way."""
        ...

    def quadratic(self, train: Gradients) -> Float[Tensor, " n"]:
        """∇ℓ_zᵀ(H+δI)⁻¹∇ℓ_z of every example of a batch."""
        ...


def query_factors(objective: Objective, data: Data, measurement: Measurement) -> Gradients:
    """The gradients of the queries' measurement, cut into the blocks of the loss's own.

    Raises
    ------
    InputError
        If a gradient isn't finite.
    """
    function = objective.engine.bind(measurement.bind(objective.loss))
    check_query_targets(objective, data, measurement)
    found = concatenated(list(query_factor_blocks(objective, function, data, measurement)))
    return conformed(found, objective.engine.function.plan.shapes)


def pays(solver: Solver, queries: Gradients, n: int, p: int) -> bool:
    """Whether pairs cost fewer multiplications than solving for every query and n inner products of length p.

    A solver whose queries and examples all meet ``rank`` rows on the way pays for that; the others never lose.
    """
    if not isinstance(solver, PairSolver):
        return False
    q, rank = queries.examples, getattr(solver, "rank", 0)
    return rank == 0 or (q * n + q * rank + rank * n) * queries.pair_work < q * p * (2 * rank + n)


def pair_scores(
    objective: Objective, score: Scorer, rows: int, positions: Tensor | None, moments: Moments | None = None
) -> Float[Tensor, "q n"]:
    """∇L_qᵀ(H+δI)⁻¹ w_z∇ℓ_z, in one pass over the training data.

    Parameters
    ----------
    score, rows
        Of the queries: a solver's `scorer`, and training examples that fit memory at a time.
    moments
        Takes the sums of the training gradients on the way, if somebody wants them.
    """
    scores, begin = None, 0
    n = objective.n if positions is None else len(positions)
    for _, found in track(objective.engine.each(positions, rows), "scoring", -(-n // rows)):
        part = score(found, unseen if moments is None else moments.batch(found.examples))
        scores = part.new_empty(len(part), n) if scores is None else scores
        scores[:, begin : begin + found.examples] = part
        begin += found.examples
        del found, part  # before the next batch is made
    assert scores is not None
    return scores


def order_kept(objective: Objective, solver: PairSolver, queries: Gradients) -> str:
    """How far the first queries' scores have the order that they have with products in float32, in words."""
    chosen = _spread(objective)

    def scores() -> Tensor:
        score = solver.scorer(queries)
        return torch.cat([score(found) for _, found in objective.engine.each(chosen)], dim=1)

    rough = scores()
    with products("float32"):
        return _agreement(rough, scores())


def order_of_forward(objective: Objective, solver: Solver, data: Data, measurement: Measurement) -> str:
    """How far the first queries' scores have the order that gradients of a forward pass in float32 give, in words.

    By the same solver, whose curvature stays as it was summed; of one by rows, by those of the examples compared. "" of
    a model that runs in float32.
    """
    half = objective.problem.half
    if half is None:
        return ""
    wide, few, chosen = objective.replace(forward="float32"), min(len(data), SAMPLED[0]), _spread(objective)

    def scores(each: Objective) -> Tensor:
        mine = solver.of_examples(each, chosen) if isinstance(solver, OfRows) else solver
        asked = each.queries(data.take(list(range(few))))
        return each.engine.inner(mine.solve(query_gradients(each, asked, measurement)).x, chosen)

    rough = scores(objective)
    with products("float32"):
        return f"forward pass in {words(half)} ({_agreement(rough, scores(wide))})"


def _spread(objective: Objective) -> Tensor:
    """Positions of the training examples that are compared."""
    count = min(SAMPLED[1], max(objective.n // PART, 2), objective.n)
    return torch.linspace(0, objective.n - 1, count).long()


def _agreement(rough: Float[Tensor, "q k"], exact: Float[Tensor, "q k"]) -> str:
    agreement = rank_agreement(rough, exact)
    return f"Spearman {agreement:.4f} with float32, on {exact.shape[0]} × {exact.shape[1]} pairs"


def beside(solver: PairSolver, queries: Gradients) -> int:
    """Numbers that are made of each training example on the way of scores, beside its own factors.

    The largest matrix that is formed, or inner products with the rows that a solver keeps.
    """
    return max(largest(queries), TABLES * getattr(solver, "rank", 0))


def largest(gradients: Gradients) -> int:
    """Numbers of the largest matrix that is made of an example's gradient on the way, if any is."""
    formed = [
        shape.rows * shape.columns
        for shape, block in zip(gradients.shapes, gradients.blocks, strict=True)
        if any(isinstance(term, Outer) and term.left.shape[1] > 1 for term in block.terms)
    ]
    return max(formed, default=0)


def self_scores(objective: Objective, solver: PairSolver, positions: Tensor | None) -> Float[Tensor, " n"]:
    """w_z∇ℓ_zᵀ(H+δI)⁻¹∇ℓ_z: the pull of an example on θ, seen by its own unweighted loss."""
    n = objective.n if positions is None else len(positions)
    function, parts = objective.engine.function, []
    batches = objective.data.batches(positions, objective.engine.pass_rows)
    for index, batch in track(batches, "self-influence", -(-n // objective.engine.pass_rows)):
        parts.append(objective.problem.weights_at(index) * solver.quadratic(function.each(objective.params, batch)))
    return torch.cat(parts)
