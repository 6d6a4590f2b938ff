"""The hat matrix and (AᵀWA + Λ)⁻¹ from one QR factorisation, without ever forming AᵀWA.

The rows √W A, and below them √Λ, have their columns brought to length 1 (van der Sluis 1969: within √p of the best
scaling there is), their rows sorted by size, and their columns pivoted, which is stable row by row (Cox & Higham 1998):
columns of unlike units and near-collinear ones cost no digits of the hat matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import qr, solve_triangular

EPS = float(np.finfo(np.float64).eps)
SURE = 1e-8
"""A leverage at most this far from 1 may be 1 in truth; farther from it, it isn't, whatever the condition."""
PART = 1e-7
"""Share in a combination of columns that is zero, from which a column counts as part of it."""


@dataclass(frozen=True, eq=False)
class Factor:
    """What the measures need of H = AᵀWA + Λ.

    Attributes
    ----------
    hat
        h_i = W_i a_iᵀH⁻¹a_i, ``[n]``; exactly 1 where it is 1 to rounding.
    basis
        The rows of Q, ``[n, rank]``: the hat matrix is QQᵀ.
    solved
        √W_i H⁻¹a_i, ``[n, p]``.
    variances
        The diagonal of H⁻¹, ``[p]``.
    identified
        Whether the data and the penalty determine the parameter, ``[p]``; the others are NaN in what stands above.
    """

    hat: Float[np.ndarray, " n"]
    basis: Float[np.ndarray, "n rank"]
    solved: Float[np.ndarray, "n p"]
    variances: Float[np.ndarray, " p"]
    identified: Bool[np.ndarray, " p"]

    @property
    def rank(self) -> int:
        """Of the rows and the penalty together."""
        return self.basis.shape[1]


def factor(rows: Float[np.ndarray, "n p"], penalty: Float[np.ndarray, " p"]) -> Factor:
    """Factor AᵀWA + Λ from the rows √W_i a_i and the diagonal of Λ."""
    n, p = rows.shape
    stacked = np.concatenate([rows, np.diag(np.sqrt(penalty))[penalty > 0]])
    lengths = np.linalg.norm(stacked, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    stacked = stacked / lengths
    order = np.argsort(-np.abs(stacked).max(1), kind="stable")
    q, r, pivots = qr(stacked[order], mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(r))
    rank = int((diagonal > max(stacked.shape) * EPS * diagonal[0]).sum())
    basis = np.empty((len(stacked), rank))
    basis[order] = q[:, :rank]
    basis = basis[:n]
    upper = r[:rank, :rank]
    inverse = np.zeros((p, rank))  # H⁻¹ = inverse inverseᵀ, and inverse Qᵀ its product with the rows
    identified = np.ones(p, dtype=bool)
    identified[pivots[rank:]] = False
    if rank:
        solved = solve_triangular(upper, np.concatenate([np.eye(rank), r[:rank, rank:]], axis=1))
        inverse[pivots[:rank]] = solved[:, :rank]
        in_others = np.abs(solved[:, rank:]).max(1, initial=0) > PART
        identified[pivots[:rank][in_others]] = False
    inverse /= lengths[:, None]
    inverse[~identified] = np.nan
    hat = (basis**2).sum(1)
    doubt = min(10 * EPS * float(np.linalg.cond(upper)), SURE) if rank else 0.0
    hat = np.where(hat >= 1 - doubt, 1.0, hat)
    return Factor(hat, basis, basis @ inverse.T, (inverse**2).sum(1), identified)
