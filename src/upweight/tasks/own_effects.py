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

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.data import Batch
from upweight.errors import InputError, UpweightWarning, warn
from upweight.gradients.autograd import output_derivatives
from upweight.gradients.denormals import flushed
from upweight.influence import Influence
from upweight.losses import BinaryLogistic, CrossEntropy, Loss, margins, signs, split_batch
from upweight.measurements import Margin
from upweight.progress import track
from upweight.quantities.pairs import PairSolver

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
        return _by_solving(self.influence)[1] if self.solved_moves is None else self.solved_moves


def own_effects(influence: Influence) -> OwnEffects:
    """The margins of all training examples with their pulls, in one pass over them.

    By the factors of the model's operations where the solver takes pairs (`Dual`, `EKFAC`, `KFAC`), so that no vector
    of the length of θ is made; else by solving for every example.

    Raises
    ------
    InputError
        If the loss is not a function of one margin.
    """
    objective = influence.objective
    outputs = objective.outputs()
    loss = margin_loss(objective.loss, outputs)
    _ = influence.stationarity
    pulls, moves = (_by_pairs(influence), None) if isinstance(influence.solver, PairSolver) else _by_solving(influence)
    derivatives = [margin_derivatives(loss, outputs[index], batch) for index, batch in objective.batches()]
    margins, slopes, curvatures = (torch.cat(column) for column in zip(*derivatives, strict=True))
    return OwnEffects(influence, outputs, margins, slopes, curvatures, pulls, moves)


@flushed()
def _by_pairs(influence: Influence) -> Float[Tensor, " train"]:
    objective, solver, parts = influence.objective, influence.solver, []
    assert isinstance(solver, PairSolver)
    measured = Margin().bind(objective.loss)
    batches = objective.data.batches(None, objective.engine.pass_rows)
    for _, batch in track(batches, "margins", -(-objective.n // objective.engine.pass_rows)):

        def direction(outputs: Tensor, batch: Batch = batch) -> Tensor:
            with torch.enable_grad():
                point = outputs.detach().requires_grad_()
                (slope,) = torch.autograd.grad(measured.of_outputs(point, batch).sum(), point)
            return slope

        parts.append(solver.quadratic(objective.engine.function.each(objective.params, batch, direction)))
    return torch.cat(parts) / objective.n


def _by_solving(influence: Influence) -> tuple[Float[Tensor, " train"], Float[Tensor, " train"]]:
    """Pulls and moves."""
    objective, pulls, moves = influence.objective, [], []
    function = objective.engine.bind(Margin().bind(objective.loss))
    size = objective.engine.block_rows(objective.p)
    for _, batch in track(objective.data.batches(None, size), "solving for margins", -(-objective.n // size)):
        gradients = function.each(objective.params, batch).materialize()
        solved = influence.solve(gradients).x
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
