"""The equations of generalised influence, solved by products with the curvature alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import GGN
from upweight.errors import NegativeCurvatureError
from upweight.inverse.cg import CG
from upweight.inverse.damping import Damping
from upweight.inverse.interface import Solution, Solver, precondition, unmeasured
from upweight.inverse.neumann import Neumann
from upweight.linalg.lanczos import smallest_ritz
from upweight.linalg.lsmr import least_squares
from upweight.linalg.rows import Apply
from upweight.losses import Loss
from upweight.progress import watched
from upweight.quantities.generalized.changes import ChangedCurvature, ChangedRisk
from upweight.quantities.generalized.response import Method, Response
from upweight.select import Subset, everything

History = tuple[float, ...]
PROBES = 12
"""Products by which the smallest eigenvalue of the block is looked for."""
SPANNED = 1e-6
"""Share of the largest product below which the directions so far span all that products lead to."""


@dataclass(frozen=True, eq=False)
class Block:
    """The principal block of J of a symmetric operator, over the chosen entries alone."""

    whole: Apply
    subset: Subset
    dtype: torch.dtype
    device: torch.device
    name: str

    @property
    def size(self) -> int:
        """|J|."""
        return self.subset.size

    def apply(self, vectors: Float[Tensor, "k j"]) -> Float[Tensor, "k j"]:
        """Product with k vectors over J."""
        return self.subset.cut(self.whole(self.subset.embed(vectors)))

    def dense(self) -> Float[Tensor, "j j"]:
        """The block itself; for small J."""
        return self.apply(torch.eye(self.size, dtype=self.dtype, device=self.device))


@dataclass(frozen=True, eq=False)
class BlockInverse:
    """The block of J of a symmetric positive definite inverse: a preconditioner for that of the matrix."""

    operator: Block
    damping: float = 0.0

    def with_damping(self, damping: Damping) -> BlockInverse:
        """Stays what it is."""
        return self

    def solve(self, vectors: Float[Tensor, "k j"]) -> Solution:
        """The product with the block; how far it inverts the matrix's block is not measured."""
        return Solution(self.operator.apply(vectors), unmeasured(self.operator.name, self.damping, vectors))


@dataclass(frozen=True, eq=False)
class System:
    """H = H′ + δI, g and J, and what to solve with.

    Attributes
    ----------
    preconditioner
        A fitted inverse over all of θ, or None.
    tolerance
        Of the method's own equations, relative.
    """

    operator: ChangedCurvature
    change: ChangedRisk
    subset: Subset
    preconditioner: Solver | None
    tolerance: float

    @property
    def g(self) -> Float[Tensor, "1 p"]:
        """What the change pulls with, as a row."""
        return self.change.gradient[None]

    @cached_property
    def floor(self) -> float | None:
        """A lower bound of H's eigenvalues above 0, where its form gives one: that of a convex loss's GGN."""
        loss, objective = self.change.objective.loss, self.change.objective
        convex = isinstance(loss, Loss) and loss.is_convex and bool((objective.weights >= 0).all())
        if self.operator.name != GGN.name or not convex:
            return None
        return float(objective.l2.min()) + self.operator.damping

    def response(self, method: Method, solver: Neumann | None, limit: int) -> Response:
        """The step with everything that is measured of it."""
        step, solved, history = self._solve(method, solver, limit)
        g, cut, product = self.g, self.subset.cut, self.operator.apply(step[None])
        restricted = ratio(cut(product - g), cut(g))
        products = self.operator.products[0]
        return Response(
            objective=self.change.objective,
            method=method,
            subset=self.subset,
            step=step,
            gradient=self.change.gradient,
            least_squares=ratio(product - g, g),
            restricted=restricted,
            quadratic=float(0.5 * (step * product[0]).sum() - (step * g[0]).sum()),
            solved=restricted if solved is None else solved,
            tolerance=self.tolerance,
            products=products,
            history=history,
            smallest_curvature=(
                lowest_ritz(self.operator.apply, self.subset, step) if self.floor is None else self.floor
            ),
            damping=self.operator.damping,
            seconds=0.0,
        )

    def _solve(self, method: Method, solver: Neumann | None, limit: int) -> tuple[Tensor, float | None, History]:
        """Δ over θ; how far the method's own equations are satisfied, None: as those of J; and how it went."""
        cut, embed, apply, g = self.subset.cut, self.subset.embed, self.operator.apply, self.g
        if method == "GIF":
            step, solved, history = self._minimise(
                lambda x: apply(embed(x)), lambda u: cut(apply(u)), g, solver, limit, normal=True
            )
            return embed(step)[0], solved, history
        if method in ("FIF", "IF"):  # IF is FIF of everything
            step, history = self._symmetric(apply, cut(g), limit)
            return embed(step)[0], None, history
        whole = replace(self, subset=everything(self.subset.layout))
        if method == "SIF":
            step, solved, history = whole._second_order(limit)
        else:
            step, history = whole._symmetric(apply, g, limit)
            solved = ratio(g - apply(step), g)
        return embed(cut(step))[0], solved, history

    def _second_order(self, limit: int) -> tuple[Tensor, float, History]:
        operator, original, g = self.operator, self.operator.before, self.g
        first, one = self._symmetric(original, g, limit)
        lost = original(first) - operator.apply(first)
        second, two = self._symmetric(original, lost, limit)
        solved = max(ratio(g - original(first), g), ratio(lost - original(second), lost))
        return first + second, solved, one + two[1:]

    def _symmetric(self, apply: Apply, v: Tensor, limit: int) -> tuple[Tensor, History]:
        """The block of J, or the shortest least-squares solution, solved for v ``[1, j]``."""
        operator = self.operator
        block = Block(apply, self.subset, operator.dtype, operator.device, operator.name)
        if self.floor is not None and self.floor > 0:
            inverse = CG(tolerance=self.tolerance, max_iterations=limit, preconditioner=self._block_preconditioner)
            try:
                found = inverse.fit(block).solve(v)
                return found.x, found.report.history
            except NegativeCurvatureError:
                pass  # rounding, at a damping too small for this precision
        x, _, history = self._minimise(block.apply, block.apply, v, None, limit, normal=False)
        return x, history

    @property
    def _block_preconditioner(self) -> BlockInverse | None:
        given = self.preconditioner
        if given is None:
            return None
        operator = self.operator
        return BlockInverse(
            Block(lambda x: precondition(given, x), self.subset, operator.dtype, operator.device, "preconditioner")
        )

    def _minimise(
        self, apply: Apply, transpose: Apply, v: Tensor, solver: Neumann | None, limit: int, *, normal: bool
    ) -> tuple[Tensor, float, History]:
        """The shortest minimiser x of ‖A x − v‖; with a preconditioner P ≈ A⁻¹ by way of y, x = P y.

        Also ‖Aᵀr‖/‖Aᵀv‖ (normal) or ‖r‖/‖v‖, of which the tolerance is, and how it went.
        """
        if solver is not None:
            x, history = solver.solve(apply, transpose, v, self.tolerance, limit)
            return x, history[-1], history
        measure = transpose if normal else None
        if self._block_preconditioner is None:
            found = least_squares(apply, transpose, v, self.tolerance, limit, measure, watch=watched("LSMR"))
            return found.x, float(found.reached[0]), found.history
        through = self._block_preconditioner.operator.apply
        found = least_squares(
            lambda x: apply(through(x)),
            lambda u: through(transpose(u)),
            v,
            self.tolerance,
            limit,
            measure,
            watch=watched("LSMR"),
        )
        return through(found.x), float(found.reached[0]), found.history


def lowest_ritz(apply: Apply, subset: Subset, step: Float[Tensor, " p"]) -> float:
    """`smallest_ritz` of the block, from the step."""
    start = subset.cut(step)[None]
    if not float(start.norm()) > 0:
        start = torch.ones_like(start)
    return smallest_ritz(lambda x: subset.cut(apply(subset.embed(x))), start, PROBES, SPANNED)


def ratio(residual: Tensor, of: Tensor) -> float:
    """‖residual‖/‖of‖, or ‖residual‖ of nothing."""
    size = float(of.norm())
    return float(residual.norm()) / size if size > 0 else float(residual.norm())
