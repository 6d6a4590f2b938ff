"""(H + δI)⁻¹v by a stochastic Neumann series: LiSSA (Agarwal et al. 2017; Koh & Liang 2017, section 3).

x ← v + (I − (H_b + δI)/s) x over mini-batches b, and x/s at the end; its fixed point solves (H+δI)x = v for
the δ given (the first release's recursion added δ·s instead). Converges if every eigenvalue μ of the batches'
matrices has 0 < μ < 2s; after K steps an eigenvalue's share (1 − μ/s)^(K+1) is still missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Curvature, Hessian, ObjectiveCurvature, Operator
from upweight.errors import DivergedError
from upweight.inverse.advice import against_slowness
from upweight.inverse.costs import Counts, Stage, Work, iterative_stages, name_of_curvature, product_seconds
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import (
    Solution,
    SolveReport,
    checked,
    default_tolerance,
    name_of,
    operator_of,
    unmeasured,
)
from upweight.linalg.power import power
from upweight.linalg.rows import relative, smallest_quotient
from upweight.objective import Objective
from upweight.progress import track, with_residual

MARGIN = 1.2
"""Scale over the largest eigenvalue met: power iteration on some batches may miss the largest of all."""
POWER_STEPS = 12
SAMPLED_BATCHES = 8
DEFAULT_DEPTH = 5000
DEEPEST = 50_000
"""Steps of all repeats that are chosen at most: a tiny l2 would ask for millions; the report tells what is missing."""
LOOK = 50
"""Steps between looks at the change."""
WINDOW = 500
"""Steps in which a series without noise must gain a hundredth where its depth was chosen."""
GAIN = 0.01


@dataclass(frozen=True)
class LiSSA:
    """Stochastic Neumann series on H + δI.

    Parameters
    ----------
    curvature
        H (default ``Hessian()``).
    damping
        δ: a number ≥ 0 (default 0), ``auto`` or a rule such as `MeanEigenvalue`.
    scale
        s; default 1.2 × the largest eigenvalue met by power iteration on sampled batches, damping included.
    depth
        Steps K per repeat; default so that an eigenvalue at l2 + δ is resolved to ``bias``, but 50,000 in all repeats
        at most (the report then says what is missing), and 5000 if l2 + δ is 0. A series of all examples, which has no
        noise, ends too where 500 steps gain nothing.
    batch_size
        Examples per step, drawn without replacement from a shuffled order; None: all (no noise).
    repeats
        Independent runs, averaged; their spread gives the standard error. Of all examples at once one is enough, and
        made once.
    bias
        Share of the slowest eigenvalue's contribution that may be missing, where ``depth`` is chosen.
    seed
        Of the batches, and of the vectors that ``scale`` is found from.

    Raises
    ------
    DivergedError
        If the series diverges, or its mean is farther from the solution than zero is (residual > 1).
    """

    curvature: Curvature = field(default_factory=Hessian)
    _: KW_ONLY
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

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return _work(counts, self, name_of_curvature(self), timed)

    def _bound(self, operator: Operator, damping: float, largest: float | None) -> LiSSASolver:
        scale = self.scale if largest is None else MARGIN * (largest + damping)
        assert scale is not None
        floor = damping + (float(operator.objective.l2.min()) if isinstance(operator, ObjectiveCurvature) else 0.0)
        runs = 1 if is_exact(operator, self.batch_size) else self.repeats
        depth, missing = self.depth or DEFAULT_DEPTH, 0.0
        if self.depth is None and floor > 0:
            wanted = math.ceil(scale / floor * math.log(1 / self.bias))
            depth = min(wanted, max(DEEPEST // runs, 1))
            missing = (1 - floor / scale) ** (depth + 1) if depth < wanted else 0.0
        return LiSSASolver(operator, damping, replace(self, scale=scale, depth=depth), self, largest, runs, missing)


@dataclass(frozen=True)
class LiSSASolver:
    """LiSSA with its scale and depth found.

    Attributes
    ----------
    settings, requested
        The settings with scale and depth, and as they were given.
    largest
        The largest eigenvalue met, None where the scale was given.
    runs
        Series that are made: one where all would be the same.
    missing
        Share of the flattest direction's part that a depth cut short leaves out.
    """

    operator: Operator
    damping: float
    settings: LiSSA
    requested: LiSSA
    largest: float | None
    runs: int
    missing: float

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return _work(counts, self.settings, name_of_curvature(self), timed)

    @property
    def name(self) -> str:
        """The solver in words."""
        scale, depth, repeats = self.settings.scale, self.settings.depth, self.settings.repeats
        return (
            f"LiSSA on the {name_of(self.operator)} (scale {scale:.3g}, depth {depth} × {repeats} repeats, batch "
            f"{self.settings.batch_size or 'all'})"
        )

    def with_damping(self, damping: Damping) -> LiSSASolver:
        """The same matrix with another δ: scale and depth follow, where they weren't given, from the eigenvalue met."""
        return self.requested._bound(self.operator, resolve(damping, self.operator), self.largest)

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """The mean of the repeats, each a row-wise estimate of V (H+δI)⁻¹."""
        vectors = checked(vectors, self.operator)
        if not len(vectors):
            return Solution(vectors.clone(), unmeasured(self.name, self.damping, vectors))
        settings = self.settings
        made, steps = self._made(vectors)
        repeats = torch.stack([made[0]] * settings.repeats if self.runs == 1 else made)
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
            solver=self.name,
            damping=self.damping,
            iterations=steps,
            residuals=residuals,
            tolerance=math.nan,
            smallest_curvature=smallest_quotient(x, product),
            standard_error=error,
            stopped=self._stopped(steps, worst),
        )
        return Solution(x, report, repeats)

    def _stopped(self, steps: int, residual: float) -> str:
        """Why it stopped too early, unless rounding is all that is left."""
        if residual <= default_tolerance(self.operator.dtype):
            return ""
        if steps < int(self.settings.depth or 0):
            why = f"no gain in {WINDOW} steps"
        elif self.missing > self.settings.bias:
            why = f"of the flattest direction {self.missing:.0%} is missing at the limit of {steps:,} steps"
        else:
            return ""
        return f"{why}; {against_slowness(self.operator, self.damping)} helps"

    def _made(self, vectors: Tensor) -> tuple[list[Tensor], int]:
        """The runs, and how many steps the longest took."""
        shown, depth = [1.0], int(self.settings.depth or 0)
        words = with_residual("LiSSA steps of all repeats", shown, self.settings.bias)
        steps = iter(track(range(self.runs * depth), words))
        found = [self._series(vectors, self.settings.seed + 1 + run, steps, shown) for run in range(self.runs)]
        return [x for x, _ in found], max(taken for _, taken in found)

    def _series(self, vectors: Tensor, seed: int, bar: Iterator[int], shown: list[float]) -> tuple[Tensor, int]:
        """One run, and its steps: fewer than the depth where this was chosen and nothing is gained any more."""
        scale, depth = self.settings.scale, int(self.settings.depth or 0)
        assert scale is not None
        generator = scalars.generator(seed)
        x = vectors.clone()
        sizes = vectors.norm(dim=1).clamp_min(torch.finfo(vectors.dtype).tiny)
        limit, taken = 1e6 * float(sizes.max()), depth
        may_end = self.requested.depth is None and is_exact(self.operator, self.settings.batch_size)
        residuals: list[float] = []
        for step, sampled in zip(range(depth), samples(self.operator, self.settings.batch_size, generator)):  # noqa: B905
            next(bar)
            change = vectors - (sampled.apply(x) + self.damping * x) / scale
            if step % LOOK == 0:
                if not float(change.abs().max()) <= limit:
                    raise self._diverged(f"step {step} is {float(change.abs().max()):.1e} long")
                # The change is the residual of x/s, of all examples; of a batch with its noise.
                residuals.append(float((change.norm(dim=1) / sizes).max()))
                shown.append(residuals[-1])
                before = residuals[-1 - WINDOW // LOOK] if len(residuals) > WINDOW // LOOK else math.inf
                if may_end and residuals[-1] > (1 - GAIN) * before:
                    taken = step
                    break
            x = x + change
        return x / scale, taken

    def _diverged(self, figure: str) -> DivergedError:
        return DivergedError(
            f"LiSSA diverged on the {name_of(self.operator)}: {figure} (scale {self.settings.scale:.3g}, damping "
            f"{self.damping:.3g}, batch {self.settings.batch_size}). Use a larger scale, batch_size or repeats; with "
            "negative curvature a larger damping or curvature.GGN(); or inverse.CG()"
        )


def is_exact(operator: Operator, batch_size: int | None) -> bool:
    """Whether every step has the matrix itself, and no noise."""
    return not isinstance(operator, ObjectiveCurvature) or batch_size is None or batch_size >= operator.examples


def samples(operator: Operator, batch_size: int | None, generator: torch.Generator) -> Iterator[Operator]:
    """Endless estimates of the matrix from mini-batches in shuffled order; the matrix itself if it has no examples."""
    if not isinstance(operator, ObjectiveCurvature) or is_exact(operator, batch_size):
        while True:
            yield operator
    assert batch_size is not None
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
        start = torch.randn(1, operator.size, generator=generator).to(operator.dtype).to(operator.device)
        largest = max(largest, power(sampled.apply, start, POWER_STEPS))
        if sampled is operator:
            break
    return largest if largest > 0 else 1.0


def _work(counts: Counts, settings: LiSSA, curvature: str, timed: bool) -> Work:
    """The depth is known once it is fitted."""
    n = counts.objective.n
    batch = min(settings.batch_size or n, n)
    runs = 1 if batch == n else settings.repeats
    each = product_seconds(counts, curvature, counts.queries, batch) if timed else None

    def stages(steps: int) -> tuple[Stage, ...]:
        words = f"{steps:,} steps of {batch:,} examples"
        return tuple(iterative_stages(counts, steps * batch / n, words, seconds_a_pass=each))

    if settings.depth is not None:
        return Work(stages(runs * settings.depth), (), f"depth {settings.depth:,} × {runs} repeats")
    assumed, most = min(runs * DEFAULT_DEPTH, DEEPEST), max(DEEPEST, runs)
    words = f"{assumed:,} steps of all repeats assumed, {most:,} at most (fitted, it knows its depth)"
    return Work(stages(assumed), stages(most), words)
