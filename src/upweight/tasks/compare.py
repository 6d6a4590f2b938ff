"""Two models on the same data, with one question: what do they learn a prediction from?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from upweight import kinds
from upweight.errors import InputError
from upweight.influence import Influence
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.optional import imported, require
from upweight.predictions import given_labels, predictions
from upweight.tasks.distance import InfluenceByDistance, by_distance
from upweight.tasks.explain import Explanation, explain

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class ComparedModel:
    """One model's answers.

    Attributes
    ----------
    explanation
        The most helpful and most harmful training examples of each query.
    distance
        Influence against distance in input space.
    predicted
        Class that the model predicts for each query.
    """

    explanation: Explanation
    distance: InfluenceByDistance
    predicted: Int[Tensor, " queries"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What several models learned the same predictions from, by the models' names."""

    models: Mapping[str, ComparedModel]

    def to_pandas(self) -> pd.DataFrame:
        """One row per model and query."""
        with imported("tables", "Comparison.to_pandas"):
            import pandas as pd
        parts = []
        for name, model in self.models.items():
            frame = model.distance.to_pandas()
            frame.insert(0, "model", name)
            frame.insert(2, "right", (model.predicted == model.distance.query_labels).numpy())
            parts.append(frame)
        return pd.concat(parts, ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """Means over the queries, one row per model."""
        return self.to_pandas().drop(columns="query").groupby("model", sort=False).mean()

    def __repr__(self) -> str:
        queries = len(next(iter(self.models.values())).predicted)
        lines = [f"Comparison of {len(self.models)} models, means over {queries} queries"]
        lines.append(self.summary().to_string(float_format="{:.3f}".format))
        return "\n".join(lines)


@random_states_kept()
def compare_models(
    models: Mapping[str, Objective | Influence],
    queries: Mapping[str, Any],
    inputs: Any,
    query_inputs: Any,
    *,
    k: int = 5,
    query_ids: Any = None,
) -> Comparison:
    """Influence by distance, and helpful and harmful training examples, of several models on the same data.

    Parameters
    ----------
    models
        Objectives (or fitted influences) by name, trained on the same examples in the same order, each in a form of its
        own: pixels here, features there.
    queries
        For each name the same queries in that model's form.
    inputs, query_inputs
        The examples as numbers ``[train, …]`` and ``[queries, …]`` in which distance is taken.
    k
        Helpful and harmful examples of each query.
    query_ids
        Names of the queries (default: their positions).

    Raises
    ------
    InputError
        If names, numbers of examples or labels differ between the models.
    """
    kinds.check(compare_models, locals())
    require("tables", "tasks.compare_models", "pandas")
    if not models or models.keys() != queries.keys():
        raise InputError(
            f"models, queries: give them for {list(models)}, each in its model's form; got {list(queries)}"
        )
    influences = {name: given if isinstance(given, Influence) else Influence(given) for name, given in models.items()}
    asked = {name: predictions(influences[name].objective, queries[name]) for name in models}
    labels = {name: (given_labels(influences[name].objective).cpu(), asked[name].given.cpu()) for name in models}
    first = next(iter(models))
    for name, own in labels.items():
        if not all(torch.equal(mine, known) for mine, known in zip(own, labels[first], strict=True)):
            raise InputError(
                f"models: {name!r} has other labels than {first!r}; give models of the same examples in the same "
                "order, and the same queries"
            )
    found = {}
    for name, influence in influences.items():
        explanation = explain(influence, queries[name], k, query_ids=query_ids)
        distance = by_distance(explanation.attribution, inputs, query_inputs, *labels[name])
        found[name] = ComparedModel(explanation, distance, asked[name].predicted.cpu())
    return Comparison(found)
