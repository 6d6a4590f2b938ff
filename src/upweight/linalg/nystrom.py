"""A positive semi-definite matrix from one product with a few random vectors.

Frangella, Tropp & Udell (2021), "Randomized Nyström preconditioning", algorithm 2.1. With Ω an orthonormal test
matrix of r rows and Y = ΩB: B ≈ Yᵀ(YΩᵀ)⁻¹Y, the best that can be said of a positive semi-definite B from Y, and
never more than B. It differs from the paper in that the shift ν, which keeps the Cholesky factor real, is no smaller
than the error of the products, as their asymmetry shows it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.linalg.eigh import eigh
from upweight.linalg.errors import NotPositiveError
from upweight.linalg.rows import Apply

ROUNDING = 10
"""Multiple of the precision below which an eigenvalue is noise."""


def nystrom(apply: Apply, test: Float[Tensor, "r p"]) -> tuple[Float[Tensor, " r"], Float[Tensor, "r p"], float]:
    """Eigenvalues of the approximation from orthonormal test rows Ω, largest first and none negative, and their rows.

    The third is what the products' rounding may have added to one, in units of the largest.

    Raises
    ------
    NotPositiveError
        If a direction of negative curvature is seen.
    """
    sketch = apply(test)
    core = sketch @ test.T
    noise = max(ROUNDING * torch.finfo(core.dtype).eps * float(sketch.norm()), float((core - core.T).norm()))
    values, turn = eigh(core)
    if float(values[0]) < -noise:
        raise NotPositiveError(float(values[0]), 0, float(values.abs().max()))
    shift = max(2 * noise, torch.finfo(core.dtype).tiny)  # a matrix of zeros has no noise
    # By eigenvectors in place of the paper's Cholesky factor: any square root of the core serves.
    root = (turn / (values + shift).sqrt()).T @ (sketch + shift * test)
    basis, triangle = torch.linalg.qr(root.T)
    squares, turn = eigh(triangle @ triangle.T)
    found = (squares - shift).clamp_min(0).flip(0)
    return found, (basis @ turn).T.flip(0), noise / max(float(found[0]), shift)
