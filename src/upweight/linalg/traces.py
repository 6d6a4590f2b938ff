"""Traces of a matrix and of its functions by products with random signs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.linalg.lanczos import lanczos
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


def quadrature(apply: Apply, signs: Float[Tensor, "k p"], steps: int) -> Spectrum:
    """Stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017) of a symmetric positive semi-definite matrix.

    All probes are in one product a step. The spectrum is in float64, on the CPU.
    """
    probes, size = signs.shape
    found = lanczos(apply, signs / math.sqrt(size), min(steps, size), whole=False)
    values, vectors = torch.linalg.eigh(found.tridiagonal.double().cpu())
    weights = vectors[:, 0, :] ** 2 * (size / probes)
    return Spectrum(values.flatten(), weights.flatten())
