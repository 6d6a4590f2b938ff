"""The largest |eigenvalue| of a symmetric matrix by the power method."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from upweight.linalg.rows import Apply


def power(apply: Apply, start: Float[Tensor, "k p"], steps: int) -> float:
    """‖A u‖ of the last of ``steps`` unit vectors, which is the largest |eigenvalue| from below; 0 if A takes one to 0.

    Of AᵀA it is the square of ‖A‖. Several rows count as one long vector.
    """
    x, found = start, 0.0
    for _ in range(steps):
        size = float(x.norm())
        if size == 0:
            break
        x = apply(x / size)
        found = float(x.norm())
    return found
