"""`Ensemble`: the mean of the scores of several models, where one model's scores are one draw.

Retraining answers for the recipe, over its seeds; influence answers for the model given. Averaging over models of the
same recipe (other seeds, or earlier checkpoints of the same run, where losses are not yet memorised) averages the
draw away: measured in benchmarks/fidelity/RESULTS.md, it raises the agreement with retraining more than any other
change at equal cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from upweight import kinds
from upweight.attribution import Attribution
from upweight.checkpoints import objective_at, read_checkpoints
from upweight.errors import InputError
from upweight.influence import Influence
from upweight.inverse import Inverse
from upweight.objective import Objective
from upweight.progress import track
from upweight.retraining.expanded import Expansion
from upweight.scalars import shown
from upweight.solve_report import SolveReport, joined


class Ensemble:
    """Influence averaged over models.

    Parameters
    ----------
    objective
        What was minimised; its own model is not a member unless it is among ``models``.
    models
        The members: modules, state dicts or vectors θ of the same architecture; or `upweight.expansion`, which makes
        them.
    inverse
        As for `Influence`, or a function of a member's objective; fitted to each member anew.

    Raises
    ------
    InputError
        If a member is of another model, repeats the one before it, or ``inverse`` is already fitted.
    """

    def __init__(
        self, objective: Objective, models: Any, inverse: Inverse | Callable[[Objective], Inverse] | None = None
    ):
        if isinstance(inverse, type):
            raise InputError(f"inverse: give one of upweight.inverse, such as inverse.Dual(); got {shown(inverse)}")
        if hasattr(inverse, "solve"):
            raise InputError("inverse: it is fitted to one model already; give its settings, e.g. inverse.Dual()")
        kinds.check(Ensemble.__init__, locals())
        self.at = models if isinstance(models, Expansion) else None
        if self.at is not None:
            made = self.at.objectives(objective)
            objective, models = made[0], [member.model for member in made]
        self.objective = objective
        self.members = read_checkpoints(objective, models, "models")
        self.inverse = inverse

    def influences(self) -> list[Influence]:
        """One `Influence` per member, not yet fitted."""
        found = []
        for state in self.members:
            member = objective_at(self.objective, state)
            given = self.inverse
            chosen = given(member) if callable(given) and not hasattr(given, "fit") else given
            found.append(Influence(member, chosen))
        return found

    def attribute(
        self,
        queries: Any,
        *,
        quantity: Literal["removal", "upweight"] = "removal",
        measurement: Any = None,
        train: Any = None,
        query_ids: Sequence[Any] | None = None,
    ) -> Attribution:
        """The mean over members of what `Influence.attribute` gives, ``[queries, train]``."""

        def attributed(influence: Influence) -> Attribution:
            return influence.attribute(
                queries, quantity=quantity, measurement=measurement, train=train, query_ids=query_ids
            )

        return self._mean(attributed)

    def self_influence(self, *, train: Any = None) -> Attribution:
        """The mean over members of what `Influence.self_influence` gives, ``[train]``."""
        return self._mean(lambda influence: influence.self_influence(train=train))

    def _mean(self, of: Callable[[Influence], Attribution]) -> Attribution:
        total: torch.Tensor | None = None
        last, reports = None, []
        for influence in track(self.influences(), "members"):
            last = of(influence)
            total = last.scores if total is None else total + last.scores
            if isinstance(last.report, SolveReport):
                reports.append(last.report)
        assert last is not None
        assert total is not None
        count = len(self.members)
        found = Attribution(
            total / count,
            last.quantity,
            last.ids,
            last.query_ids,
            last.damping,
            replace(joined(reports), solver=f"mean over {count} models, {reports[0].solver}") if reports else None,
            {**last.facts, "models": float(count)},
            last.magnitude,
        )
        return found if self.at is None else self.at.told(found)
