"""Which training labels are probably wrong?

Three rankings. *Out-of-sample loss*: what the model would say of an example had it never seen it, by one Newton
step on its outputs, ẑ_i = z_i + M_i(I − Λ_iM_i)⁻¹r_i with M_i = J_iH⁻¹J_iᵀ/n (see `upweight.influence.leverage`);
no example can hide by having been memorised. *Self-influence* ∇ℓ_iᵀH⁻¹∇ℓ_i/n (Koh & Liang 2017, section 5.4).
*Loss*, the baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from upweight.attribution import Attribution, Quantity, Ranking
from upweight.influence import Influence, leverage
from upweight.influence.plan import DENSE_UP_TO
from upweight.messages import InputError
from upweight.objective import Objective
from upweight.tasks.predictions import Predictions, named, predictions

Method = Literal["out-of-sample", "self-influence", "loss"]

AFFORDABLE = 3e11
"""Multiplications of the out-of-sample solves (n · outputs · p²) up to which they are the default: some seconds."""


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """Training examples, the most suspicious label first.

    Attributes
    ----------
    attribution
        The score of each training example, ``[train]``: the larger, the more suspicious.
    predictions
        What the model says of each: without the example where the method is ``out-of-sample``, else with it.
    """

    influence: Influence
    method: Method
    attribution: Attribution
    predictions: Predictions
    class_names: tuple[str, ...] | None = None

    @property
    def order(self) -> np.ndarray:
        """Positions, the most suspicious first, ``[train]``."""
        return np.argsort(-self.attribution.scores.cpu().numpy(), kind="stable")

    @property
    def suspicious(self) -> int:
        """How many labels the model would rather have otherwise."""
        return int(self.predictions.wrong.sum())

    def to_pandas(self) -> pd.DataFrame:
        """One row per training example, the most suspicious first."""
        said = self.predictions
        frame = pd.DataFrame(
            {
                "id": self.attribution.ids,
                "position": np.arange(len(said.given)),
                "given": named(said.given, self.class_names),
                "suggested": named(said.predicted, self.class_names),
                "score": self.attribution.scores.cpu().numpy(),
            }
        )
        for column, classes in (("p_given", said.given), ("p_suggested", said.predicted)):
            probability = said.probability(classes)
            if probability is not None:
                frame[column] = probability.cpu().numpy()
        frame["suspicious"] = said.wrong.cpu().numpy()
        frame = frame.iloc[self.order].reset_index(drop=True)
        frame.insert(0, "rank", np.arange(1, len(frame) + 1))
        return frame

    def top(self, k: int = 20) -> pd.DataFrame:
        """The k most suspicious."""
        if not k >= 1:
            raise InputError(f"k: must be at least 1; got {k}")
        return self.to_pandas().head(k)

    def evidence(self, k: int = 20, examples: int = 3) -> Ranking:
        """For each of the k most suspicious, the training examples of another label that speak most against its own.

        Left out of training, they would make its loss fall most: usually its look-alikes.
        """
        positions = self.order[:k].copy()
        queries = self.influence.objective.data.take(positions.tolist())
        found = self.influence.attribute(queries, query_ids=self.attribution.ids[positions].tolist())
        given = self.predictions.given
        agrees = given[positions][:, None] == given[None]
        others = int((~agrees).sum(1).min())
        contradicting = replace(found, scores=found.scores.masked_fill(agrees, torch.inf))
        return contradicting.bottom(max(min(examples, others), 1))

    def __repr__(self) -> str:
        quantity = self.attribution.quantity
        columns = ["rank", "id", "given", "suggested", "score"]
        return (
            f"LabelErrors by {self.method}: {self.suspicious:,} of {len(self.predictions.given):,} labels differ from "
            f"what the model suggests\n  score: {quantity.words} [{quantity.unit}]\n"
            + self.top(10)[columns].to_string(index=False)
        )


def label_errors(
    subject: Objective | Influence,
    *,
    method: Method | None = None,
    class_names: Sequence[str] | None = None,
) -> LabelErrors:
    """Rank training examples by how probably their label is wrong.

    Parameters
    ----------
    subject
        A trained classifier's objective, or an `Influence` of it.
    method
        ``out-of-sample``: the label's loss under the model without the example, by one Newton step;
        ``self-influence``: predicted rise of the example's own loss were it left out; ``loss``: its loss as it is.
        Default: out-of-sample where its solves are affordable, else self-influence.
    class_names
        Names of the classes, in order of their numbers.

    Raises
    ------
    InputError
        If the objective isn't a classification with one label an example.
    """
    influence = subject if isinstance(subject, Influence) else Influence(subject)
    objective = influence.objective
    if method not in (None, "out-of-sample", "self-influence", "loss"):
        raise InputError(f"method: 'out-of-sample', 'self-influence' or 'loss'; got {method!r}")
    said = predictions(objective)
    unit = getattr(objective.loss, "unit", "loss")
    chosen: Method = method or ("out-of-sample" if _affordable(objective) else "self-influence")
    if chosen == "self-influence":
        found = influence.self_influence()
    elif chosen == "loss":
        meaning = _meaning("loss", "loss of the example's label under the model that was trained on it", unit)
        found = Attribution(said.losses, meaning, objective.ids, np.array([]))
    else:
        said = predictions(objective, outputs=outputs_without(influence))
        meaning = _meaning(
            "out-of-sample loss",
            "loss of the example's label under the model without the example (one Newton step)",
            unit,
        )
        found = influence.result(said.losses, meaning, None, None, np.array([]))
    return LabelErrors(influence, chosen, found, said, None if class_names is None else tuple(class_names))


def outputs_without(influence: Influence) -> Float[Tensor, "train ..."]:
    """The outputs of each training example under the model without it, by one Newton step.

    Exact for squared error; the other examples keep their weight 1/n.
    """
    objective = influence.objective
    outputs = objective.outputs()
    return outputs + leverage.output_changes(objective, influence.solve).reshape(outputs.shape)


def _affordable(objective: Objective) -> bool:
    outputs = objective.outputs(objective.data.take([0])).numel()
    split = objective.function.split
    return split and objective.p <= DENSE_UP_TO and objective.n * outputs * objective.p**2 <= AFFORDABLE


def _meaning(name: str, words: str, unit: str) -> Quantity:
    return Quantity(
        name, words, unit, "the larger, the more the rest of the data speaks against the label", helpful_sign=0
    )
