"""EK-FAC: the eigenbasis of K-FAC with the eigenvalues that are best in it (George et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import get_args

from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Fisher, Operator, RowCurvature, Rows
from upweight.curvature.eigenbasis import Basis, EigenOperator
from upweight.curvature.kronecker import Approximation, Inputs, blocks, kronecker_factors, refuse_not_finite
from upweight.errors import InputError
from upweight.gradients import Shape
from upweight.gradients.denormals import flushed
from upweight.inverse.costs import Counts, Work
from upweight.inverse.damping import Damping
from upweight.inverse.eigenbasis import EigenSolver, eigenbases, rows_of
from upweight.inverse.layer_costs import ekfac_stages
from upweight.objective import Objective


@dataclass(frozen=True)
class EKFAC:
    """Q diag(Λ) Qᵀ per layer, Q = Q_G ⊗ Q_A of K-FAC and Λ the second moments of the rows in that basis.

    Two passes over the rows. No other diagonal in the basis is nearer to the layer's curvature in Frobenius norm
    (George et al. 2018, proposition 1), and Λ + δ damps each direction by δ exactly, which K-FAC's factors can't.

    Parameters
    ----------
    curvature
        ``Fisher(samples, seed)``, ``EmpiricalFisher()`` or ``GGN()``.
    damping
        δ; > 0 wherever a parameter without l2 has directions without curvature.
    approximation, inputs
        Whose eigenvectors the basis has: as for `KFAC`.
    penalized
        Whether the objective's l2 is part of the matrix, as it is of the objective's curvature. False is for networks
        far from fitting their data, where all damping harms the ranks (measured: `upweight.inverse.effective`). Sizes
        are then to be read even less: removals of halves were overrated twice as much as with the penalty.
    tolerance
        Relative error up to which 1/(Λ+λ+δ) of a layer is a short sum of outer products, so that a pair of query and
        example of one position each costs in + out: only where all pairs by all its entries are long work (2e11
        operations), and the order of a sample of pairs stays (Spearman ≥ .99; the report says which). 0: always to the
        root of the precision.
    query_rank
        Rank to which every query's solved gradient is cut, layer by layer, for less memory (the report says how much is
        kept of each); default: not.

    Raises
    ------
    InputError
        If a gradient is NaN, with its training example; if Λ + λ + δ is 0 in a direction; if no layer has a
        ``query_rank``.
    """

    curvature: RowCurvature = field(default_factory=Fisher)
    _: KW_ONLY
    damping: Damping = "auto"
    penalized: bool = True
    approximation: Approximation = "expand"
    inputs: Inputs = "active"
    tolerance: float = 0.02
    query_rank: int | None = None

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.one_of("approximation", self.approximation, get_args(Approximation))
        scalars.one_of("inputs", self.inputs, get_args(Inputs))
        scalars.flag("penalized", self.penalized)
        scalars.number("tolerance", self.tolerance, least=0, below=1)
        if self.query_rank is not None:
            scalars.whole("query_rank", self.query_rank)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return Work(tuple(ekfac_stages(counts, self.tolerance)))

    def fit(self, target: Objective | Operator) -> EigenSolver:
        """Eigenvectors from one pass over the rows, second moments in them from another."""
        rows = rows_of(target, self.curvature, "EKFAC")
        self.refuse_rank(rows.objective.engine.function.plan.shapes)
        dtype = rows.objective.dtype
        found = kronecker_factors(rows, self.approximation, self.inputs)
        bases = [basis for basis, _, _ in eigenbases(found, dtype)]
        return self.solver(diagonalised(rows, bases, self.named(rows), penalized=self.penalized))

    def named(self, rows: Rows) -> str:
        """The approximation of this curvature in words."""
        return f"EK-FAC of the {rows.name}" + ("" if self.penalized else ", without the penalty")

    def solver(self, operator: EigenOperator) -> EigenSolver:
        """The inverse of what was fitted, with these settings."""
        return EigenSolver.of(operator, self.damping, self.tolerance, self.query_rank)

    def refuse_rank(self, shapes: Sequence[Shape]) -> None:
        """Refuse a rank that no layer has.

        Raises
        ------
        InputError
            Names the largest there is.
        """
        most, largest = max((min(shape.rows, shape.columns), shape.weight) for shape in shapes)
        if self.query_rank is not None and self.query_rank > most:
            raise InputError(
                f"query_rank: {self.query_rank} is above what any layer has, {most} in {largest!r}; give less, or "
                "leave it out"
            )


def diagonalised(rows: Rows, bases: Sequence[Basis], name: str, *, penalized: bool = True) -> EigenOperator:
    """Λ = Σ over rows of their squared entries in the basis: with one position a product of squared factors."""
    values = square_sums(rows, bases)
    refuse_not_finite(rows, values)
    return EigenOperator(rows.objective, tuple(bases), values, name, penalized, rows.l2)


def square_sums(rows: Rows, bases: Sequence[Basis], chosen: Tensor | None = None) -> tuple[Tensor, ...]:
    """Σ over these rows (None: all) of their squared entries in the bases, block by block."""
    by_shape, values = {basis.shape: basis for basis in bases}, dict[Shape, Tensor]()
    with flushed():
        for _, factors in blocks(rows, chosen):
            for block in factors.blocks:
                squares = by_shape[block.shape].squares(block)
                values[block.shape] = values[block.shape].add_(squares) if block.shape in values else squares
            del factors  # before the next ones are made
    return tuple(values[basis.shape] if basis.shape in values else _zeros(basis, rows.weights) for basis in bases)


def _zeros(basis: Basis, like: Tensor) -> Tensor:
    """Of a block of which there is no row."""
    rows, columns = basis.shape.rows, basis.shape.columns
    return like.new_zeros((1, rows * columns) if basis.flat else (rows, columns))
