"""Symmetric matrices of a given spectrum, for tests of what multiplies with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

DOUBLE = torch.float64


def with_spectrum(values: Sequence[float] | Tensor, seed: int = 0) -> Tensor:
    """A matrix with these eigenvalues and random eigenvectors."""
    spectrum = torch.as_tensor(values, dtype=DOUBLE)
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=generator, dtype=DOUBLE))
    matrix = basis @ torch.diag(spectrum) @ basis.T
    return (matrix + matrix.T) / 2


def rows(count: int, size: int, seed: int = 1) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def times(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """Products of a symmetric matrix with rows."""
    return lambda vectors: vectors @ matrix


SPECTRA = {
    "one": [2.0],
    "even": torch.linspace(0.1, 2.0, 12).tolist(),
    "decaying": (0.6 ** torch.arange(20, dtype=DOUBLE)).tolist(),
    "clustered": [1.0] * 15 + [1.0 + 1e-9] * 5 + [50.0, 50.0, 1e-3],
    "equal": [3.0] * 8,
    "wide": torch.logspace(-6, 2, 30, dtype=DOUBLE).tolist(),
}
"""Positive definite ones."""
