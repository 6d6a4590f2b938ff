"""Lanczos's iteration: a symmetric matrix on the Krylov spaces of some vectors, as tridiagonal matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.linalg.rows import Apply, Watch, orthogonal, unwatched

ROUNDING = 10
"""Multiple of the precision below which what is left of a product, beside the largest of all, is nothing."""


@dataclass(frozen=True, eq=False)
class Krylov:
    """T tridiagonal and Q orthonormal with Q A Qᵀ = T, for each starting vector.

    Attributes
    ----------
    diagonal, off
        Of T, ``[k, s]`` and ``[k, s − 1]``.
    basis
        Q ``[k, s, p]``, None where it was not kept.
    error
        How far Q A Qᵀ, as the products give it, is from tridiagonal, relative to the largest product; at least the
        precision.
    """

    diagonal: Float[Tensor, "k s"]
    off: Float[Tensor, "k t"]
    basis: Float[Tensor, "k s p"] | None
    error: float

    @property
    def tridiagonal(self) -> Float[Tensor, "k s s"]:
        """T itself."""
        return torch.diag_embed(self.diagonal) + torch.diag_embed(self.off, 1) + torch.diag_embed(self.off, -1)


def lanczos(
    apply: Apply,
    start: Float[Tensor, "k p"],
    steps: int,
    *,
    whole: bool = True,
    fresh: Callable[[], Tensor] | None = None,
    floor: float | None = None,
    enough: Callable[[Tensor, Tensor], bool] | None = None,
    watch: Watch = unwatched,
) -> Krylov:
    """``steps`` products from each of some unit vectors, or fewer if they span an invariant space before.

    Parameters
    ----------
    whole
        Each new vector is made orthogonal, twice, to all before, and all are kept. Otherwise to the last two alone,
        which is enough for Gauss quadrature: eigenvalues then come back as copies that share their weight.
    fresh
        Gives rows like ``start``, not yet of unit length, with which to leave an invariant space; without, the
        iteration ends in the first that is met.
    floor
        Below this share what is left of a product is rounding, and the space invariant: of the largest product so far
        (``whole``; default 10 times the precision), or of the first Rayleigh quotient (otherwise; default the
        precision).
    enough
        Ends the iteration where it says so of T's diagonal ``[k, s]`` and of all that stands beside it, the next entry
        included, ``[k, s]``.
    """
    finfo = torch.finfo(start.dtype)
    if floor is None:
        floor = (ROUNDING if whole else 1) * finfo.eps
    basis = start.new_zeros(len(start), steps, start.shape[1]) if whole else None
    q, before, beta = start, torch.zeros_like(start), start.new_zeros(len(start))
    scale, error = torch.zeros_like(beta), torch.zeros_like(beta)
    diagonal: list[Tensor] = []
    off: list[Tensor] = []
    for step in watch(range(steps), (), 0.0):
        image = apply(q)
        if basis is None:
            rest = image - beta[:, None] * before
            alpha = (rest * q).sum(1)
            if not step:
                scale = alpha.abs()
        else:
            basis[:, step] = q
            overlaps = torch.stack([known[: step + 1] @ row for known, row in zip(basis, image, strict=True)])
            alpha = overlaps[:, step]
            scale = torch.maximum(scale, image.norm(dim=1))
            error = torch.maximum(error, overlaps[:, : max(step - 1, 0)].norm(dim=1))
        diagonal.append(alpha)
        if step + 1 == steps:
            break
        rest = rest - alpha[:, None] * q if basis is None else _off(image, basis[:, : step + 1])
        beta = rest.norm(dim=1)
        if enough is not None and enough(torch.stack(diagonal, 1), torch.stack([*off, beta], 1)):
            break
        ended = ~(beta > floor * scale)
        if ended.any():
            if fresh is None:
                break
            other = fresh() if basis is None else _off(fresh(), basis[:, : step + 1])
            rest, beta = torch.where(ended[:, None], other, rest), torch.where(ended, 0.0, beta)
        off.append(beta)
        before, q = q, rest / rest.norm(dim=1).clamp_min(finfo.tiny)[:, None]
    found = torch.stack(diagonal, 1)
    share = float((error / scale.clamp_min(finfo.tiny)).max())
    return Krylov(
        found,
        torch.stack(off, 1) if off else found[:, :0],
        None if basis is None else basis[:, : len(diagonal)],
        max(finfo.eps, share),
    )


def _off(rows: Float[Tensor, "k p"], basis: Float[Tensor, "k s p"]) -> Float[Tensor, "k p"]:
    return torch.stack([orthogonal(row, known) for row, known in zip(rows, basis, strict=True)])


def smallest_ritz(apply: Apply, start: Float[Tensor, "1 p"], steps: int, floor: float | None = None) -> float:
    """The smallest Ritz value on the Krylov space of a vector that isn't 0: an upper bound of the smallest eigenvalue.

    The ``floor`` is as of `lanczos`.
    """
    found = lanczos(apply, start / start.norm(), min(steps, start.shape[1]), floor=floor)
    return float(torch.linalg.eigvalsh(found.tridiagonal.double()).min())
