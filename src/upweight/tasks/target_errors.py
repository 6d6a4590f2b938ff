"""Which training numbers are probably wrong? The regression twin of `upweight.tasks.label_errors`.

- *out-of-sample*: loss of the number under the model without the example, by one Newton step, which is exact for a
  linear model under squared error: ½(r/(1−h))² with leverage h, the deleted residual of regression diagnostics (Cook &
  Weisberg 1982, section 2.2; `upweight.statistics`). No example can hide by pulling the fit to itself.
- *self-influence*: predicted rise of its own loss without it (Koh & Liang 2017, section 5.4).
- *loss*: its training loss, the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from upweight import kinds, losses, notebooks, scalars
from upweight.attribution import Attribution, Quantity, Ranking
from upweight.influence import Influence
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.optional import imported, require
from upweight.predictions import fitted_values
from upweight.quantities import leverage
from upweight.tasks.recovery import recovery

if TYPE_CHECKING:
    import pandas as pd

TargetScore = Literal["out-of-sample", "self-influence", "loss"]
METHODS: tuple[TargetScore, ...] = get_args(TargetScore)
SUSPICIOUS = 4.0
"""Robust standard deviations from the prediction beyond which a number is suspicious; of normal errors 6 in 100,000."""
NORMAL = 1.4826
"""Standard deviation of a normal variable over the median of its absolute deviations."""


@dataclass(frozen=True, eq=False)
class TargetErrors:
    """Training examples of a regression, the most suspicious target first.

    Attributes
    ----------
    influence
        Of the regression, by which they were scored.
    method
        How: one of those of `target_errors`.
    attribution
        The score of each training example, ``[train]``: the larger, the more suspicious.
    given, suggested
        Its target, and what the model says of it: without the example, unless only its loss or self-influence was
        asked for, ``[train]``.
    """

    influence: Influence
    method: TargetScore
    attribution: Attribution
    given: Float[Tensor, " train"]
    suggested: Float[Tensor, " train"]

    class_names = None

    @property
    def errors(self) -> Float[Tensor, " train"]:
        """Given less suggested."""
        return self.given - self.suggested

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the errors, by the median of their absolute deviations: planted ones don't move it."""
        errors = self.errors.double()
        return float(NORMAL * (errors - errors.median()).abs().median())

    @property
    def is_suspicious(self) -> Bool[Tensor, " train"]:
        """Where the error is more than `SUSPICIOUS` times the spread."""
        return self.errors.abs() > SUSPICIOUS * self.spread

    @property
    def suspicious(self) -> int:
        """How many."""
        return int(self.is_suspicious.sum())

    @property
    def order(self) -> np.ndarray:
        """Positions, the most suspicious first, ``[train]``."""
        return np.argsort(-self.attribution.scores.cpu().numpy(), kind="stable")

    @property
    def given_names(self) -> np.ndarray:
        """The targets as they are shown, ``[train]``."""
        return self.given.cpu().numpy()

    def to_pandas(self) -> pd.DataFrame:
        """One row per training example, the most suspicious first."""
        with imported("tables", "TargetErrors.to_pandas"):
            import pandas as pd
        frame = pd.DataFrame(
            {
                "id": self.attribution.ids,
                "position": np.arange(len(self.given)),
                "given": self.given.cpu().numpy(),
                "suggested": self.suggested.cpu().numpy(),
                "error": self.errors.cpu().numpy(),
                "score": self.attribution.scores.cpu().numpy(),
                "suspicious": self.is_suspicious.cpu().numpy(),
            }
        )
        frame = frame.iloc[self.order].reset_index(drop=True)
        frame.insert(0, "rank", np.arange(1, len(frame) + 1))
        return frame

    def top(self, k: int = 20) -> pd.DataFrame:
        """The k most suspicious."""
        scalars.whole("k", k)
        return self.to_pandas().head(k)

    def evidence(self, k: int = 20, examples: int = 3) -> Ranking:
        """For each of the k most suspicious, the other training examples that speak most against its target.

        Left out of training, they would make its loss fall most.
        """
        positions = self.order[:k].copy()
        queries = self.influence.objective.data.take(positions.tolist())
        found = self.influence.attribute(queries, query_ids=self.attribution.ids[positions].tolist())
        own = torch.zeros(found.scores.shape, dtype=torch.bool, device=found.scores.device)
        own[torch.arange(len(positions)), torch.as_tensor(positions, device=own.device)] = True
        contradicting = replace(found, scores=found.scores.masked_fill(own, torch.inf))
        return contradicting.bottom(max(min(examples, len(self.given) - 1), 1))

    recovery = recovery

    def _repr_html_(self) -> str:
        """As a notebook shows it: the ten most suspicious."""
        first = self.top(10).drop(columns="position")
        many = f"{self.suspicious:,} of {len(self.order):,}"
        said = f"{many} targets lie more than {SUSPICIOUS:g} robust standard deviations from what the model suggests"
        score = f"Score: {self.attribution.quantity.words} [{self.attribution.quantity.unit}]"
        return notebooks.page(
            f"TargetErrors by {self.method}",
            [said, score],
            notebooks.table([str(name) for name in first], first.to_numpy().tolist()),
        )

    def __repr__(self) -> str:
        quantity = self.attribution.quantity
        columns = ["rank", "id", "given", "suggested", "score"]
        return (
            f"TargetErrors by {self.method}: {self.suspicious:,} of {len(self.given):,} targets are more than "
            f"{SUSPICIOUS:g} robust standard deviations from what the model suggests\n"
            f"  score: {quantity.words} [{quantity.unit}]\n" + self.top(10)[columns].to_string(index=False)
        )


@random_states_kept()
def target_errors(subject: Objective | Influence, *, method: TargetScore = "out-of-sample") -> TargetErrors:
    """Rank training examples of a regression by how probably their target is wrong.

    Parameters
    ----------
    subject
        The objective of a trained regression with one target an example and squared error, or an `Influence` of it.
    method
        ``out-of-sample`` (the default), ``self-influence`` or ``loss``.

    Raises
    ------
    InputError
        If the loss isn't `losses.SquaredError` or there are several targets an example.
    """
    kinds.check(target_errors, locals())
    require("tables", "tasks.target_errors", "pandas")
    scalars.one_of("method", method, METHODS)
    influence = subject if isinstance(subject, Influence) else Influence(subject)
    objective = influence.objective
    fitted = fitted_values(objective)
    targets, said = fitted.given, fitted.predicted
    if method == "self-influence":
        return TargetErrors(influence, method, influence.self_influence(), targets, said)
    if method == "out-of-sample":
        changes = leverage.output_changes(objective, influence.solve, damping=influence.solver.damping)
        said = said + changes.reshape(-1)
    without = "without the example (one Newton step)" if method == "out-of-sample" else "that was trained on it"
    meaning = Quantity(
        "out-of-sample loss" if method == "out-of-sample" else "loss",
        f"loss of the example's target under the model {without}",
        losses.SquaredError.unit,
        "the larger, the more the rest of the data speaks against the target",
        helpful_sign=0,
    )
    loss = objective.loss
    assert isinstance(loss, losses.SquaredError)
    scores = loss.compare(said, targets)
    found = influence.result(scores, meaning, None, None, np.array([]))
    return TargetErrors(influence, method, found, targets, said)
