"""Block conjugate gradients: all right-hand sides search one common space.

Each product serves every vector, and each vector gains by the directions of all (O'Leary 1980), so a hundred need far
fewer iterations than one. The form is Dubrulle's (2001, BCGrQ): the residuals are kept as C Q with orthonormal Q, which
stays accurate where right-hand sides depend on each other or are done at different times. It differs from the paper in:
1. directions that are zero to rounding are left out, so a product is never made for more than p vectors; 2. Q may be
orthonormal in a preconditioner; 3. the residual is recomputed with the matrix before convergence is claimed, and the
iteration restarted from it if the recurrence had drifted; 4. a direction of negative curvature ends the solve with its
figure. One vector alone takes the steps of the textbook; the solutions of other groupings agree to the tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.linalg.errors import NotPositiveError, PreconditionerNotPositiveError
from upweight.linalg.rows import Apply, Watch, relative, unwatched

RESTARTS = 3
MARGIN = 0.8
"""Share of the tolerance that the recurrence aims for: its residual drifts from the true one by rounding."""
ROUNDING = 10
"""Multiple of the precision below which a direction is noise."""


@dataclass(frozen=True, eq=False)
class Solved:
    """Solutions of A x = v by rows, and how near they are.

    Attributes
    ----------
    residuals
        ‖v − A x‖/‖v‖, recomputed with A.
    history
        The largest ‖r‖/‖v‖ of those unfinished before the first iteration and after each, as the recurrence has it;
        empty if there was nothing to do.
    smallest
        The smallest dᵀAd/dᵀd that was met, inf if none was.
    """

    x: Float[Tensor, "k p"]
    residuals: Float[Tensor, " k"]
    history: tuple[float, ...]
    smallest: float


def block_cg(
    apply: Apply,
    vectors: Float[Tensor, "k p"],
    tolerance: float,
    limit: int,
    precondition: Apply | None = None,
    watch: Watch = unwatched,
) -> Solved:
    """A⁻¹ of every row to ‖v − A x‖ ≤ tolerance · ‖v‖, A and the preconditioner symmetric and positive definite.

    Raises
    ------
    NotPositiveError
        If a direction of negative curvature is met.
    PreconditionerNotPositiveError
        If the preconditioner is not positive definite.
    """
    x = torch.zeros_like(vectors)
    residual = vectors.clone()
    history: list[float] = []
    smallest, best = float("inf"), torch.ones(len(vectors))
    for _ in range(RESTARTS):
        unfinished = relative(residual, vectors) > tolerance
        if not unfinished.any() or len(history) > limit:
            break
        if history:
            history.pop()  # begun again from what the residual really is
        iteration = _Iteration(apply, precondition, watch)
        sizes = vectors[unfinished].norm(dim=1)
        step, steps, quotient = iteration.run(residual[unfinished], sizes, MARGIN * tolerance, limit - len(history))
        x[unfinished] += step
        history += steps
        smallest = min(smallest, quotient)
        residual = vectors - apply(x)
        now = relative(residual, vectors)
        if not (now < 0.5 * best.to(now)).any():
            break  # rounding: a further restart gains nothing
        best = now
    return Solved(x, relative(residual, vectors), tuple(history), smallest)


@dataclass(frozen=True)
class _Iteration:
    """The recurrence, from zero."""

    apply: Apply
    precondition: Apply | None
    watch: Watch

    def run(self, residual: Tensor, sizes: Tensor, target: float, limit: int) -> tuple[Tensor, list[float], float]:
        """Until every row's ‖r‖ ≤ target · its size.

        Returns x, the largest ‖r‖/size before the first iteration and after each, and the smallest dᵀAd/dᵀd.
        """
        x = torch.zeros_like(residual)
        norms = residual.norm(dim=1, keepdim=True)
        mixing, q, s = self._orthonormal(residual / norms, len(residual) ** 0.5)
        c = norms * mixing
        smallest, largest, history = float("inf"), 0.0, [float((norms[:, 0] / sizes).max())]
        for _ in self.watch(range(limit), history, target):
            if not len(q) or history[-1] <= target:
                break
            turn, directions, product, lowest, highest = self._conjugate(s, len(history), largest)
            smallest, largest = min(smallest, lowest), max(largest, highest)
            x += (c @ turn) @ directions
            step = turn @ product
            mixing, q, z = self._orthonormal(q - step, float(q.norm() + step.norm()))
            c = c @ mixing
            s = z + mixing.T @ s
            history.append(float(((c @ q).norm(dim=1) / sizes).max()))
        return x, history, smallest

    def _orthonormal(self, rows: Tensor, size: float) -> tuple[Tensor, Tensor, Tensor]:
        """B, Q, Z with rows = B Q, Z = M⁻¹Q and Q Zᵀ = I; parts that are rounding of terms of this size are dropped."""
        basis, triangle = torch.linalg.qr(rows.T)
        left, values, right = torch.linalg.svd(triangle, full_matrices=False)
        keep = values > ROUNDING * torch.finfo(rows.dtype).eps * size
        q, mixing = (basis @ left[:, keep]).T, right[keep].T * values[keep]
        if self.precondition is None or not len(q):
            return mixing, q, q
        z = self.precondition(q)
        gram = q @ z.T
        factor, failed = torch.linalg.cholesky_ex((gram + gram.T) / 2)
        if failed:
            raise PreconditionerNotPositiveError
        solve = torch.linalg.solve_triangular
        return mixing @ factor, solve(factor, q, upper=False), solve(factor, z, upper=False)

    def _conjugate(self, s: Tensor, used: int, largest: float) -> tuple[Tensor, Tensor, Tensor, float, float]:
        """T, D = TᵀS and D A, with D A Dᵀ = I, the flattest curvature, and the largest stretch ‖As‖/‖s‖.

        Beside others, directions whose curvature is zero to rounding wait for a later iteration.
        """
        product = self.apply(s)
        gram = s @ product.T
        if not torch.isfinite(gram).all():
            raise NotPositiveError(float("nan"), used, float("nan"))
        values, turn = torch.linalg.eigh((gram + gram.T) / 2)
        flattest = turn[:, 0] @ s
        lowest = float(values[0] / (flattest @ flattest))
        rounding = ROUNDING * torch.finfo(s.dtype).eps * float(values.abs().max())
        keep = values > rounding
        stretch = float((product.norm(dim=1) / s.norm(dim=1)).max())
        if float(values[0]) < -rounding or not keep.any():
            raise NotPositiveError(lowest, used, max(largest, stretch))
        turn = turn[:, keep] / values[keep].sqrt()
        return turn, turn.T @ s, turn.T @ product, lowest, stretch
