"""Kernel machines as linear ones: explicit features by a Cholesky factor of the kernel matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight.errors import InputError

LARGEST_JITTER = 1e-6
JITTERS = (1e-12, 1e-10, 1e-8, LARGEST_JITTER)
"""Tried in turn, relative to the mean of the kernel's diagonal."""

KERNEL_EXAMPLES = 15_000
"""Training examples up to which the n × n kernel (8 n² bytes) and its factor are made."""


@dataclass(frozen=True)
class Kernel:
    """k(x, x′) with scikit-learn's names and parameters; differentiable in x."""

    name: str
    gamma: float = 1.0
    degree: int = 3
    coef0: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in ("linear", "poly", "rbf", "precomputed"):
            raise InputError(
                f"estimator: SVC with kernel {self.name!r} is not supported; 'linear', 'poly', 'rbf' and 'precomputed' "
                "are (for a positive semi-definite kernel of your own, fit with kernel='precomputed')"
            )

    def __call__(self, x: Float[Tensor, "m d"], points: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
        """Kernel values; for ``precomputed``, x holds them already."""
        if self.name == "precomputed":
            return x
        if self.name == "rbf":
            squares = (x**2).sum(1, keepdim=True) + (points**2).sum(1) - 2 * x @ points.T
            return torch.exp(-self.gamma * squares.clamp_min(0))
        products = x @ points.T
        return products if self.name == "linear" else (self.gamma * products + self.coef0) ** self.degree


class KernelFeatures(nn.Module):
    """φ(x) = L⁻¹k(x), with K + εI = LLᵀ over the training points: φ(x)·φ(x_j) = k(x, x_j) up to ε.

    A machine f(x) = Σ_j α_j k(x, x_j) + b is w·φ(x) + b with w = Lᵀα: φ(x)ᵀLᵀα = k(x)ᵀα, exactly, whatever ε. The
    features of the training points are the rows of L up to ε.

    Parameters
    ----------
    kernel
        The kernel.
    points
        Training inputs, ``[n, d]``; for a precomputed kernel, the kernel matrix ``[n, n]``.

    Attributes
    ----------
    jitter
        ε, absolute.
    factor
        L, ``[n, n]``.

    Raises
    ------
    InputError
        If the kernel matrix is not positive semi-definite, or too large.
    """

    points: Tensor
    factor: Tensor

    def __init__(self, kernel: Kernel, points: Float[Tensor, "n d"]):
        super().__init__()
        if len(points) > KERNEL_EXAMPLES:
            raise InputError(
                f"X: {len(points):,} examples need a kernel matrix of {8 * len(points) ** 2 / 2**30:.0f} GiB; up to "
                f"{KERNEL_EXAMPLES:,} are allowed. Fit on a subset, or use LinearSVC on the features of "
                "sklearn.kernel_approximation.Nystroem"
            )
        self.kernel = kernel
        factor, self.jitter = factorise(kernel(points, points))
        self.register_buffer("points", points)
        self.register_buffer("factor", factor)

    def forward(self, inputs: Float[Tensor, "m d"]) -> Float[Tensor, "m n"]:
        """Features. Solved in float64: L is nearly singular for smooth kernels."""
        rows = self.kernel(inputs.double(), self.points.double())
        solved = torch.linalg.solve_triangular(self.factor.double(), rows.mT, upper=False)
        return solved.mT.to(inputs.dtype)

    def extra_repr(self) -> str:
        """Kernel and jitter."""
        return f"{self.kernel}, n={len(self.points)}, jitter={self.jitter:.1e}"


def factorise(matrix: Float[Tensor, "n n"]) -> tuple[Float[Tensor, "n n"], float]:
    """Cholesky factor of K + εI and the smallest ε of `JITTERS` (times the mean diagonal) that allows it."""
    scale = float(matrix.diagonal().mean())
    for relative in JITTERS:
        damped = matrix.clone()
        damped.diagonal().add_(relative * scale)
        factor, info = torch.linalg.cholesky_ex(damped)
        if int(info) == 0:
            return factor, relative * scale
    smallest = float(torch.linalg.eigvalsh(matrix)[0])
    raise InputError(
        f"estimator: the kernel matrix is not positive semi-definite (smallest eigenvalue {smallest:.2e}, mean "
        f"diagonal {scale:.2e}), so it has no features; use a positive semi-definite kernel (poly: coef0 ≥ 0)"
    )
