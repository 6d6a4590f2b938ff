"""Which training labels are probably wrong? A review queue: the most suspicious first, with what speaks against them.

The scores are those of `upweight.tasks.label_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from upweight import kinds, notebooks, scalars
from upweight.attribution import Attribution, Ranking
from upweight.checks import arguments
from upweight.errors import InputError
from upweight.executors import Executor
from upweight.influence import Influence
from upweight.jobs.kept import as_kept
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.optional import imported, require
from upweight.predictions import Predictions, given_labels, named
from upweight.scalars import shown
from upweight.store.backend import Place
from upweight.tasks.label_scores import METHODS, LabelScore, influence_for_labels, scored
from upweight.tasks.own_effects import OwnEffects, own_effects
from upweight.tasks.recovery import recovery

if TYPE_CHECKING:
    import pandas as pd

Subject = Objective | Influence | OwnEffects


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """Training examples, the most suspicious label first.

    Attributes
    ----------
    influence
        Of the classifier, by which they were scored.
    method
        How: one of those of `label_errors`.
    attribution
        The score of each training example, ``[train]``: the larger, the more suspicious.
    predictions
        What the model says of each: without the example, unless only its loss or self-influence was asked for.
    class_names
        By class number; None: classes are shown by number.
    """

    influence: Influence
    method: LabelScore
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

    @property
    def given_names(self) -> np.ndarray:
        """The given labels by name, ``[train]``."""
        return named(self.predictions.given, self.class_names)

    def to_pandas(self) -> pd.DataFrame:
        """One row per training example, the most suspicious first."""
        with imported("tables", "LabelErrors.to_pandas"):
            import pandas as pd
        said = self.predictions
        frame = pd.DataFrame(
            {
                "id": self.attribution.ids,
                "position": np.arange(len(said.given)),
                "given": self.given_names,
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
        scalars.whole("k", k)
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

    def queue(self, k: int = 20, examples: int = 3) -> pd.DataFrame:
        """The k most suspicious with the examples that contradict them, for a person to decide."""
        table = self.top(k)
        against = self.evidence(k, examples)
        labels = self.given_names
        table["evidence"] = [
            ", ".join(f"{name} ({labels[position]})" for name, position in zip(names, positions, strict=True))
            for names, positions in zip(against.ids.tolist(), against.positions.tolist(), strict=True)
        ]
        return table.drop(columns="position")

    recovery = recovery

    def _repr_html_(self) -> str:
        """As a notebook shows it: the ten most suspicious."""
        first = self.top(10).drop(columns="position")
        said = f"{self.suspicious:,} of {len(self.order):,} labels differ from what the model suggests"
        score = f"Score: {self.attribution.quantity.words} [{self.attribution.quantity.unit}]"
        return notebooks.page(
            f"LabelErrors by {self.method}",
            [said, score],
            notebooks.table([str(name) for name in first], first.to_numpy().tolist()),
        )

    def __repr__(self) -> str:
        quantity = self.attribution.quantity
        columns = ["rank", "id", "given", "suggested", "score"]
        return (
            f"LabelErrors by {self.method}: {self.suspicious:,} of {len(self.predictions.given):,} labels differ from "
            f"what the model suggests\n  score: {quantity.words} [{quantity.unit}]\n"
            + self.top(10)[columns].to_string(index=False)
        )


@random_states_kept()
def label_errors(
    subject: Subject,
    *,
    method: LabelScore = "out-of-sample",
    class_names: Sequence[str] | None = None,
) -> LabelErrors:
    """Rank training examples by how probably their label is wrong.

    Parameters
    ----------
    subject
        A trained classifier's objective, an `Influence` of it, or its `label_effects`, which several methods can share.
    method
        ``out-of-sample`` (the default), ``margin``, ``relative``, ``leverage-corrected``, ``self-influence`` or
        ``loss``: see `upweight.tasks.label_scores`.
    class_names
        Names of the classes, in order of their numbers (default: the objective's).

    Raises
    ------
    InputError
        If the objective isn't a classification with one label an example, or all labels are of one class.
    """
    kinds.check(label_errors, locals())
    require("tables", "tasks.label_errors", "pandas")
    scalars.one_of("method", method, METHODS)
    effects = subject if isinstance(subject, OwnEffects) else None
    influence = effects.influence if effects is not None else _as_influence(subject)
    given = given_labels(influence.objective)
    if len(given.unique()) == 1:
        raise InputError(
            f"data: all {len(given):,} labels are of class {int(given[0])}; labels of one class can't contradict each "
            "other, so none can be suspicious. Give data of two or more classes"
        )
    names = influence.objective.class_names if class_names is None else arguments.class_names(class_names)
    named(given, names)  # refuses too few before work starts
    found, said = scored(influence, method, effects)
    return LabelErrors(influence, method, found, said, names)


@random_states_kept()
def label_effects(
    subject: Objective | Influence,
    *,
    store: Place | None = None,
    executor: Executor | None = None,
    shard_size: int | None = None,
    resume: bool = True,
) -> OwnEffects:
    """What all methods but ``loss`` are made of, to be computed once and given to `label_errors` for each method.

    Parameters
    ----------
    subject
        A trained classifier's objective, or an `Influence` of it.
    store
        Where shards of training examples are kept, as `upweight.Influence.attribute` keeps scores: what a kill left is
        gone on with. Default: nothing is kept.
    executor, shard_size, resume
        With ``store``, as of `upweight.Influence.attribute`.

    Raises
    ------
    InputError
        If the subject is neither, or something is given that goes with a store alone.
    """
    kinds.check(label_effects, locals())
    return own_effects(_as_influence(subject), as_kept(store, executor=executor, shard_size=shard_size, resume=resume))


def _as_influence(subject: Subject) -> Influence:
    if not isinstance(subject, Objective | Influence):
        raise InputError(
            "subject: give upweight.Objective(model, loss, data) or upweight.Influence(objective); got "
            f"{shown(subject)}"
        )
    return subject if isinstance(subject, Influence) else influence_for_labels(subject)
