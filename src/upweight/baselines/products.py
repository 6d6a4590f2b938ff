"""Inner products and cosines of query gradients with training gradients, at the θ of an objective.

By factors where the model has them, so that neither side's gradients are formed; else the queries' are.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.data import Data
from upweight.engine.said import refuse_bad_gradients
from upweight.gradients import ExampleFunction, Gradients
from upweight.gradients.blocks import conformed
from upweight.gradients.denormals import flushed
from upweight.measurements import Measurement
from upweight.objective import Objective
from upweight.quantities.queries import numbers, query_factor_blocks, query_gradient_blocks

LIFT = 2.0**100
"""What gradients are multiplied by whose squared length is below 1/LIFT: an overfit model's would underflow."""


@flushed()
def gradient_products(
    objective: Objective,
    data: Data,
    measurement: Measurement,
    positions: Tensor | None,
    *,
    cosine: bool = False,
    metric: Float[Tensor, " p"] | None = None,
) -> Float[Tensor, "queries train"]:
    """∇m_q · w_z∇ℓ_z, or the cosine of the two; one pass over the training data for each block of queries.

    ``metric``: M of inner products ∇m_qᵀ M⁻¹ ∇ℓ_z, an entry for each of θ.
    """
    if metric is not None:
        rows = query_gradient_blocks(objective, data, measurement)
        return _finite(objective, torch.cat([_in_metric(objective, some, positions, metric, cosine) for some in rows]))
    own = objective.engine.function
    function = objective.engine.bind(measurement.bind(objective.loss))
    if function.factored and own.factored:
        blocks = query_factor_blocks(objective, function, data, measurement)
        parts = [_by_factors(objective, own, block, positions, cosine=cosine) for block in blocks]
    else:
        compare = _cosines if cosine else Objective.inner
        parts = [compare(objective, block, positions) for block in query_gradient_blocks(objective, data, measurement)]
    return _finite(objective, torch.cat(parts))


@flushed()
def squared_norms(
    objective: Objective, positions: Tensor | None, metric: Float[Tensor, " p"] | None = None
) -> Float[Tensor, " train"]:
    """w_z‖∇ℓ_z‖², the gradient of an example's own loss along its own pull on θ; in the metric's M⁻¹."""
    if metric is not None:
        return _finite(objective, torch.cat(list(_squares(objective, positions, metric))))
    function, parts = objective.engine.function, []
    rows = objective.engine.block_rows(numbers(objective, function, objective.data))
    for index, batch in objective.data.batches(positions, rows):
        parts.append(objective.weights[index] * function.each(objective.params, batch).norms())
    return _finite(objective, torch.cat(parts))


def _squares(
    objective: Objective, positions: Tensor | None, metric: Float[Tensor, " p"]
) -> Iterator[Float[Tensor, " block"]]:
    rows = objective.engine.block_rows(objective.p)
    for index, batch in objective.data.batches(positions, rows):
        gradients = objective.engine.function.each(objective.params, batch).materialize()
        yield objective.weights[index] * (gradients**2 / metric).sum(1)


def _in_metric(
    objective: Objective,
    queries: Float[Tensor, "m p"],
    positions: Tensor | None,
    metric: Float[Tensor, " p"],
    cosine: bool,
) -> Float[Tensor, "m train"]:
    if not cosine:
        return objective.engine.inner(queries / metric, positions)
    root = metric.sqrt()
    wanted = units(queries / root)
    return torch.cat([wanted @ units(rows / root).T for _, rows in objective.engine.gradients(positions)], dim=1)


def _finite(objective: Objective, found: Tensor) -> Tensor:
    """Products that are finite; where they aren't and a training example's gradient is the cause, it is named."""
    if not torch.isfinite(found).all():
        refuse_bad_gradients(objective.engine)
    return found


def units(rows: Float[Tensor, "k width"]) -> Float[Tensor, "k width"]:
    """Rows of length 1, those that vanish left at 0."""
    lifted = rows * _lift((rows**2).sum(1))[:, None]
    return lifted * _inverse_root((lifted**2).sum(1))[:, None]


def _cosines(objective: Objective, gradients: Float[Tensor, "m p"], positions: Tensor | None) -> Tensor:
    """Each training gradient is formed once, for its length and for its products alike."""
    wanted = units(gradients)
    return torch.cat([wanted @ units(rows).T for _, rows in objective.example_gradients(positions)], dim=1)


def _by_factors(
    objective: Objective, function: ExampleFunction, queries: Gradients, positions: Tensor | None, *, cosine: bool
) -> Float[Tensor, "m train"]:
    wanted = _unit_factors(queries) if cosine else queries
    parts = []
    rows = objective.engine.block_rows(numbers(objective, function, objective.data))
    for index, batch in objective.data.batches(positions, rows):
        found = function.each(objective.params, batch).weighted(objective.weights[index])
        parts.append(_gram(wanted, _unit_factors(found) if cosine else found))
    return torch.cat(parts, dim=1)


def _gram(first: Gradients, second: Gradients) -> Float[Tensor, "m n"]:
    """Inner products, whatever blocks the two are cut into."""
    return first.gram(conformed(second, first.shapes))


def _unit_factors(factors: Gradients) -> Gradients:
    lifted = factors.weighted(_lift(factors.norms()))
    return lifted.weighted(_inverse_root(lifted.norms()))


def _lift(squares: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    return torch.where(squares < 1 / LIFT, LIFT, 1.0).to(squares.dtype)


def _inverse_root(squares: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    return squares.clamp_min(torch.finfo(squares.dtype).tiny).rsqrt()
