"""Influence against distance in input space, as `upweight explain` and `upweight compare` show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from upweight.attribution import Attribution
    from upweight.cli.source import Source
    from upweight.report import Figure
    from upweight.tasks import InfluenceByDistance

WORDS = (
    "Spearman's ρ of |influence| with distance: near −1 where only what is near the query has influence on it, near 0 "
    "where distance doesn't matter."
)


def distance_of(opened: Source, positions: list[int], attribution: Attribution) -> InfluenceByDistance | None:
    """Scores beside distances of the pictures, or of the model's inputs where there are none; None without classes."""
    from upweight.errors import InputError
    from upweight.predictions import given_labels
    from upweight.tasks import by_distance, predictions

    inputs, asked = opened.images, opened.query_images
    try:
        labels = given_labels(opened.objective)
        query_labels = predictions(opened.objective, opened.queries).given[positions]
        if inputs is None or asked is None:
            inputs, asked = numbers(opened.objective.data), numbers(opened.queries)
        near = torch.stack([torch.as_tensor(asked[position]) for position in positions])
        return by_distance(attribution, inputs, near, labels, query_labels)
    except (InputError, TypeError):
        return None  # no classes, or inputs that are no numbers: there is no such picture


def numbers(data: Any) -> Any:
    """The first tensor of floating point of the examples."""
    from upweight.quantities.perturbation import input_key

    whole = data.take(range(len(data)))
    return whole[input_key(whole, None)]


def figures_of(found: InfluenceByDistance) -> dict[str, float]:
    """One query's figures."""
    row = found.to_pandas().iloc[0]
    return {
        "ρ of |influence| with distance": float(row["rho_influence_distance"]),
        "the same among examples with influence": float(row["rho_among_influential"]),
        "same class among the 20 most helpful": float(row["same_class_share"]),
    }


def distance_figure(found: InfluenceByDistance, class_names: Any, unit: str, title: str | None = None) -> Figure:
    """The scatter of one query, by class."""
    from upweight import plots
    from upweight.predictions import named
    from upweight.report import Figure

    drawn = plots.influence_against(
        found.distances[0],
        found.helpfulness[0],
        xlabel="Euclidean distance to the query in input space",
        unit=unit,
        groups=named(found.labels, class_names),
        quantity="Helpfulness",
        title=title,
    )
    return Figure(drawn, WORDS, "Influence of the training examples against their distance to the query, by class")
