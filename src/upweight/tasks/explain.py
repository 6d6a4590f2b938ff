"""Why did the model say this? The training examples that helped and that harmed, one query at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upweight import kinds, scalars
from upweight.attribution import Attribution, Ranking
from upweight.influence import Influence
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.optional import imported

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Explanation:
    """Training examples for and against the queries' labels.

    Attributes
    ----------
    attribution
        Predicted change of each query's loss if a training example were left out, ``[queries, train]``.
    helpful, harmful
        Without these the loss would rise, or fall, most.
    """

    attribution: Attribution
    helpful: Ranking
    harmful: Ranking

    def to_pandas(self) -> pd.DataFrame:
        """One row per query, side and rank."""
        with imported("tables", "Explanation.to_pandas"):
            import pandas as pd
        sides = {"helpful": self.helpful, "harmful": self.harmful}
        return pd.concat([ranking.to_pandas().assign(side=side) for side, ranking in sides.items()], ignore_index=True)

    def __repr__(self) -> str:
        return f"{self.attribution.quantity}\n{self.helpful}\n{self.harmful}"


@random_states_kept()
def explain(
    subject: Objective | Influence,
    queries: Any,
    k: int = 5,
    *,
    query_ids: Any = None,
    measurement: Any = None,
    leverage_corrected: bool = False,
    newton_steps: int = 1,
) -> Explanation:
    """The k most helpful and the k most harmful training examples of each query (Koh & Liang 2017, section 5.1).

    Parameters
    ----------
    subject
        An objective, or an `Influence` that is already fitted.
    queries
        Examples in the form of the training data; their labels are those that are explained.
    leverage_corrected, newton_steps
        Removal with the example's own curvature taken out, as in `Influence.attribute`.
    """
    kinds.check(explain, locals())
    scalars.whole("k", k)
    influence = subject if isinstance(subject, Influence) else Influence(subject)
    found = influence.attribute(
        queries,
        query_ids=query_ids,
        measurement=measurement,
        leverage_corrected=leverage_corrected,
        newton_steps=newton_steps,
    )
    return Explanation(found, found.top(k), found.bottom(k))
