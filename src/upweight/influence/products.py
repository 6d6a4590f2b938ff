"""Inner products and cosines of query gradients with training gradients, at the θ of an objective.

By factors where the model has them, so that neither side's gradients are formed; else the queries' are.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.data import Data
from upweight.gradients import Block, ExampleFunction, FactoredFunction, Factors
from upweight.gradients.blocks import concatenated
from upweight.gradients.denormals import flushed
from upweight.gradients.terms import Outer
from upweight.influence.queries import QUERY_ELEMENTS, query_gradient_blocks, refuse_infinite
from upweight.measurements import Loss, Measurement
from upweight.objective import Objective

LIFT = 2.0**100
"""What gradients are multiplied by whose squared length is below 1/LIFT: an overfit model's would underflow."""


@flushed()
def gradient_products(
    objective: Objective, data: Data, measurement: Measurement, positions: Tensor | None, *, cosine: bool = False
) -> Float[Tensor, "queries train"]:
    """∇m_q · w_z∇ℓ_z, or the cosine of the two; one pass over the training data for each block of queries."""
    own = objective.function
    function = own if isinstance(measurement, Loss) else objective.bind(measurement.bind(objective.loss))
    if isinstance(function, FactoredFunction) and isinstance(own, FactoredFunction):
        blocks = _query_factors(objective, function, data)
        return torch.cat([_by_factors(objective, own, block, positions, cosine=cosine) for block in blocks])
    compare = _cosines if cosine else Objective.inner
    return torch.cat(
        [compare(objective, block, positions) for block in query_gradient_blocks(objective, data, measurement)]
    )


@flushed()
def squared_norms(objective: Objective, positions: Tensor | None) -> Float[Tensor, " train"]:
    """w_z‖∇ℓ_z‖², the gradient of an example's own loss along its own pull on θ."""
    function, parts = objective.function, []
    rows = objective.block_rows(_numbers(objective, function, objective.data))
    for index, batch in objective.data.batches(positions, rows):
        if isinstance(function, FactoredFunction):
            squares = function.factors(objective.params, batch).norms()
        else:
            squares = (function.materialize(objective.params, batch) ** 2).sum(1)
        parts.append(objective.weights[index] * squares)
    return torch.cat(parts)


def units(rows: Float[Tensor, "k width"]) -> Float[Tensor, "k width"]:
    """Rows of length 1, those that vanish left at 0."""
    lifted = rows * _lift((rows**2).sum(1))[:, None]
    return lifted * _inverse_root((lifted**2).sum(1))[:, None]


def _cosines(objective: Objective, gradients: Float[Tensor, "m p"], positions: Tensor | None) -> Tensor:
    """Each training gradient is formed once, for its length and for its products alike."""
    wanted = units(gradients)
    return torch.cat([wanted @ units(rows).T for _, rows in objective.example_gradients(positions)], dim=1)


def _by_factors(
    objective: Objective, function: FactoredFunction, queries: Factors, positions: Tensor | None, *, cosine: bool
) -> Float[Tensor, "m train"]:
    wanted = _unit_factors(queries) if cosine else queries
    parts = []
    rows = objective.block_rows(_numbers(objective, function, objective.data))
    for index, batch in objective.data.batches(positions, rows):
        found = function.factors(objective.params, batch).weighted(objective.weights[index])
        parts.append(_gram(wanted, _unit_factors(found) if cosine else found))
    return torch.cat(parts, dim=1)


def _gram(first: Factors, second: Factors) -> Float[Tensor, "m n"]:
    """Inner products; a function that had to leave the fast way for a parameter has other blocks than before."""
    if [block.shape for block in first.blocks] == [block.shape for block in second.blocks]:
        return first.gram(second)
    return second.inner(first.materialize())


def _query_factors(objective: Objective, function: FactoredFunction, data: Data) -> Iterator[Factors]:
    numbers = _numbers(objective, function, data)
    rows = objective.block_rows(numbers)

    def factors(block: Tensor) -> list[Factors]:
        return [function.factors(objective.params, batch) for _, batch in data.batches(block, rows)]

    for block in torch.arange(len(data)).split(max(QUERY_ELEMENTS // numbers, 1)):
        parts = factors(block)
        if len({tuple(each.shape for each in part.blocks) for part in parts}) > 1:
            parts = factors(block)  # a batch on the way showed that a parameter has no factors: now all agree
        found = concatenated(parts)
        refuse_infinite(found.norms()[:, None], int(block[0]))
        yield found


def _numbers(objective: Objective, function: ExampleFunction, data: Data) -> int:
    """Numbers that an example's gradient takes in inner products."""
    if not isinstance(function, FactoredFunction):
        return objective.p
    return sum(_numbers_of(block) for block in function.factors(objective.params, data.take([0])).blocks)


def _numbers_of(block: Block) -> int:
    """With several positions the gradient may have to be formed."""
    held = sum(term.numbers for term in block.terms)
    several = any(isinstance(term, Outer) and term.left.shape[1] > 1 for term in block.terms)
    return max(held, block.shape.rows * block.shape.columns) if several else held


def _unit_factors(factors: Factors) -> Factors:
    lifted = factors.weighted(_lift(factors.norms()))
    return lifted.weighted(_inverse_root(lifted.norms()))


def _lift(squares: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    return torch.where(squares < 1 / LIFT, LIFT, 1.0).to(squares.dtype)


def _inverse_root(squares: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    return squares.clamp_min(torch.finfo(squares.dtype).tiny).rsqrt()
