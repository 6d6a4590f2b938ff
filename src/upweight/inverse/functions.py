"""f(H) of vectors, where a solver knows its matrix by eigenvalues: dense, dual, K-FAC, EK-FAC and the diagonal.

With a metric P, diagonal, of the optimiser's steps (θ moves by P⁻¹ times the gradient) it is f(P^−½ H P^−½).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.errors import InputError
from upweight.inverse.dense import DenseSolver
from upweight.inverse.dual import DualSolver
from upweight.inverse.eigenbasis import EigenSolver
from upweight.inverse.interface import Solver

Function = Callable[[Tensor], Tensor]
"""Of eigenvalues, entry by entry."""
FORMED = 64
"""Rows of a dual that are formed at a time."""


class MatrixFunctions(ABC):
    """Functions of one symmetric matrix."""

    @abstractmethod
    def apply(self, function: Function, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V f(H), for k vectors as rows."""


@dataclass(frozen=True, eq=False)
class OfEigenvectors(MatrixFunctions):
    """Q f(Λ) Qᵀ with all of Q."""

    values: Float[Tensor, " p"]
    vectors: Float[Tensor, "p p"]

    def apply(self, function: Function, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """See `MatrixFunctions`."""
        inside = vectors.to(self.vectors.dtype) @ self.vectors
        return ((inside * function(self.values)) @ self.vectors.T).to(vectors.dtype)


@dataclass(frozen=True, eq=False)
class OfBlocks(MatrixFunctions):
    """The same block by block, in Kronecker bases."""

    solver: EigenSolver

    def apply(self, function: Function, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """See `MatrixFunctions`."""
        operator = self.solver.operator
        pairs = zip(operator.values, operator.penalty, strict=True)
        penalized = float(operator.penalized)
        return operator.scaled(vectors, (function(values + penalized * penalty) for values, penalty in pairs))


@dataclass(frozen=True, eq=False)
class OfRows(MatrixFunctions):
    """f(AᵀA + λI) = f(λ)I + AᵀU (f(S+λ) − f(λ))/S UᵀA, with AAᵀ = USUᵀ."""

    solver: DualSolver
    penalty: float
    values: Float[Tensor, " r"]
    vectors: Float[Tensor, "r r"]
    scale: Float[Tensor, " p"] | None = None

    def apply(self, function: Function, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """See `MatrixFunctions`."""
        alone = function(self.values.new_tensor([self.penalty]))
        kept = self.values > 100 * torch.finfo(vectors.dtype).eps * self.values.max()
        ratio = torch.where(kept, (function(self.values + self.penalty) - alone) / self.values, 0)
        inner = self.solver.inner(self._scaled(vectors)).to(ratio.dtype)
        found = ((inner @ self.vectors) * ratio) @ self.vectors.T
        return alone.to(vectors.dtype) * vectors + self._scaled(self.solver.combine(found.to(vectors.dtype)))

    def _scaled(self, vectors: Tensor) -> Tensor:
        return vectors if self.scale is None else vectors * self.scale


def matrix_functions(solver: Solver, metric: Float[Tensor, " p"] | None = None) -> MatrixFunctions:
    """Functions of the matrix that a solver was fitted to, its penalty included and without damping.

    Parameters
    ----------
    metric
        √v̂ + ε of Adam's steps, ``[p]``.

    Raises
    ------
    InputError
        If the solver doesn't know its matrix by eigenvalues, or not in this metric; of a dual, if λ differs between
        parameters, or there is one beside a metric.
    """
    root = None if metric is None else metric.rsqrt()
    if isinstance(solver, DenseSolver):
        matrix = solver.matrix.double()
        matrix = matrix if root is None else root.double()[:, None] * matrix * root.double()
        return OfEigenvectors(*torch.linalg.eigh(matrix))
    if isinstance(solver, DualSolver):
        return _of_rows(solver, root)
    if isinstance(solver, EigenSolver) and root is None:
        return OfBlocks(solver)
    if root is not None:
        raise InputError(
            "inverse: in the metric of Adam's steps the spectrum is known of inverse.Dense() and inverse.Dual() alone; "
            f"got {getattr(solver, 'name', type(solver).__name__)}"
        )
    raise InputError(
        "inverse: functions of the matrix need its eigenvalues: give inverse.EKFAC(), inverse.Dual() or "
        f"inverse.Dense(); got {getattr(solver, 'name', type(solver).__name__)}"
    )


def _of_rows(solver: DualSolver, root: Tensor | None) -> OfRows:
    if len(solver.levels) > 1 or (root is not None and bool((solver.levels > 0).any())):
        why = "beside the metric of Adam's steps" if len(solver.levels) == 1 else "that differs between parameters"
        raise InputError(
            f"inverse: functions of the dual's matrix are not known with an l2 {why}; give inverse.Dense(), or "
            + ("an objective without l2" if len(solver.levels) == 1 else "inverse.EKFAC()")
        )
    gram = solver.gram[0] if root is None else _gram(solver, root)
    values, vectors = torch.linalg.eigh(gram.double())
    return OfRows(solver, float(solver.levels[0]), values.clamp_min(0), vectors, root)


def _gram(solver: DualSolver, root: Float[Tensor, " p"]) -> Float[Tensor, "r r"]:
    """Inner products of all rows in a metric that differs from entry to entry: so rows are formed, few at a time."""
    rows = torch.eye(solver.rank, dtype=root.dtype, device=root.device).split(FORMED)
    return torch.cat([solver.inner(solver.combine(some) * root**2) for some in rows])
