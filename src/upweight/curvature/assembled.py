"""A curvature as a matrix, of a model whose outputs are not linear in θ: by products, or from the outputs' Jacobian.

p products differentiate the whole model p times, a few dozen vectors at once. The GGN is (1/n) Σ J_iᵀΛ_iJ_i, so that
one pass gives it from the rows of J (`upweight.curvature.from_rows`), at the speed of a matrix product.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature.from_rows import Blocks, Work, curvature_of, jacobian, order, work
from upweight.curvature.operators import Operator
from upweight.engine.kinks import refuse_no_second_derivative
from upweight.forward import refuse_half
from upweight.gradients.terms import Outer
from upweight.losses import Loss
from upweight.objective import Objective
from upweight.progress import track

COLUMNS = 256
"""Columns of a matrix that share a pass over the data."""
MOST_OUTPUTS = 512
"""Of an example, each of which costs a pass."""
PACE = 4.0
"""How many times slower than a matrix product an operation of a differentiated model is."""


@runtime_checkable
class Summed(Operator, Protocol):
    """A curvature as a sum over examples."""

    @property
    def objective(self) -> Objective:
        """Whose curvature."""
        ...

    @property
    def name(self) -> str:
        """The matrix in words."""
        ...

    @property
    def indices(self) -> Tensor | None:
        """The examples summed over; None: all."""
        ...

    @property
    def penalized(self) -> bool:
        """Whether diag(λ) is added."""
        ...

    @property
    def factor(self) -> float:
        """What w_i is multiplied by."""
        ...

    @property
    def examples(self) -> int:
        """Number of examples summed over."""
        ...


def pass_flops(objective: Objective) -> float:
    """Of one forward and backward over all training data: three products with every parameter at each position."""
    return objective.engine.kept("operations of a pass", lambda: _pass_flops(objective))


def _pass_flops(objective: Objective) -> float:
    function = objective.engine.function
    if not function.factored:
        return 6.0 * objective.p * objective.n
    one = function.each(objective.params, objective.data.take([0]), compacted=False)
    terms = [term for block in one.blocks for term in block.terms]
    products = sum(term.left.shape[1] * math.prod(term.shape) for term in terms if isinstance(term, Outer))
    return 6.0 * max(products, 1) * objective.n


def rows_work(objective: Objective) -> Work | None:
    """Of the GGN from the rows of J; None where the model has no factors, its loss no outputs, or far too many."""
    if not objective.engine.function.factored or not isinstance(objective.loss, Loss):
        return None
    one = objective.data.take([0])
    if objective.outputs(one).numel() > MOST_OUTPUTS:
        return None
    return objective.engine.kept("work of the rows", lambda: work(jacobian(objective, one)[0]))


def rows_flops(objective: Objective, a_pass: float) -> float | None:
    """Operations of the GGN from the rows of J; None where it has none."""
    found = rows_work(objective)
    if found is None:
        return None
    return objective.outputs(objective.data.take([0])).numel() * a_pass + objective.n * found.flops


def products_flops(objective: Objective, a_pass: float) -> float:
    """Of p products."""
    return 4.0 / 3 * objective.p * a_pass


def takes_rows(objective: Objective, name: str, a_pass: float) -> bool:
    """Whether the matrix of this name comes from the rows of J."""
    found = rows_flops(objective, a_pass) if name == "GGN" else None
    return found is not None and found <= PACE * products_flops(objective, a_pass)


def assembled(curvature: Summed) -> Float[Tensor, "p p"]:
    """The matrix, by what costs less.

    Raises
    ------
    InputError
        If the model runs in 16 bits.
    """
    objective = curvature.objective
    refuse_half(
        objective.model,
        "curvature",
        f"the whole {curvature.name} is to be inverted, or decomposed, to more digits than 16 bits leave",
        ", or an inverse by rows of first derivatives: inverse.Dual(), inverse.EKFAC() or inverse.KFAC()",
    )
    if takes_rows(objective, curvature.name, pass_flops(objective)):
        return by_rows(curvature)
    return by_products(curvature)


def by_products(curvature: Summed) -> Float[Tensor, "p p"]:
    """From p products."""
    p = curvature.size
    matrix = torch.empty(p, p, dtype=curvature.dtype, device=curvature.device)
    starts = range(0, p, COLUMNS)
    for start in track(starts, f"columns of the {curvature.name}, {COLUMNS} at a time"):
        units = matrix[start : start + COLUMNS]
        units.zero_().diagonal(start).fill_(1)
        matrix[start : start + COLUMNS] = curvature.apply(units)
    return matrix.add_(matrix.T.clone()).div_(2)


def by_rows(curvature: Summed) -> Float[Tensor, "p p"]:
    """(1/n) Σ w_i J_iᵀΛ_iJ_i + diag(λ) in one pass over the examples."""
    objective = curvature.objective
    counted = rows_work(objective)
    assert counted is not None
    size = min(objective.engine.block_rows(counted.numbers), objective.engine.pass_rows)
    batches = objective.data.batches(curvature.indices, size)
    blocks, places = Blocks(), torch.empty(0)
    for index, batch in track(batches, f"rows of the {curvature.name}", -(-curvature.examples // size)):
        parts, outputs, factors = jacobian(objective, batch)
        blocks.add(parts, curvature_of(objective, outputs, batch, curvature.factor * objective.weights[index]))
        places = order(factors).to(curvature.device)
    matrix = blocks.matrix()
    if not torch.equal(places, torch.arange(len(places), device=places.device)):
        matrix = matrix[places][:, places]
    if not torch.isfinite(matrix).all():
        refuse_no_second_derivative(objective.engine, curvature.indices, curvature.name)
    if curvature.penalized:
        matrix.diagonal().add_(objective.l2)
    return matrix
