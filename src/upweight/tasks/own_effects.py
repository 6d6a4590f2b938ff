"""What every training example does to its own margin: one number each, from which all scores of its label follow.

With m the margin of the given label (f_y − log Σ_{c≠y} exp f_c, or y·f for a single output), logistic losses and losses
of a single output are functions ℓ(m), so ∇ℓ_i = ℓ′∇m_i. Let s_i = ∇m_iᵀ(H+δI)⁻¹∇m_i/n be the pull of the margin on
itself. Then the self-influence is wℓ′²s, the leverage h = wℓ″s, and without the example its margin is
m + wℓ′s/(1−h), by Woodbury on H − H_i/n with H_i = ℓ″∇m∇mᵀ (compare `upweight.quantities.leverage`).

For a single output H_i is the example's whole curvature, and the step is Newton's. With several outputs the curvature
of the margin in the outputs, ℓ′∇²m, stays in H, which costs some of the accuracy of the whole H_i; in return one
quadratic form an example is enough, whatever the number of outputs, and networks can afford it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.attribution import Quantity
from upweight.data import Batch
from upweight.engine.stationarity import Moments
from upweight.errors import InputError, UpweightWarning, warn
from upweight.gradients.autograd import output_derivatives
from upweight.gradients.denormals import flushed
from upweight.influence import Influence
from upweight.inverse import Solution, Solver, SolveReport, unmeasured, warned
from upweight.jobs.kept import Kept
from upweight.losses import BinaryLogistic, CrossEntropy, Loss, margins, signs, split_batch
from upweight.measurements import Margin
from upweight.objective import Objective
from upweight.progress import track
from upweight.quantities.pairs import PairSolver
from upweight.quantities.scoring import Asked, Scoring

MOST_LEVERAGE = 0.99
"""Leverage that is divided out at most. With an exact inverse h < 1 always; where the curvature is approximated, an
example may hold more of it than there is."""
CUT_SHARE = 0.01
"""Share of the examples with more than that, above which there is a warning."""


class LeverageWarning(UpweightWarning):
    """Examples hold more of an approximated curvature than there is, so it can't be taken away."""


@dataclass(frozen=True, eq=False)
class OwnEffects:
    """Every training example's margin, the loss's derivatives in it, and the margin's pull on itself.

    Attributes
    ----------
    outputs
        Of the model on the training data, ``[train, …]``.
    margins
        m of the given labels, ``[train]``.
    slopes, curvatures
        ℓ′ and ℓ″ in the margin, unweighted, ``[train]``.
    pulls
        s = ∇mᵀ(H+δI)⁻¹∇m/n, ``[train]``.
    """

    influence: Influence
    outputs: Tensor
    margins: Float[Tensor, " train"]
    slopes: Float[Tensor, " train"]
    curvatures: Float[Tensor, " train"]
    pulls: Float[Tensor, " train"]
    solved_moves: Float[Tensor, " train"] | None = None

    @property
    def weights(self) -> Float[Tensor, " train"]:
        """w of the objective."""
        return self.influence.objective.weights

    @cached_property
    def leverages(self) -> Float[Tensor, " train"]:
        """h = wℓ″s, at most `MOST_LEVERAGE`; warns where that cuts off more than a few."""
        found = self.weights * self.curvatures * self.pulls
        share = float((found > MOST_LEVERAGE).double().mean())
        if share > CUT_SHARE:
            warn(
                f"leverages: {share:.0%} of the examples hold more of the curvature than there is (h > "
                f"{MOST_LEVERAGE:g}, cut off there): {self.influence.inverse!r} approximates it, at δ="
                f"{self.influence.solver.damping:.2g}. Scores without an example are then poor; use inverse.Dual(), "
                "more damping, or method='self-influence'",
                LeverageWarning,
            )
        return found.clamp_max(MOST_LEVERAGE)

    @property
    def self_influence(self) -> Float[Tensor, " train"]:
        """wℓ′²s: predicted rise of the example's own loss without it."""
        return self.weights * self.slopes**2 * self.pulls

    @property
    def leverage_corrected(self) -> Float[Tensor, " train"]:
        """The same with the example's own curvature taken away too, wℓ′²s/(1−h)."""
        return self.self_influence / (1 - self.leverages)

    @property
    def margin_falls(self) -> Float[Tensor, " train"]:
        """w|ℓ′|s: predicted fall of the example's own margin without it, to first order."""
        return self.weights * self.slopes.abs() * self.pulls

    @property
    def margins_without(self) -> Float[Tensor, " train"]:
        """The margin without the example, by one Newton step."""
        return self.margins - self.margin_falls / (1 - self.leverages)

    @property
    def outputs_without(self) -> Tensor:
        """Outputs that have the margin without the example: that of the given label moves, ``[train, …]``."""
        objective = self.influence.objective
        targets = torch.cat([split_batch(batch)[1].reshape(-1) for _, batch in objective.batches()])
        change = (self.margins_without - self.margins)[:, None]
        flat = self.outputs.reshape(len(self.outputs), -1)
        if flat.shape[1] == 1:
            moved = flat + signs(flat[:, 0], targets)[:, None] * change
        else:
            moved = flat.scatter_add(1, targets[:, None], change)
        return moved.reshape(self.outputs.shape)

    @cached_property
    def moves(self) -> Float[Tensor, " train"]:
        """‖(H+δI)⁻¹∇m‖/n: how far the parameters go for a unit of ℓ′; costs a solve for every example."""
        if self.solved_moves is not None:
            return self.solved_moves
        return _by_solving(self.influence.objective, self.influence.solve, None)[1]


def own_effects(influence: Influence, kept: Kept | None = None) -> OwnEffects:
    """The margins of all training examples with their pulls, in one pass over them.

    By the factors of the model's operations where the solver takes pairs (`Dual`, `EKFAC`, `KFAC`), so that no vector
    of the length of θ is made; else by solving for every example.

    Parameters
    ----------
    kept
        Where pulls are kept, shard by shard, and who makes them.

    Raises
    ------
    InputError
        If the loss is not a function of one margin.
    """
    objective = influence.objective
    outputs = objective.outputs()
    loss = margin_loss(objective.loss, outputs)
    _ = influence.stationarity
    moves = None
    if kept is not None:
        stored = influence.in_store(
            kept, "margin pulls", lambda solver: MarginPulls(objective, solver), Asked(), Margin()
        )
        pulls = stored.scores[:].to(objective.device)
    elif isinstance(influence.solver, PairSolver):
        pulls = MarginPulls(objective, influence.solver)(None)
    else:
        pulls, moves = _by_solving(objective, influence.solve, None)
    derivatives = [margin_derivatives(loss, outputs[index], batch) for index, batch in objective.batches()]
    margins, slopes, curvatures = (torch.cat(column) for column in zip(*derivatives, strict=True))
    return OwnEffects(influence, outputs, margins, slopes, curvatures, pulls, moves)


@dataclass(eq=False)
class MarginPulls(Scoring):
    """∇mᵀ(H+δI)⁻¹∇m/n of training examples."""

    objective: Objective
    solver: Solver

    data = None
    measurement = Margin()
    asked = Asked()

    def __call__(self, positions: Tensor | None, moments: Moments | None = None) -> Float[Tensor, " train"]:
        """See `Scoring`."""
        if isinstance(self.solver, PairSolver):
            return _by_pairs(self.objective, self.solver, positions)
        return _by_solving(self.objective, lambda vectors: warned(self.solver.solve(vectors)), positions)[0]

    @property
    def report(self) -> SolveReport:
        """See `Scoring`."""
        nothing = torch.zeros(0, 1, dtype=self.objective.dtype)
        return unmeasured(getattr(self.solver, "name", "solver"), self.solver.damping, nothing)

    @property
    def meaning(self) -> Quantity:
        """See `Scoring`."""
        words = "pull of an example's margin on itself: its fall without the example for a unit of the loss's slope"
        return Quantity("margin pull", words, "nats", "the more the example holds its own margin", helpful_sign=0)


@flushed()
def _by_pairs(objective: Objective, solver: PairSolver, positions: Tensor | None) -> Float[Tensor, " train"]:
    parts, measured = [], Margin().bind(objective.loss)
    n, rows = objective.n if positions is None else len(positions), objective.engine.pass_rows
    for _, batch in track(objective.data.batches(positions, rows), "margins", -(-n // rows)):

        def direction(outputs: Tensor, batch: Batch = batch) -> Tensor:
            with torch.enable_grad():
                point = outputs.detach().requires_grad_()
                (slope,) = torch.autograd.grad(measured.of_outputs(point, batch).sum(), point)
            return slope

        parts.append(solver.quadratic(objective.engine.function.each(objective.params, batch, direction)))
    return torch.cat(parts) / objective.n


def _by_solving(
    objective: Objective, solve: Callable[[Tensor], Solution], positions: Tensor | None
) -> tuple[Float[Tensor, " train"], Float[Tensor, " train"]]:
    """Pulls and moves."""
    pulls, moves = [], []
    function = objective.engine.bind(Margin().bind(objective.loss))
    n, size = objective.n if positions is None else len(positions), objective.engine.block_rows(objective.p)
    for _, batch in track(objective.data.batches(positions, size), "solving for margins", -(-n // size)):
        gradients = function.each(objective.params, batch).materialize()
        solved = solve(gradients).x
        pulls.append((gradients * solved).sum(1))
        moves.append(solved.norm(dim=1))
    return torch.cat(pulls) / objective.n, torch.cat(moves) / objective.n


def margin_loss(loss: object, outputs: Tensor) -> Loss:
    """The loss, if it is a function of one margin.

    Raises
    ------
    InputError
        If it isn't.
    """
    smoothed = isinstance(loss, CrossEntropy) and loss.label_smoothing > 0
    one = isinstance(loss, CrossEntropy) or (isinstance(loss, Loss) and outputs[0].numel() == 1)
    if isinstance(loss, Loss) and one and not smoothed:
        return loss
    raise InputError(
        f"loss: {type(loss).__name__} of {outputs[0].numel()} outputs{' with label smoothing' if smoothed else ''} is "
        "not a function of one margin; methods "
        "'self-influence' and 'loss' work with it, or use CrossEntropy"
    )


def margin_derivatives(
    loss: Loss, outputs: Tensor, batch: Batch
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """m, ℓ′(m) and ℓ″(m)."""
    values = Margin().bind(loss).of_outputs(outputs, batch)
    if isinstance(loss, CrossEntropy | BinaryLogistic):
        mass = loss.mass(outputs, loss.targets(batch)).reshape(len(outputs))
        return values, -mass * (-values).sigmoid(), mass * values.sigmoid() * (-values).sigmoid()
    flat = outputs.reshape(len(outputs), 1)
    slope, curvature = output_derivatives(lambda z: loss.of_outputs(z.reshape(outputs.shape), batch), flat)
    wanted = signs(flat[:, 0], split_batch(batch)[1].reshape(-1))
    return margins(flat[:, 0], wanted), wanted * slope[:, 0], curvature[:, 0, 0]
