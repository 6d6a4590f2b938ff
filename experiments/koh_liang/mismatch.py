"""Section 5.3 on any table: a group of whom the training data have few, nearly all of one outcome.

Of the group's members drawn into training most of those with outcome 0 are dropped; a logistic regression without bias
then errs on members held out. Which training rows are responsible? A new split for every seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

import upweight as uw
from upweight import retraining, tabular
from upweight.tabular.columns import prepared

LEAST = 1e-3
"""Lowest ratio drawn: a member that is predicted with certainty has no influence to speak of."""


@dataclass(frozen=True, eq=False)
class Withheld:
    """A table and what of it is withheld.

    Attributes
    ----------
    frame, outcome, group
        Predictors, outcomes 0 and 1, and who is of the group, row by row.
    feature
        The group's own column after encoding.
    train
        Rows to train on, before dropping.
    drawn
        Members with outcome 1, and with outcome 0, drawn into training.
    kept
        Of those with outcome 0.
    balanced
        Whether as many of the others have outcome 1 as 0.
    """

    frame: pd.DataFrame
    outcome: np.ndarray
    group: np.ndarray
    feature: str
    name: str
    class_names: tuple[str, str]
    train: int
    drawn: tuple[int, int]
    kept: int
    l2: float = 1e-4
    balanced: bool = False

    @property
    def members(self) -> int:
        """Left in training."""
        return self.drawn[0] + self.kept


def one_split(given: Withheld, seed: int) -> dict:
    """The concentration for every wrongly predicted member held out, also with half of the other rows."""
    found, objective = explained(given, seed)
    halved, _ = explained(given, seed, given.train // 2)
    weights = found.coefficients
    assert weights is not None
    return {
        "seed": seed,
        "n": objective.n,
        "features": objective.p,
        "gradient_norm": found.attribution.facts["gradient_norm"],
        "weight": weights.weight,
        "outranked_by": weights.outranked_by,
        "wrong": len(found.queries),
        "share": found.concentration.share,
        "queries": found.by_query().to_dict("records"),
        "halved": halved.by_query().to_dict("records"),
    }


def explained(given: Withheld, seed: int, size: int | None = None) -> tuple[uw.tasks.DomainMismatch, uw.Objective]:
    """Train on one split and explain the wrong predictions of members held out whose outcome is 0."""
    train, held_out = split(given, size or given.train, np.random.default_rng(seed))
    columns = tabular.sorted_columns(given.frame.iloc[train])
    encoder = tabular.encoder(columns)
    ready = prepared(given.frame, columns)
    inputs, others = encoder.fit_transform(ready.iloc[train]), encoder.transform(ready.iloc[held_out])
    layer = torch.nn.Linear(inputs.shape[1], 1, bias=False, dtype=torch.float64)
    loss = uw.losses.BinaryLogistic()
    objective = retraining.fit(uw.Objective(layer, loss, (inputs, given.outcome[train]), l2=given.l2, ids=train))
    names = list(encoder.get_feature_names_out())
    found = uw.tasks.domain_mismatch(
        objective,
        (others, given.outcome[held_out]),
        train_group=given.group[train],
        group=given.group[held_out] & (given.outcome[held_out] == 0),
        name=given.name,
        ids=held_out.tolist(),
        features=uw.tasks.GroupFeatures(positions=[names.index(given.feature)], names=names),
        class_names=given.class_names,
    )
    return found, objective


def split(given: Withheld, size: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out; the members that are dropped are in neither."""
    drawn = [
        generator.permutation(np.flatnonzero(given.group & (given.outcome == outcome)))[:count]
        for outcome, count in zip((1, 0), given.drawn, strict=True)
    ]
    rest = size - sum(given.drawn)
    if given.balanced:
        halves = [np.flatnonzero(~given.group & (given.outcome == outcome)) for outcome in (0, 1)]
        others = np.concatenate([generator.permutation(half)[: rest // 2] for half in halves])
    else:
        others = generator.permutation(np.flatnonzero(~given.group))[:rest]
    train = np.sort(np.concatenate([others, drawn[0], drawn[1][: given.kept]]))
    return train, np.setdiff1d(np.arange(len(given.group)), np.concatenate([train, drawn[1][given.kept :]]))


@dataclass(frozen=True, eq=False)
class Splits:
    """All splits together: wrongly predicted members, splits, and members with half of the other rows."""

    queries: pd.DataFrame
    seeds: pd.DataFrame
    halved: pd.DataFrame

    @classmethod
    def of(cls, found: list[dict]) -> Splits:
        """Of what `one_split` gave of each seed."""
        kept = [{k: v for k, v in seed.items() if k not in ("seed", "queries", "halved")} for seed in found]
        queries, halved = (
            pd.DataFrame([row for seed in found for row in seed[side]]) for side in ("queries", "halved")
        )
        return cls(queries, pd.DataFrame(kept), halved)

    def summary(self) -> dict[str, dict[str, float]]:
        """Medians over the splits, and the ranges that hold 95 % of them."""
        return {name: _interval(column) for name, column in self.seeds.items() if column.dtype.kind in "fi"}

    def told(self, members: int, whose: str, others: str, weight: str) -> str:
        """What was found, in words."""
        first = float((self.queries["among_the_first"] == members).mean())
        strongest, weakest = (self.queries[f"{name}_over_others"] for name in ("strongest", "weakest"))
        outranked = self.seeds["outranked_by"]
        return (
            f"over {len(self.seeds)} splits and {len(self.queries)} wrongly predicted {whose}, the strongest of the "
            f"{members} {others} has {quartiles(strongest)} the influence of the next other one, the weakest "
            f"{weakest.median():.1f} ×; one of them comes first in {percent((strongest > 1).mean())} of cases, the "
            f"{members} are exactly the {members} first in {first:.0%}. {outranked.median():.0f} coefficients (median; "
            f"{outranked.min()}–{outranked.max()}) outrank {weight}"
        )


def quartiles(ratios: pd.Series) -> str:
    """A median ratio with its quartiles, in words."""
    return f"{ratios.median():.1f} × (quartiles {ratios.quantile(0.25):.1f}–{ratios.quantile(0.75):.1f})"


def percent(share: float) -> str:
    """All or none only where it is."""
    return f"{share:.0%}" if share in (0, 1) else f"{share:.1%}"


def draw(found: list[dict], members: int, whose: str) -> Figure:
    """Strongest and weakest member over the strongest other row, for every query and split, beside the paper's."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhspan(27, 41, color="0.9", lw=0, label="paper: 27–41, each of 4 children")
    axes.axhline(1, color="0.5", lw=0.8)
    for name, colour, marker in (("strongest", "#D55E00", "D"), ("weakest", "#0072B2", "o")):
        points = [
            (i, max(query[f"{name}_over_others"], 1.2 * LEAST))
            for i, seed in enumerate(found)
            for query in seed["queries"]
        ]
        axes.scatter(
            *zip(*points, strict=True), s=18, alpha=0.7, color=colour, marker=marker, lw=0, label=f"{name} of {members}"
        )
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], LEAST))
    axes.set_xticks(range(len(found)), [seed["seed"] for seed in found])
    axes.set_xlabel(f"split (seed); one pair of marks for each wrongly predicted {whose}")
    axes.set_ylabel("|influence| over the strongest other's")
    figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    return figure


def _interval(values: pd.Series) -> dict[str, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return {"median": float(values.median()), "low": float(low), "high": float(high)}
