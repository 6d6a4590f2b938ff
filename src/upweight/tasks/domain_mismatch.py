"""Why does the model fail on a group? The training examples responsible for its wrong predictions there.

Where training data of a group are few, and not like those that the model meets, a handful of them decide what it says
of the whole group (Koh & Liang 2017, section 5.3). Their influence stands out by far, while the coefficient of the
group's own feature may be one among many that are as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from upweight import kinds, plots, scalars
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.influence import Influence
from upweight.kept import random_states_kept
from upweight.losses import SquaredError, split_batch
from upweight.objective import Objective
from upweight.optional import imported, require
from upweight.plots import checks
from upweight.predictions import Predictions, given_labels, named, predictions
from upweight.tasks.coefficients import Coefficients, GroupFeatures, coefficients
from upweight.tasks.concentration import Concentration, concentration

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHOWN = 10


@dataclass(frozen=True, eq=False)
class DomainMismatch:
    """The training examples responsible for the queries, the group's among them.

    Attributes
    ----------
    attribution
        Predicted change of each query's loss without each training example, ``[queries, train]``.
    group
        Which training examples belong to the group, ``[train]``.
    queries
        Positions of the queries in the data given, ``[queries]``.
    predictions
        What the model says of the queries.
    labels
        Given labels of the training examples, or the numbers of a regression of one target, ``[train]``; else empty.
    name
        What the group is called in tables and figures.
    coefficients
        The comparison with a linear model's weights; None where there is none.
    """

    attribution: Attribution
    group: Bool[np.ndarray, " train"]
    queries: Int[np.ndarray, " queries"]
    predictions: Predictions | None
    labels: np.ndarray
    name: str
    coefficients: Coefficients | None = None

    @cached_property
    def influence(self) -> Float[np.ndarray, " train"]:
        """Predicted change of the queries' mean loss without each training example."""
        return self.attribution.matrix.mean(0, dtype=torch.float64).cpu().numpy()

    @cached_property
    def concentration(self) -> Concentration:
        """Of the influence on the queries' mean loss."""
        return concentration(self.influence, self.group)

    def by_query(self) -> pd.DataFrame:
        """One row per query: its loss, and the concentration of the influence on it."""
        return self._by_query.copy()

    @cached_property
    def _by_query(self) -> pd.DataFrame:
        with imported("tables", "DomainMismatch.by_query"):
            import pandas as pd
        members = int(self.group.sum())
        found = [concentration(row.double().cpu().numpy(), self.group) for row in self.attribution.matrix]
        frame = pd.DataFrame(
            {
                "query": self.attribution.query_ids,
                "strongest_over_others": [each.strongest for each in found],
                "mean_over_others": [each.mean for each in found],
                "weakest_over_others": [each.weakest for each in found],
                "share": [each.share for each in found],
                "among_the_first": [int((np.asarray(each.ranks) <= members).sum()) for each in found],
            }
        )
        if self.predictions is not None:
            frame.insert(1, "loss", self.predictions.losses.double().cpu().numpy())
        return frame

    def to_pandas(self) -> pd.DataFrame:
        """One row per training example, the largest |influence| on the queries' mean loss first."""
        with imported("tables", "DomainMismatch.to_pandas"):
            import pandas as pd
        influence = self.influence
        frame = pd.DataFrame(
            {
                "id": self.attribution.ids,
                "position": np.arange(len(influence)),
                "in_group": self.group,
                "influence": influence,
                "says": np.where(influence > 0, "helpful", "harmful"),
            }
        )
        if self.labels.size:
            frame.insert(3, "label", self.labels)
        frame = frame.iloc[np.argsort(-np.abs(influence), kind="stable")].reset_index(drop=True)
        frame.insert(0, "rank", np.arange(1, len(frame) + 1))
        return frame

    def top(self, k: int = SHOWN) -> pd.DataFrame:
        """The k most influential."""
        scalars.whole("k", k)
        return self.to_pandas().head(k)

    def figure(self, title: str | None = None) -> Figure:
        """|influence| of every training example by rank, the group's marked."""
        unit = self.attribution.quantity.unit
        return plots.group_by_rank(
            self.influence,
            self.group,
            group=self.name,
            quantity="|influence on the queries' mean loss|",
            unit=unit,
            title=title,
        )

    def words(self) -> str:
        """The finding in one or two sentences."""
        found, members = self.concentration, int(self.group.sum())
        text = (
            f"the {members:,} training examples with {self.name} hold {found.share:.1%} of all |influence| on "
            f"{len(self.queries):,} queries (their number alone: {found.expected_share:.2%}); the strongest has "
            f"{found.strongest:.3g}, the mean one {found.mean:.3g} and the weakest {found.weakest:.3g} times that of "
            "the strongest other example"
        )
        if self.coefficients is None:
            return text
        weights = self.coefficients
        return (
            f"{text}. The weight of {weights.feature} is {weights.weight:.3g}; {weights.outranked_by:,} of "
            f"{weights.of:,} weights are larger"
        )

    def __repr__(self) -> str:
        quantity = self.attribution.quantity
        columns = [name for name in ("rank", "id", "in_group", "label", "influence", "says") if name in self.top(1)]
        return (
            f"DomainMismatch, {self.words()}\n  influence: {quantity.words}, mean over the queries [{quantity.unit}]; "
            f"positive: {quantity.positive}\n" + self.top()[columns].to_string(index=False)
        )


@random_states_kept()
def domain_mismatch(
    subject: Objective | Influence,
    data: Any,
    *,
    train_group: Any,
    group: Any = None,
    name: str = "the group",
    ids: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    features: GroupFeatures | None = None,
) -> DomainMismatch:
    """The training examples responsible for wrong predictions of a group.

    Parameters
    ----------
    subject
        The trained model's objective, or an `Influence` that is already fitted.
    data
        Examples in the form of the training data, whose predictions are to be explained.
    train_group
        Which training examples belong to the group, ``[train]`` of bool (an array, or a column of a table).
    group
        Which of ``data`` belong to it, ``[data]`` of bool: those of them that the model gets wrong are the queries.
        None: all of ``data`` are.
    name
        The group in words.
    ids
        Names of ``data`` (default: positions).
    class_names
        Names of the classes, by label (default: the objective's).
    features
        The model inputs that stand for the group, for the comparison with a linear model's weights (default: none).

    Raises
    ------
    InputError
        If the group has no training members, or nothing else has; if no prediction of the group is wrong; if all
        training labels are of one class; if arrays don't fit.
    """
    kinds.check(domain_mismatch, locals())
    require("tables", "tasks.domain_mismatch", "pandas")
    influence = subject if isinstance(subject, Influence) else Influence(subject)
    objective = influence.objective
    members = _members(train_group, objective.n)
    examples = objective.queries(data)
    positions = np.arange(len(examples)) if group is None else _wrong(objective, examples, group, name)
    labels, classifies = _numbers(objective), False
    said = None
    if group is not None or _classifies(objective):
        given, classifies = given_labels(objective), True
        if len(given.unique()) == 1:
            raise InputError(
                f"data: all {objective.n:,} training labels are of class {int(given[0])}; a model of one class has no "
                "wrong predictions to explain. Give data of two or more classes"
            )
        labels = named(given, objective.class_names if class_names is None else class_names)
    queries = examples.take(positions.tolist())
    if classifies:
        said = predictions(objective, queries)
    compared = coefficients(objective, features)
    names = np.arange(len(examples)) if ids is None else np.asarray(ids)
    if names.shape != (len(examples),):
        raise InputError(f"ids: need {len(examples)}, one for each of data; got shape {names.shape}")
    found = influence.attribute(queries, query_ids=names[positions].tolist())
    return DomainMismatch(found, members, positions, said, labels, name, compared)


def _members(train_group: Any, n: int) -> Bool[np.ndarray, " train"]:
    given = checks.array("train_group", train_group)
    if given.shape != (n,) or not np.isin(given, (0, 1)).all():
        raise InputError(
            f"train_group: got shape {given.shape} of {given.dtype}; give True or False for each of the {n} training "
            "examples"
        )
    members = given.astype(bool)
    if not members.any():
        raise InputError(
            f"train_group: none of the {n:,} training examples belongs to the group, so none of its kind can be "
            "responsible; widen the group, or use tasks.explain for the queries themselves"
        )
    if members.all():
        raise InputError(
            f"train_group: all {n:,} training examples belong to the group; there is nothing to compare it with"
        )
    return members


def _wrong(objective: Objective, examples: Any, group: Any, name: str) -> Int[np.ndarray, " queries"]:
    given = checks.array("group", group)
    if given.shape != (len(examples),) or not np.isin(given, (0, 1)).all():
        raise InputError(
            f"group: got shape {given.shape} of {given.dtype}; give True or False for each of the {len(examples)} "
            "examples of data"
        )
    chosen = given.astype(bool)
    if not chosen.any():
        raise InputError(
            f"group: none of the {len(examples):,} examples of data belongs to {name}; give others, or widen it"
        )
    wrong = predictions(objective, examples).wrong.cpu().numpy() & chosen
    if not wrong.any():
        raise InputError(
            f"group: the model is right on all {int(chosen.sum())} examples of data in {name}, so there is nothing "
            "wrong to explain; to explain predictions all the same, give these examples alone, without group"
        )
    return np.flatnonzero(wrong)


def _numbers(objective: Objective) -> np.ndarray:
    """The target of each training example of a regression, ``[train]``; empty where that is no number each."""
    if not isinstance(objective.loss, SquaredError):
        return np.array([])
    targets = [split_batch(batch)[1] for _, batch in objective.batches()]
    found = torch.cat([each.reshape(len(each), -1) for each in targets])
    return found[:, 0].cpu().numpy() if found.shape[1] == 1 else np.array([])


def _classifies(objective: Objective) -> bool:
    try:
        predictions(objective, objective.data.take([0]))
    except InputError:
        return False
    return True
