"""`select`: the examples of a pool that help most on a reference set, as a data set of the same kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int

from upweight import kinds, plots, scalars
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.evaluation import Training
from upweight.frameworks.shown import columns_like, one_text
from upweight.influence import Influence
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.optional import imported
from upweight.retraining.workers import Train
from upweight.tasks.selection.comparison import SelectionComparison, compared
from upweight.tasks.selection.diverse import Variety, directions, greedy, variety
from upweight.tasks.selection.scored import METHODS, Method, Sources, attributed, helpfulness
from upweight.tasks.selection.subset import taken

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

GIVEN = "given scores"


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen examples, the best first.

    Attributes
    ----------
    objective
        The model, with the pool as its training data.
    reference
        The examples that the chosen ones are to help.
    positions
        In the pool, in the order of choice, ``[k]``.
    scores
        How much each example of the pool helps, the mean over the reference set, ``[train]``: large helps.
    attribution
        The scores by reference example, ``[reference, train]``.
    method, diversity
        How they were chosen.
    """

    objective: Objective
    reference: Any
    positions: Int[np.ndarray, " k"]
    scores: Float[np.ndarray, " train"]
    attribution: Attribution
    method: str
    diversity: float

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def ids(self) -> np.ndarray:
        """Names of the chosen examples, ``[k]``."""
        return self.objective.ids[self.positions]

    def subset(self, dataset: Any = None) -> Any:
        """The chosen examples as a data set of the same kind, in the order of choice.

        Parameters
        ----------
        dataset
            The pool as it is to be cut (default: the objective's own data). Of a Hugging Face dataset
            ``dataset.select(positions)``; of arrays, nested as they are, the rows; of a list a list; of any other
            map-style dataset a ``torch.utils.data.Subset``.

        Raises
        ------
        InputError
            If it hasn't as many examples as the pool.
        """
        return taken(self.objective.data, dataset, self.positions)

    def to_pandas(self) -> pd.DataFrame:
        """One row per chosen example, the best first."""
        with imported("tables", "Selection.to_pandas"):
            import pandas as pd
        return pd.DataFrame(
            {
                "rank": np.arange(1, len(self) + 1),
                "id": self.ids,
                "position": self.positions,
                "score": self.scores[self.positions],
            }
        )

    def figure(self, title: str | None = None) -> Figure:
        """How the scores of the whole pool are distributed."""
        return plots.score_histogram(
            self.scores,
            unit=self.attribution.quantity.unit,
            quantity="mean score over the reference set",
            signs=("harmful", "helpful"),
            title=title,
        )

    @random_states_kept()
    def variety(self, draws: int = 3, seed: int = 0) -> Variety:
        """How different the chosen examples are, beside the best scores without diversity and random subsets.

        One pass over the pool. Cosines are of gradients projected to 512 numbers; of more than 2,000 chosen ones so
        many are drawn.

        Raises
        ------
        InputError
            If a number is out of range, or fewer than two were chosen.
        """
        scalars.whole("draws", draws)
        if len(self) < 2:
            raise InputError(f"variety: of {len(self)} chosen example there is no other; choose two or more")
        best = np.argsort(-self.scores, kind="stable")[: len(self)]
        generator = scalars.generator(seed)
        return variety(directions(self.objective, seed), self.positions, best, draws, generator)

    def compare(
        self,
        train: Train | Training,
        held_out: Any = None,
        *,
        others: Mapping[str, Selection] | None = None,
        draws: int = 3,
        everything: bool = True,
        seed: int = 0,
    ) -> SelectionComparison:
        """Retrain on the selection, on random subsets of its size and on everything; losses on held-out examples.

        Parameters
        ----------
        train
            ``train(indices, seed)``: trains on these examples of the pool; or a `upweight.evaluation.Training`, with
            several seeds, worker processes, or a folder that survives a kill.
        held_out
            Examples in the form of the pool to judge by (default: the reference set, which the selection has seen).
        others
            Other selections from the same pool, by name, to compare it with.
        draws
            Random subsets, for every seed.
        everything
            Whether to train on the whole pool too.
        seed
            Of the random subsets.

        Raises
        ------
        InputError
            If a number is out of range, or a selection is of another pool.
        """
        kinds.check(Selection.compare, locals())
        named = {self.method: self, **(others or {})}
        for name, other in named.items():
            scalars.instance(f"others[{name!r}]", other, Selection, "what tasks.select gives")
            if other.objective.n != self.objective.n:
                raise InputError(f"others[{name!r}]: it is of a pool of {other.objective.n}, not {self.objective.n}")
        subsets = {name: torch.from_numpy(other.positions) for name, other in named.items()}
        data = self.objective.queries(self.reference if held_out is None else held_out)
        return compared(
            self.objective,
            subsets,
            data,
            train,
            size=len(self),
            draws=scalars.whole("draws", draws),
            everything=everything,
            seed=scalars.seed("seed", seed),
        )

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name} ({score:+.3g})"
            for name, score in zip(self.ids[:5], self.scores[self.positions[:5]].tolist(), strict=True)
        )
        quantity = self.attribution.quantity
        return (
            f"Selection of {len(self):,} of {self.objective.n:,} examples by {self.method}, diversity "
            f"{self.diversity:g}\n  score: {quantity.words}, mean over the reference set [{quantity.unit}], large for "
            f"helpful examples\n  {shown}{', …' if len(self) > 5 else ''}"
        )


@random_states_kept()
def select(
    subject: Objective | Influence,
    reference: Any,
    k: int,
    *,
    method: Method = "influence",
    diversity: float = 0.0,
    attribution: Attribution | None = None,
    relative: bool = False,
    checkpoints: Any = None,
    learning_rates: float | Sequence[float] = 1.0,
    texts: Sequence[str] | None = None,
    reference_texts: Sequence[str] | None = None,
    seed: int = 0,
) -> Selection:
    """The k examples of a pool that help most on a reference set.

    Parameters
    ----------
    subject
        A model trained on the pool: its objective, or an `Influence` of it. The objective's data are the pool.
    reference
        Examples in the form of the pool, of what the model should be good at.
    k
        How many to choose, at most the pool's size.
    method
        ``influence``: predicted rise of the reference set's mean loss without the example; ``tracin`` and ``trak``:
        `upweight.TracIn` and `upweight.TRAK`; ``similarity``: mean cosine of the loss gradients (as LESS does, Xia et
        al. 2024, without its warm-up and projection); ``bm25``: shared words (what must be beaten on text);
        ``random``.
    diversity
        λ in 0 … 1: examples are chosen one after the other, and one whose gradient has the cosine c > 0 to that of one
        chosen already counts 1 − λc of its score. 0 takes the k best; with 1 no helpful example is chosen beside its
        duplicate while others are left. Gradients are projected to 512 numbers.
    attribution
        Scores ``[reference, train]`` that are there already, or of another method; in place of ``method``.
    relative
        Scores over the root of each example's self-influence (`Attribution.relative_to`), for the method influence:
        outliers that move every loss no longer come first.
    checkpoints, learning_rates
        For ``tracin`` and ``trak``: models along the training, or from several seeds (default: the model itself).
    texts, reference_texts
        For ``bm25``: the examples of the pool and of the reference set as text (default: the one column of text that
        objective and reference set have, as models of transformers have it).
    seed
        Of what is random: the method ``random``, projections.

    Raises
    ------
    InputError
        If a number is out of range, or a method needs what isn't given.
    """
    kinds.check(select, locals())
    scalars.one_of("method", method, METHODS)
    influence = subject if isinstance(subject, Influence) else Influence(subject)
    objective = influence.objective
    count = scalars.whole("k", k, 1, objective.n)
    weight = scalars.number("diversity", diversity, least=0, most=1)
    scalars.flag("relative", relative)
    if relative and (method != "influence" or attribution is not None):
        raise InputError("relative: for the method 'influence'; give attribution=found.relative_to(own) for others")
    data = objective.queries(reference)
    if attribution is None:
        if method == "bm25":
            texts = one_text(objective.columns) if texts is None else texts
            reference_texts = one_text(columns_like(objective, data)) if reference_texts is None else reference_texts
        sources = Sources(checkpoints, learning_rates, texts, reference_texts, scalars.seed("seed", seed))
        found = attributed(influence, data, method, sources)
        found = found.relative_to(influence.self_influence()) if relative else found
    elif tuple(attribution.matrix.shape) != (len(data), objective.n):
        raise InputError(
            f"attribution: got scores {tuple(attribution.scores.shape)}; give [{len(data)} reference examples, "
            f"{objective.n} of the pool]"
        )
    else:
        found = attribution
    scores = helpfulness(found)
    if weight and count < objective.n:
        positions = greedy(scores, directions(objective, seed), count, weight)
    else:
        positions = np.argsort(-scores, kind="stable")[:count]
    found = replace(found, ids=objective.ids)
    return Selection(objective, data, positions, scores, found, method if attribution is None else GIVEN, weight)
