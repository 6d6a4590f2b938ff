"""Removal with the example's own curvature taken out: (H − H_i/n)⁻¹ in place of H⁻¹.

With J_i the Jacobian of the outputs, Λ_i and r_i the Hessian and gradient of the loss in them, Woodbury gives
Δ = (H − J_iᵀΛ_iJ_i/n)⁻¹J_iᵀ r_i/n = H⁻¹J_iᵀ (I − Λ_i M_i)⁻¹ r_i/n with M_i = J_i H⁻¹ J_iᵀ/n, a matrix of the size of
the outputs: one Newton step on the objective without the example, the refit itself for squared error. Where outputs are
linear in θ, what is explained is evaluated at θ + Δ (`upweight.quantities.moved`), so that for squared error every
measurement is exact; of other models ∇LᵀΔ is taken.

An example of leverage 1 makes I − ΛM singular: `upweight.quantities.undetermined`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.curvature import GGN
from upweight.data import Batch
from upweight.gradients.substituted import substituted
from upweight.inverse import Solution
from upweight.losses import Split
from upweight.objective import Objective
from upweight.progress import track
from upweight.quantities.moved import linear_outputs, own_changes
from upweight.quantities.undetermined import ROUNDING, flat, least_norm, rest_of, say_undetermined

Solve = Callable[[Tensor], Solution]
"""(H+δI)⁻¹ of vectors as rows."""


def suspect(precision: float) -> float:
    """Singular values of I − ΛM up to this may be rounding of a solve (5e-6 in float64), and are looked at."""
    return 10 * precision**0.4


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A block of training examples, each with the step of θ that leaving it out makes.

    Attributes
    ----------
    steps
        Δ, ``[b, p]``.
    moved
        JΔ: change of the example's own flattened outputs, ``[b, c]``.
    slopes
        Gradient of the loss in the outputs, unweighted, ``[b, c]``.
    """

    index: Int[Tensor, " b"]
    batch: Batch
    steps: Float[Tensor, "b p"]
    moved: Float[Tensor, "b c"]
    slopes: Float[Tensor, "b c"]


def removal(
    objective: Objective,
    solve: Solve,
    positions: Tensor | None,
    score: Callable[[Tensor], Float[Tensor, "queries b"]],
    damping: float = 0.0,
    further: Callable[[LeftOut], LeftOut] = lambda block: block,
) -> Float[Tensor, "queries train"]:
    """What ``score`` says of the steps of θ, block by block; ``further`` may lead them on."""
    blocks = left_out(objective, solve, positions, damping)
    return torch.cat([score(further(block).steps) for block in blocks], dim=1)


def self_removal(
    objective: Objective, solve: Solve, positions: Tensor | None, damping: float = 0.0
) -> Float[Tensor, " train"]:
    """Predicted change of each example's own loss."""
    loss, parts = objective.loss, []
    straight = isinstance(loss, Split) and linear_outputs(objective)
    evaluate = substituted(objective.model, loss.outputs, twice=False) if isinstance(loss, Split) else None
    named = objective.layout.unflatten(objective.params)
    for block in left_out(objective, solve, positions, damping):
        if not straight or evaluate is None:
            parts.append((block.slopes * block.moved).sum(1))
            continue
        with torch.no_grad():
            outputs = evaluate(named, block.batch)
        assert isinstance(loss, Split)
        parts.append(own_changes(loss, outputs, block.batch, block.moved))
    return torch.cat(parts)


def output_changes(
    objective: Objective, solve: Solve, positions: Tensor | None = None, damping: float = 0.0
) -> Float[Tensor, "train c"]:
    """Predicted change of each example's own (flattened) outputs if it were left out of training."""
    return torch.cat([block.moved for block in left_out(objective, solve, positions, damping)])


def leverages(objective: Objective, solve: Solve, positions: Tensor | None = None) -> Float[Tensor, " train"]:
    """The share of the curvature that each example holds: the largest eigenvalue of wΛM, h of a model of one output."""
    parts = [torch.linalg.eigvals(inner).real.amax(-1) for *_, (*_, inner) in _blocks(objective, solve, positions)]
    return torch.cat(parts)


def left_out(objective: Objective, solve: Solve, positions: Tensor | None, damping: float = 0.0) -> Iterator[LeftOut]:
    """Steps Δ in blocks of bounded size; at the end, a warning that names the examples of leverage 1."""
    straight, alone = linear_outputs(objective), []
    for index, batch, (jacobian, solved, slope, inner) in _blocks(objective, solve, positions):
        remaining = torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device) - inner
        weighted = objective.weights[index, None] * slope
        corrected = torch.linalg.solve_ex(remaining, weighted.unsqueeze(-1)).result.squeeze(-1)
        steps = torch.einsum("bdp,bd->bp", solved, corrected) / objective.n
        precision = torch.finfo(inner.dtype).eps
        smallest = torch.linalg.svdvals(remaining)[:, -1]
        below = suspect(precision) if straight else ROUNDING * precision
        for row in (smallest <= below).nonzero().flatten().tolist():
            position, alone_there = int(index[row]), True
            if straight:
                facts = solved[row], weighted[row], remaining[row]
                steps[row], alone_there = _without(objective, position, *facts, damping)
            else:
                steps[row] = torch.nan
            alone += [position] * alone_there
        moved = torch.einsum("bcp,bp->bc", jacobian, steps)
        yield LeftOut(index, batch, steps, moved, slope)
    if alone:
        say_undetermined(objective.ids[alone].tolist(), straight)


def _without(
    objective: Objective, position: int, solved: Tensor, weighted: Tensor, remaining: Tensor, damping: float
) -> tuple[Float[Tensor, " p"], bool]:
    """The step of an example that leaves little curvature in some directions, and whether it leaves none.

    (H − H_i/n)H⁻¹Jᵀu = Jᵀ(I − ΛM)u, so those are the H⁻¹Jᵀu of the u that I − ΛM takes nearly to 0. What the others
    have there is asked of them, as 1 − h has lost it to rounding.
    """
    precision = torch.finfo(remaining.dtype).eps
    left, values, right = torch.linalg.svd(remaining)
    directions, members = right[values <= suspect(precision)] @ solved, torch.tensor([position])
    rest = rest_of(objective, GGN.name, members).apply(directions) + damping * directions
    own = GGN().of(objective).share(members).apply(directions)
    found, shares = flat(rest + own, rest, directions, precision)
    if len(found):
        kept = slice(None, len(values) - len(found))
        corrected = right[kept].T @ ((left.T @ weighted)[kept] / values[kept])
        return least_norm(objective, corrected @ solved / objective.n, found), True
    corrected = weighted / shares.to(weighted) if len(weighted) == 1 else torch.linalg.solve(remaining, weighted)
    return corrected @ solved / objective.n, False


def _blocks(
    objective: Objective, solve: Solve, positions: Tensor | None
) -> Iterator[tuple[Tensor, Batch, tuple[Tensor, Tensor, Tensor, Tensor]]]:
    """Positions, batch, and J [b, c, p], JH⁻¹ [b, c, p], slopes [b, c], wΛM [b, c, c], in blocks of bounded size."""
    width = objective.outputs(objective.data.take([0])).numel()
    size = objective.engine.block_rows(2 * objective.p * width)
    total = objective.n if positions is None else len(positions)
    batches = objective.data.batches(positions, size)
    for index, batch in track(batches, "leverages", total=-(-total // size)):
        jacobian, slope, curvature = objective.engine.function.output_factors(objective.params, batch)
        flattened = jacobian.flatten(0, 1)
        solved = solve(flattened).x.reshape(jacobian.shape)
        inner = torch.einsum("bcp,bdp->bcd", jacobian, solved) / objective.n
        weighted = objective.weights[index, None, None] * curvature
        yield index, batch, (jacobian, solved, slope, weighted @ inner)
