"""How suspicious is a label? A score for every training example, the larger the more suspicious.

- *out-of-sample*: loss of the label under the model without the example, by one Newton step. No example can hide by
  having been memorised.
- *margin*: predicted fall of the label's margin without the example, w|ℓ′|s, the part of it that the example made
  itself. A margin doesn't saturate as a loss does (Park et al. 2023 explain margins for that reason).
- *relative*: self-influence for each unit that the parameters move, ∇ℓᵀH⁻¹∇ℓ/‖H⁻¹∇ℓ‖. What is normalised is the
  length of the step (θ-RelatIF of Barshan et al. 2020, of an example on itself).
- *leverage-corrected*: self-influence with the example's own curvature taken out, I/(1−h).
- *self-influence*: ∇ℓᵀH⁻¹∇ℓ/n, predicted rise of its own loss without it (Koh & Liang 2017, section 5.4).
- *loss*: its training loss, the baseline.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight.attribution import Attribution, Quantity
from upweight.influence import Influence
from upweight.inverse import EKFAC, Dual
from upweight.losses import BinaryLogistic, CrossEntropy
from upweight.objective import Objective
from upweight.planning.choice import DENSE_UP_TO
from upweight.predictions import Predictions, predictions
from upweight.quantities import leverage, meanings
from upweight.tasks.own_effects import OwnEffects, own_effects

LabelScore = Literal["out-of-sample", "margin", "relative", "leverage-corrected", "self-influence", "loss"]
METHODS: tuple[LabelScore, ...] = get_args(LabelScore)

AFFORDABLE_ROWS = 2e12
"""Operations of the dual up to which it is preferred to EK-FAC: a minute or two."""
AFFORDABLE = 3e11
"""Multiplications (n · outputs · p²) up to which every output of every example is solved for: some seconds."""


def influence_for_labels(objective: Objective) -> Influence:
    """The automatic choice; but in place of EK-FAC the rows of the GGN, where they are affordable.

    What an example holds of the curvature itself has to be taken away, and only in the rows it is there: by EK-FAC,
    which knows averages, leverages above 1 come out (`upweight.tasks.own_effects.LeverageWarning`).
    """
    chosen = Influence(objective)
    if not isinstance(chosen.inverse, EKFAC) or not isinstance(objective.loss, CrossEntropy | BinaryLogistic):
        return chosen
    by_rows = Influence(objective, Dual())
    return by_rows if by_rows.plan(1).flops <= AFFORDABLE_ROWS else chosen


def scored(influence: Influence, method: LabelScore, effects: OwnEffects | None) -> tuple[Attribution, Predictions]:
    """The score of each training example, and what the model says of it.

    That is, without the example; with it, where ``loss`` or ``self-influence`` are asked for without ``effects``, since
    neither needs more.
    """
    objective = influence.objective
    unit = getattr(objective.loss, "unit", "loss")
    if method == "loss":
        said = predictions(objective)
        meaning = _meaning("loss", "loss of the example's label under the model that was trained on it", unit)
        found = Attribution(said.losses, meaning, objective.ids, np.array([]))
        return found, said if effects is None else predictions(objective, outputs=effects.outputs_without)
    if method == "self-influence" and effects is None:
        return influence.self_influence(), predictions(objective)
    if method == "out-of-sample":
        said = predictions(objective, outputs=outputs_without(influence, effects))
        words = "loss of the example's label under the model without the example (one Newton step)"
        return _result(influence, said.losses, _meaning("out-of-sample loss", words, unit)), said
    own = own_effects(influence) if effects is None else effects
    scores, meaning = _of_effects(own, method, unit)
    return _result(influence, scores, meaning), predictions(objective, outputs=own.outputs_without)


def _of_effects(own: OwnEffects, method: LabelScore, unit: str) -> tuple[Float[Tensor, " train"], Quantity]:
    loss = own.influence.objective.loss
    if method == "self-influence":
        return own.self_influence, meanings.self_influence(loss)
    if method == "leverage-corrected":
        return own.leverage_corrected, meanings.self_influence(loss, leverage=True)
    if method == "margin":
        words = "predicted fall of the margin of the example's label if it were left out of training"
        return own.margin_falls, _meaning("margin self-influence", words, "nats")
    tiny = torch.finfo(own.moves.dtype).tiny
    words = "predicted rise of the example's own loss without it, for each unit that the parameters move"
    scores = own.slopes.abs() * own.pulls / own.moves.clamp_min(tiny)
    return scores, _meaning("relative self-influence", words, f"{unit} per unit of ‖θ‖")


def outputs_without(influence: Influence, effects: OwnEffects | None = None) -> Float[Tensor, "train ..."]:
    """The outputs of each training example under the model without it, by one Newton step.

    By all outputs' curvature where solving for each of them is affordable (exact for squared error), else, or where
    ``effects`` are given, by the margin of the given label alone (see `upweight.tasks.own_effects`). The other examples
    keep their weight 1/n.
    """
    if effects is None and _affordable(influence.objective):
        objective, damping = influence.objective, influence.solver.damping
        outputs = objective.outputs()
        return outputs + leverage.output_changes(objective, influence.solve, damping=damping).reshape(outputs.shape)
    return (own_effects(influence) if effects is None else effects).outputs_without


def _affordable(objective: Objective) -> bool:
    outputs = objective.outputs(objective.data.take([0])).numel()
    split = objective.engine.function.split
    return split and objective.p <= DENSE_UP_TO and objective.n * outputs * objective.p**2 <= AFFORDABLE


def _result(influence: Influence, scores: Float[Tensor, " train"], meaning: Quantity) -> Attribution:
    return influence.result(scores, meaning, None, None, np.array([]))


def _meaning(name: str, words: str, unit: str) -> Quantity:
    return Quantity(
        name, words, unit, "the larger, the more the rest of the data speaks against the label", helpful_sign=0
    )
