"""(H + δI)⁻¹v by a stochastic Neumann series: LiSSA (Agarwal et al. 2017; Koh & Liang 2017, section 3).

x ← v + (I − (H_b + δI)/s) x over mini-batches b, and x/s at the end; its fixed point solves (H+δI)x = v for
the δ given (the first release's recursion added δ·s instead). Converges if every eigenvalue μ of the batches'
matrices has 0 < μ < 2s; after K steps an eigenvalue's share (1 − μ/s)^(K+1) is still missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Curvature, Hessian, ObjectiveCurvature, Operator
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import (
    Solution,
    SolveReport,
    checked,
    name_of,
    operator_of,
    relative,
    smallest_quotient,
)
from upweight.messages import DivergedError
from upweight.objective import Objective
from upweight.progress import track

MARGIN = 1.2
"""Scale over the largest eigenvalue met: power iteration on some batches may miss the largest of all."""
POWER_STEPS = 12
SAMPLED_BATCHES = 8
DEFAULT_DEPTH = 5000
DEEPEST = 50_000
"""Steps per repeat that are chosen at most: a tiny l2 would ask for millions; the residual tells what is missing."""


@dataclass(frozen=True)
class LiSSA:
    """Stochastic Neumann series on H + δI.

    Parameters
    ----------
    scale
        s; default 1.2 × the largest eigenvalue met by power iteration on sampled batches, damping included.
    depth
        Steps K per repeat; default so that an eigenvalue at l2 + δ is resolved to ``bias``, up to 50,000; 5000 if that
        is 0.
    batch_size
        Examples per step, drawn without replacement from a shuffled order; None: all (no noise).
    repeats
        Independent runs, averaged; their spread gives the standard error.
    bias
        Share of the slowest eigenvalue's contribution that may be missing, where ``depth`` is chosen.

    Raises
    ------
    DivergedError
        If the series diverges, or its mean is farther from the solution than zero is (residual > 1).
    """

    curvature: Curvature = field(default_factory=Hessian)
    damping: Damping = 0.0
    scale: float | None = None
    depth: int | None = None
    batch_size: int | None = 128
    repeats: int = 10
    bias: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.whole("repeats", self.repeats)
        for name in ("depth", "batch_size"):
            if getattr(self, name) is not None:
                scalars.whole(name, getattr(self, name))
        if self.scale is not None:
            scalars.number("scale", self.scale, above=0)
        scalars.number("bias", self.bias, above=0, below=1)
        scalars.seed("seed", self.seed)

    def fit(self, target: Objective | Operator) -> LiSSASolver:
        """Find the scale and depth for this matrix."""
        operator = operator_of(target, self.curvature)
        damping = resolve(self.damping, operator)
        generator = scalars.generator(self.seed)
        largest = None if self.scale else largest_eigenvalue(operator, self.batch_size, generator)
        return self._bound(operator, damping, largest)

    def _bound(self, operator: Operator, damping: float, largest: float | None) -> LiSSASolver:
        scale = self.scale if largest is None else MARGIN * (largest + damping)
        assert scale is not None
        depth = self.depth or self._depth(operator, damping, scale)
        return LiSSASolver(operator, damping, replace(self, scale=scale, depth=depth), self, largest)

    def _depth(self, operator: Operator, damping: float, scale: float) -> int:
        penalty = float(operator.objective.l2.min()) if isinstance(operator, ObjectiveCurvature) else 0.0
        floor = damping + penalty
        return min(math.ceil(scale / floor * math.log(1 / self.bias)), DEEPEST) if floor > 0 else DEFAULT_DEPTH


@dataclass(frozen=True)
class LiSSASolver:
    """LiSSA with its scale and depth found.

    Attributes
    ----------
    settings, requested
        The settings with scale and depth, and as they were given.
    largest
        The largest eigenvalue met, None where the scale was given.
    """

    operator: Operator
    damping: float
    settings: LiSSA
    requested: LiSSA
    largest: float | None

    def with_damping(self, damping: Damping) -> LiSSASolver:
        """The same matrix with another δ: scale and depth follow, where they weren't given, from the eigenvalue met."""
        return self.requested._bound(self.operator, resolve(damping, self.operator), self.largest)

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """The mean of the repeats, each a row-wise estimate of V (H+δI)⁻¹."""
        vectors = checked(vectors, self.operator)
        settings = self.settings
        repeats = torch.stack(
            [self._series(vectors, settings.seed + 1 + r) for r in track(range(settings.repeats), "LiSSA repeats")]
        )
        x = repeats.mean(0)
        product = self.operator.apply(x) + self.damping * x
        residuals = relative(vectors - product, vectors)
        worst = float(residuals.max())
        if not worst <= 1:
            raise self._diverged(f"its residual is {worst:.2g}, worse than the zero vector's 1")
        error = None
        if settings.repeats > 1:
            spread = repeats.std(0).norm(dim=1) / math.sqrt(settings.repeats)
            error = spread / x.norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
        report = SolveReport(
            solver=f"LiSSA on the {name_of(self.operator)} (scale {settings.scale:.3g}, depth {settings.depth} × "
            f"{settings.repeats} repeats, batch {settings.batch_size or 'all'})",
            damping=self.damping,
            iterations=int(settings.depth or 0),
            residuals=residuals,
            tolerance=math.nan,
            smallest_curvature=smallest_quotient(x, product),
            standard_error=error,
        )
        return Solution(x, report, repeats)

    def _series(self, vectors: Tensor, seed: int) -> Tensor:
        scale, depth = self.settings.scale, self.settings.depth
        assert scale is not None
        assert depth is not None
        generator = scalars.generator(seed)
        x = vectors.clone()
        limit = 1e6 * float(vectors.norm(dim=1).max())
        for step, sampled in zip(range(depth), samples(self.operator, self.settings.batch_size, generator)):  # noqa: B905
            change = vectors - (sampled.apply(x) + self.damping * x) / scale
            if step % 50 == 0 and not float(change.abs().max()) <= limit:
                raise self._diverged(f"step {step} is {float(change.abs().max()):.1e} long")
            x = x + change
        return x / scale

    def _diverged(self, figure: str) -> DivergedError:
        return DivergedError(
            f"LiSSA diverged on the {name_of(self.operator)}: {figure} (scale {self.settings.scale:.3g}, damping "
            f"{self.damping:.3g}, batch {self.settings.batch_size}). Use a larger scale, batch_size or repeats; with "
            "negative curvature a larger damping or curvature.GGN(); or inverse.CG()"
        )


def samples(operator: Operator, batch_size: int | None, generator: torch.Generator) -> Iterator[Operator]:
    """Endless estimates of the matrix from mini-batches in shuffled order; the matrix itself if it has no examples."""
    if not isinstance(operator, ObjectiveCurvature) or batch_size is None or batch_size >= operator.examples:
        while True:
            yield operator
    pool = torch.arange(operator.examples) if operator.indices is None else operator.indices
    while True:
        order = pool[torch.randperm(len(pool), generator=generator)]
        for chunk in order.split(batch_size):
            if len(chunk) == batch_size:  # a shorter last batch would count its examples more
                yield operator.sampled(chunk)


def largest_eigenvalue(operator: Operator, batch_size: int | None, generator: torch.Generator) -> float:
    """Largest |eigenvalue| over a few sampled batches, by power iteration."""
    largest = 0.0
    for _, sampled in zip(range(SAMPLED_BATCHES), samples(operator, batch_size, generator)):  # noqa: B905
        vector = torch.randn(1, operator.size, generator=generator).to(operator.dtype).to(operator.device)
        for _ in range(POWER_STEPS):
            product = sampled.apply(vector / vector.norm())
            vector = product if float(product.norm()) > 0 else torch.ones_like(vector)
        largest = max(largest, float(product.norm()))
        if sampled is operator:
            break
    return largest if largest > 0 else 1.0
