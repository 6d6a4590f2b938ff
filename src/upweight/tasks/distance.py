"""Does a model explain by closeness? Influence of training examples against their distance to the query.

A model that compares inputs directly (an RBF machine on pixels) is influenced by what is near the query and has its
label; one on learned features by what shares those features, near or far, of both labels (Koh & Liang 2017, section
5.1, Figure 4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from upweight import kinds, scalars
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.evaluation.correlation import spearman
from upweight.kept import random_states_kept
from upweight.optional import imported

if TYPE_CHECKING:
    import pandas as pd

HELPFUL = 20
"""Most helpful examples whose labels are counted, unless said otherwise."""
NEGLIGIBLE = 1e-6
"""Share of a query's largest |score| below which an example has no influence on it."""


@dataclass(frozen=True, eq=False)
class InfluenceByDistance:
    """Helpfulness of training examples beside their distance to each query in input space.

    Attributes
    ----------
    attribution
        Scores, ``[queries, train]``.
    distances
        Euclidean distance of the inputs, ``[queries, train]``.
    labels, query_labels
        Classes, ``[train]`` and ``[queries]``.
    """

    attribution: Attribution
    distances: Float[Tensor, "queries train"]
    labels: Int[Tensor, " train"]
    query_labels: Int[Tensor, " queries"]

    def __post_init__(self) -> None:
        shape = tuple(self.attribution.matrix.shape)
        if tuple(self.distances.shape) != shape:
            raise InputError(f"distances: need one for each score {shape}; got {tuple(self.distances.shape)}")
        if (len(self.query_labels), len(self.labels)) != shape:
            got = (len(self.query_labels), len(self.labels))
            raise InputError(f"labels: need one for each of {shape} queries and training examples; got {got}")
        if not self.attribution.quantity.helpful_sign:
            raise InputError(
                f"attribution: {self.attribution.quantity.name} doesn't say what helps; give removal scores"
            )

    def row(self, query: int) -> InfluenceByDistance:
        """Of one query alone."""
        one = slice(query, query + 1)
        return replace(
            self,
            attribution=replace(
                self.attribution,
                scores=self.attribution.matrix[one],
                query_ids=self.attribution.query_ids[one],
            ),
            distances=self.distances[one],
            query_labels=self.query_labels[one],
        )

    @property
    def helpfulness(self) -> Float[Tensor, "queries train"]:
        """Scores, positive where the example helps."""
        return self.attribution.quantity.helpful_sign * self.attribution.matrix.cpu()

    @property
    def same_class(self) -> Tensor:
        """Whether the training example has the query's label, ``[queries, train]``."""
        return self.query_labels[:, None] == self.labels[None]

    @property
    def influential(self) -> Bool[Tensor, "queries train"]:
        """Where |score| is more than a millionth of the query's largest: a hinge machine has examples without any."""
        size = self.helpfulness.abs()
        return size > NEGLIGIBLE * size.amax(1, keepdim=True)

    def correlation(
        self, *, of_size: bool = True, among: Literal["all", "influential"] = "all"
    ) -> Float[np.ndarray, " queries"]:
        """Spearman's ρ of |score| (or of helpfulness) with distance for each query; nan where a side is constant.

        Near −1: what is near has influence, what is far has none.
        """
        values = (self.helpfulness.abs() if of_size else self.helpfulness).double().numpy()
        distances = self.distances.double().cpu().numpy()
        if among == "all":
            return spearman(values, distances)
        rows = zip(values, distances, self.influential.numpy(), strict=True)
        return np.array([spearman(v[None, kept], d[None, kept])[0] if kept.any() else np.nan for v, d, kept in rows])

    def same_class_share(self, k: int = HELPFUL) -> Float[np.ndarray, " queries"]:
        """Share of the query's label among its k most helpful examples that help at all; nan where none does."""
        scalars.whole("k", k)
        score, place = self.helpfulness.topk(min(k, len(self.labels)), dim=1)
        helps = score > 0
        same = self.same_class.gather(1, place) & helps
        count = helps.sum(1).double()
        return torch.where(count > 0, same.sum(1) / count, torch.nan).numpy()

    def same_class_weight(self) -> Float[np.ndarray, " queries"]:
        """Share of all helpfulness (the sum of positive scores) that examples of the query's label hold."""
        helpful = self.helpfulness.clamp_min(0).double()
        total = helpful.sum(1)
        return torch.where(total > 0, (helpful * self.same_class).sum(1) / total, torch.nan).numpy()

    def first_of_another_class(self) -> Int[np.ndarray, " queries"]:
        """Rank, from 1, of the most helpful example of another label; train + 1 where none of them helps."""
        order = self.helpfulness.argsort(dim=1, descending=True, stable=True)
        other = (~self.same_class & (self.helpfulness > 0)).gather(1, order)
        rank = torch.where(other.any(1), other.int().argmax(1) + 1, len(self.labels) + 1)
        return rank.numpy()

    def to_pandas(self) -> pd.DataFrame:
        """One row per query."""
        with imported("tables", "InfluenceByDistance.to_pandas"):
            import pandas as pd
        return pd.DataFrame(
            {
                "query": self.attribution.query_ids,
                "rho_influence_distance": self.correlation(),
                "rho_among_influential": self.correlation(among="influential"),
                "rho_helpfulness_distance": self.correlation(of_size=False),
                "same_class_share": self.same_class_share(),
                "same_class_weight": self.same_class_weight(),
                "first_of_another_class": self.first_of_another_class(),
            }
        )


@random_states_kept()
def by_distance(
    attribution: Attribution, inputs: Any, query_inputs: Any, labels: Any, query_labels: Any
) -> InfluenceByDistance:
    """Scores beside the distances of the inputs.

    Parameters
    ----------
    attribution
        Scores ``[queries, train]`` of a quantity that says which sign helps.
    inputs, query_inputs
        Numbers ``[train, …]`` and ``[queries, …]`` in which distance is taken: pixels, or whatever the user sees.
    labels, query_labels
        Classes, ``[train]`` and ``[queries]``.

    Raises
    ------
    InputError
        If numbers or lengths don't fit.
    """
    kinds.check(by_distance, locals())
    near, far = (_flat(name, values) for name, values in (("query_inputs", query_inputs), ("inputs", inputs)))
    if near.shape[1] != far.shape[1]:
        raise InputError(
            f"query_inputs: {near.shape[1]} numbers an example, where the training inputs have {far.shape[1]}"
        )
    classes, asked = (_classes(name, values) for name, values in (("labels", labels), ("query_labels", query_labels)))
    if len(asked) != len(near):
        raise InputError(f"query_labels: need one for each of the {len(near)} queries; got {len(asked)}")
    return InfluenceByDistance(attribution, torch.cdist(near, far), classes, asked)


def _classes(name: str, values: Any) -> Int[Tensor, " _"]:
    given = kinds.numbers(name, values)
    classes = given.long() if given.dtype == torch.bool else kinds.whole_numbers(name, given)
    return classes.reshape(-1).cpu()


def _flat(name: str, values: Any) -> Float[Tensor, "m d"]:
    found = kinds.numbers(name, values)
    if found.dim() < 2 or not found.numel():
        raise InputError(f"{name}: give numbers [examples, …]; got shape {tuple(found.shape)}")
    flat = found.reshape(len(found), -1).cpu().float()
    if not torch.isfinite(flat).all():
        raise InputError(f"{name}: NaN or infinite values; leave those examples out or fill them")
    return flat
