"""Symmetric linear operators, and the smallest ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.arrays import dense
from upweight.errors import InputError
from upweight.linalg import traces
from upweight.objective import Objective


@runtime_checkable
class Operator(Protocol):
    """A symmetric p × p matrix known by its products."""

    @property
    def size(self) -> int:
        """The number of rows p."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the products."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the products are made."""
        ...

    def apply(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Product with k vectors, given as rows."""
        ...

    def dense(self) -> Float[Tensor, "p p"]:
        """The matrix itself; for small p."""
        ...


def refuse_other_rows(vectors: Tensor, size: int) -> None:
    """Refuse what isn't rows of this length.

    Raises
    ------
    InputError
        Names the form that was expected, and that given.
    """
    if vectors.dim() != 2 or vectors.shape[1] != size:
        raise InputError(f"vectors: expected [k, {size}] (rows); got {tuple(vectors.shape)}")


@runtime_checkable
class Traced(Protocol):
    """An operator that knows its trace, or can have it for less than a few products."""

    def trace(self) -> float:
        """Sum of the eigenvalues."""
        ...


class OfObjective:
    """Size, precision and place of a matrix over the θ of an objective."""

    objective: Objective

    @property
    def size(self) -> int:
        """The number of parameters p."""
        return self.objective.p

    @property
    def dtype(self) -> torch.dtype:
        """Precision of θ."""
        return self.objective.dtype

    @property
    def device(self) -> torch.device:
        """Device of θ."""
        return self.objective.device


@dataclass(frozen=True)
class Matrix:
    """A symmetric matrix given as such."""

    matrix: Float[Tensor, "p p"]

    def __post_init__(self) -> None:
        m = dense(scalars.instance("matrix", self.matrix, Tensor, "a square and symmetric tensor [p, p]"), "matrix")
        if not m.is_floating_point():
            raise InputError(f"matrix: give torch.float64 or torch.float32; got {m.dtype}")
        if not torch.isfinite(m).all():
            raise InputError(f"matrix: {int((~torch.isfinite(m)).sum())} entries are NaN or infinite")
        if m.dim() != 2 or m.shape[0] != m.shape[1] or not _symmetric(m):
            raise InputError(f"matrix: must be square and symmetric; got shape {tuple(m.shape)}")

    @property
    def size(self) -> int:
        """The number of rows p."""
        return self.matrix.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the matrix."""
        return self.matrix.dtype

    @property
    def device(self) -> torch.device:
        """Where the matrix is."""
        return self.matrix.device

    def apply(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Product with k vectors, given as rows."""
        refuse_other_rows(vectors, self.size)
        return vectors @ self.matrix

    def dense(self) -> Float[Tensor, "p p"]:
        """The matrix."""
        return self.matrix


def _symmetric(matrix: Float[Tensor, "p p"]) -> bool:
    """Whether it is its transpose to rounding; the exact comparison is first, as it takes a tenth of the time."""
    return torch.equal(matrix, matrix.T) or torch.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-8)


@dataclass(frozen=True)
class Difference:
    """first − second, e.g. the curvature of all examples less that of a removed group."""

    first: Operator
    second: Operator

    def __post_init__(self) -> None:
        kinds.check_fields(self)

    @property
    def size(self) -> int:
        """The number of rows p."""
        return self.first.size

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the products."""
        return self.first.dtype

    @property
    def device(self) -> torch.device:
        """Where the products are made."""
        return self.first.device

    def apply(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Product with k vectors, given as rows."""
        return self.first.apply(vectors) - self.second.apply(vectors)

    def dense(self) -> Float[Tensor, "p p"]:
        """The matrix itself; for small p."""
        return self.first.dense() - self.second.dense()


def mean_eigenvalue(operator: Operator, *, samples: int = 32, seed: int = 0) -> float:
    """tr(A)/p: exact if the operator knows it or p ≤ ``samples``, else by Hutchinson's estimate with random signs.

    Parameters
    ----------
    operator
        A, symmetric.
    samples
        Vectors of signs that it is estimated from (default 32), a product with the matrix each.
    seed
        Of the signs.
    """
    kinds.check(mean_eigenvalue, locals())
    scalars.whole("samples", samples)
    scalars.seed("seed", seed)
    p = operator.size
    if isinstance(operator, Traced):
        return operator.trace() / p
    if p <= samples:
        return float(operator.dense().diagonal().mean())
    signs = traces.random_signs(samples, p, scalars.generator(seed), operator.dtype, operator.device)
    return traces.mean_eigenvalue(operator.apply, signs)
