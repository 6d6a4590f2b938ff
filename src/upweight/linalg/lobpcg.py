"""The smallest eigenvalue of a symmetric matrix by LOBPCG (Knyazev 2001), as SciPy has it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from upweight.linalg.rows import Apply

BLOCK, ACCURACY = 4, 1e-4


def smallest_eigenvalue(
    apply: Apply, size: int, limit: int, *, precondition: Apply | None = None, seed: int = 0
) -> float:
    """An upper bound of it, by ``limit`` products with a block of vectors at most.

    Products take and give rows on the CPU, those that come in float64.
    """
    from scipy.sparse.linalg import lobpcg  # here: a quarter of a second that the import of the package would take

    start = np.random.default_rng(seed).standard_normal((size, BLOCK))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a bound is a bound before it has converged
        values, _ = lobpcg(
            _columns(apply),
            start,
            M=None if precondition is None else _columns(precondition),
            largest=False,
            maxiter=limit,
            tol=ACCURACY,
        )
    return float(values.min())


def _columns(rows: Apply) -> Callable[[np.ndarray], np.ndarray]:
    return lambda block: rows(torch.from_numpy(block.T.copy())).double().T.numpy()
