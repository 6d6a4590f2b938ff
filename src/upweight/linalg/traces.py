"""Traces of a matrix and of its functions by products with random signs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.linalg.lanczos import Krylov, lanczos
from upweight.linalg.rows import Apply


@dataclass(frozen=True)
class Spectrum:
    """Σ weight·f(value) estimates tr f(B): eigenvalues themselves with weight 1, or nodes of a quadrature."""

    values: Float[Tensor, " r"]
    weights: Float[Tensor, " r"]

    def effective_dimension(self, shift: float) -> float:
        """tr B(B + shift)⁻¹."""
        values = self.values.clamp_min(0)
        return float((self.weights * values / (values + shift)).sum())

    @property
    def trace(self) -> float:
        """tr B."""
        return float((self.weights * self.values).sum())


def random_signs(
    rows: int, size: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "k p"]:
    """Rows of ±1, drawn on the CPU so that a seed means the same on every device."""
    return (torch.randint(0, 2, (rows, size), generator=generator).to(dtype) * 2 - 1).to(device)


def mean_eigenvalue(apply: Apply, signs: Float[Tensor, "k p"]) -> float:
    """Hutchinson's estimate (1990) of tr A/p: the mean of sᵀAs/p."""
    return float((signs * apply(signs)).sum() / signs.numel())


def quadrature(
    apply: Apply, signs: Float[Tensor, "k p"], steps: int, enough: Callable[[Spectrum, Spectrum], bool] | None = None
) -> Spectrum:
    """Stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017) of a symmetric positive semi-definite matrix.

    All probes are in one product a step. The spectrum is in float64, on the CPU.

    Parameters
    ----------
    enough
        Ends it before ``steps`` where it says so of Gauss's spectrum and of Gauss and Radau's with a node at 0: for
        these probes effective dimensions are between theirs, that of the first from above (Golub & Meurant 2010,
        theorems 6.4 and 6.6).
    """
    probes, size = signs.shape

    def is_enough(diagonal: Tensor, off: Tensor) -> bool:
        assert enough is not None
        ends = _tridiagonal(diagonal, off[:, :-1]), _with_node_at_zero(diagonal, off)
        return bool(torch.isfinite(ends[1]).all()) and enough(*(_nodes(each, size / probes) for each in ends))

    start, limit = signs / math.sqrt(size), min(steps, size)
    found = lanczos(apply, start, limit, whole=False, enough=None if enough is None else is_enough)
    return _nodes(_tridiagonal(found.diagonal, found.off), size / probes)


def _tridiagonal(diagonal: Tensor, off: Tensor) -> Float[Tensor, "k s s"]:
    return Krylov(diagonal, off, None, 0.0).tridiagonal.double().cpu()


def _with_node_at_zero(diagonal: Tensor, off: Tensor) -> Float[Tensor, "k t t"]:
    """T with a row more, so that 0 is an eigenvalue; infinite where T isn't positive."""
    values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, off[:, :-1]))
    squares = torch.where(values > 0, vectors[:, -1, :] ** 2 / values, torch.inf)
    last = off[:, -1].double().cpu() ** 2 * squares.sum(1)
    return _tridiagonal(torch.cat([diagonal.double().cpu(), last[:, None]], 1), off.double().cpu())


def _nodes(tridiagonal: Float[Tensor, "k s s"], weight: float) -> Spectrum:
    """Eigenvalues, each by its share of the probe that it began from."""
    values, vectors = torch.linalg.eigh(tridiagonal)
    return Spectrum(values.flatten(), (vectors[:, 0, :] ** 2 * weight).flatten())
