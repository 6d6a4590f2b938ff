"""Why did the model say this of a text? Training texts that helped and harmed, token by token, on both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from upweight import kinds, scalars
from upweight.attribution import Ranking
from upweight.errors import InputError
from upweight.frameworks.readable import pieces
from upweight.influence import Influence
from upweight.kept import random_states_kept
from upweight.losses import Loss
from upweight.objective import Objective
from upweight.optional import imported, require
from upweight.predictions import given_labels, named, predictions
from upweight.quantities.by_token import PADDING
from upweight.quantities.token_attribution import TokenAttribution
from upweight.quantities.token_scores import TokenScores

if TYPE_CHECKING:
    import pandas as pd

    from upweight.report import Report, Tokens

Side = Literal["helpful", "harmful"]
SIDES: tuple[Side, ...] = ("helpful", "harmful")
SHORT = 40
"""Characters of a column's value that stands beside a text's score."""


@dataclass(frozen=True, eq=False)
class TextExplanation:
    """Training texts for and against what a model says of query texts, with the tokens that carry their scores.

    Attributes
    ----------
    attribution
        Scores ``[queries, train]``, parted by token of the training texts; by pairs of tokens where ``linked``.
    helpful, harmful
        The texts without which the queries' loss would rise, or fall, most.
    """

    attribution: TokenAttribution
    helpful: Ranking
    harmful: Ranking
    tokenizer: Any

    @property
    def linked(self) -> bool:
        """Whether each token of a query has shares of its own in the training texts."""
        return self.attribution.by == "token"

    def to_pandas(self) -> pd.DataFrame:
        """One row per query, side and rank, with the training data's columns: texts, and labels by name."""
        with imported("tables", "TextExplanation.to_pandas"):
            import pandas as pd
        sides = [self._side(side).to_pandas(self._columns).assign(side=side) for side in SIDES]
        return pd.concat(sides, ignore_index=True)

    def tokens(self, query: int = 0, side: Side = "helpful") -> Tokens:
        """The texts of one side for one query, coloured, as a block of a report.

        The query's tokens are coloured by their shares in the scores of the texts that are shown. Special tokens aren't
        shown, since much of a score may stand at the first token, of which a classifier makes its outputs, say; what
        stands there is in the caption.
        """
        with imported("report", "TextExplanation.tokens"):
            from upweight.report import TokenExample, Tokens
        scalars.whole("query", query, 0, len(self.helpful.query_ids) - 1)
        ranking, scorer = self._side(scalars.one_of("side", side, SIDES)), self.attribution.scorer
        ids, kept, _ = self._present(scorer.query_tokens(query))
        shown, by_query = [], torch.zeros(len(kept), dtype=torch.float64)
        for place in ranking.positions[query].tolist():
            scores = self._scored[query, place]
            train_ids, train_kept, special = self._present(scorer.train_tokens(place))
            assert scores.train is not None
            values = scores.train if scores.pairs is None else scores.pairs[kept]
            words = pieces(self.tokenizer, train_ids)
            caption = self._said(scores, "".join(words), float(scores.train[special].sum()))
            shown.append(TokenExample(caption, words, values[..., train_kept].double().numpy()))
            if scores.query_tokens is not None:
                by_query += scores.query_tokens[kept].double()
        quantity = self.attribution.sequence.quantity
        return Tokens(
            pieces(self.tokenizer, ids),
            shown,
            f"The most {side} training texts. Blue tokens help, orange ones harm, compared with the strongest shown.",
            quantity.helpful_sign or 1,
            query_scores=by_query.numpy(),
        )

    def report(self, title: str = "Training texts behind predictions") -> Report:
        """A page of all queries: the texts that helped and that harmed each, coloured."""
        with imported("report", "TextExplanation.report"):
            from upweight.report import Meaning, Report, Text
        quantity, notes = self.attribution.sequence.quantity, self._objective.notes
        page = Report(title)
        for query, name in enumerate(self.helpful.query_ids):
            said = [Text(self._predicted[query])] if self._predicted else []
            page.section(f"Query {name}", *said, *(self.tokens(query, side) for side in SIDES))
        magnitude = self.attribution.sequence.magnitude
        sizes = "" if magnitude is None else str(magnitude)
        words = f"{quantity.name}: {quantity.words}. A token's score is its own position's part of it."
        return page.section(
            "What the numbers mean", Meaning(words, quantity.positive, quantity.unit, sizes), *map(Text, notes)
        )

    @property
    def _objective(self) -> Objective:
        return self.attribution.scorer.objective

    def _side(self, side: Side | str) -> Ranking:
        return self.helpful if side == "helpful" else self.harmful

    @cached_property
    def _columns(self) -> dict[str, Any]:
        """The training data's, and the labels of a classification."""
        objective = self._objective
        taken = {"query", "rank", "id", "position", "score", "side"}
        found = {name: values for name, values in objective.columns.items() if name not in taken}
        if "label" not in found and _classifies(objective):
            found["label"] = named(given_labels(objective), objective.class_names)
        return found

    @cached_property
    def _predicted(self) -> list[str]:
        """Of each query of a classification its label, and what the model says."""
        objective = self._objective
        if not _classifies(objective):
            return []
        said = predictions(objective, self.attribution.scorer.data)
        names = (named(classes, objective.class_names) for classes in (said.given, said.predicted))
        likely = said.probability(said.predicted)
        shares = [""] * len(said.given) if likely is None else [f" (p = {share:.3f})" for share in likely.tolist()]
        return [f"Labelled {one}; the model says {two}{share}." for one, two, share in zip(*names, shares, strict=True)]

    @cached_property
    def _scored(self) -> dict[tuple[int, int], TokenScores]:
        """Scores by token of every pair that is shown: of the query's tokens in one walk, of the texts' in another."""
        attribution = self.attribution
        wanted = torch.zeros(len(self.helpful.query_ids), len(attribution.sequence.ids), dtype=torch.bool)
        for side in SIDES:
            wanted.scatter_(1, self._side(side).positions, True)
        found = {(each.query, each.example): each for each in attribution.scores(wanted)}
        if self.linked:
            return found
        by_query = replace(attribution, scorer=replace(attribution.scorer, by="query-token"))
        for each in by_query.scores(wanted):
            pair = each.query, each.example
            found[pair] = replace(found[pair], query_tokens=each.query_tokens, query_spans=each.query_spans)
        return found

    def _present(self, ids: Int[Tensor, " time"]) -> tuple[list[int], Int[Tensor, " kept"], Int[Tensor, " special"]]:
        """The tokens that are shown, with their positions, and the positions of special ones."""
        there = ids.cpu()
        is_special = torch.isin(there, torch.tensor(getattr(self.tokenizer, "all_special_ids", []), dtype=there.dtype))
        kept = ((there != PADDING) & ~is_special).nonzero().flatten()
        return there[kept].tolist(), kept, is_special.nonzero().flatten()

    def _said(self, scores: TokenScores, text: str, special: float) -> str:
        """A text's name, score and short columns, without the text itself."""
        unit, parts = self.attribution.sequence.quantity.unit, [str(scores.id)]
        for name, values in self._columns.items():
            value = str(values[scores.example])
            if len(value) <= SHORT and value.strip() != text.strip():
                parts.append(f"{name} {value}")
        apart = {"special tokens": special, "no token": scores.remainder}
        rest = " and ".join(f"{value:+.3g} at {name}" for name, value in apart.items() if value)
        return " · ".join([*parts, f"{scores.sequence:+.3g} {unit}" + (f", of which {rest}" if rest else "")])

    def __repr__(self) -> str:
        return f"{self.attribution.sequence.quantity}\n{self.helpful}\n{self.harmful}"


@random_states_kept()
def explain_texts(
    subject: Objective | Influence,
    queries: Any,
    tokenizer: Any,
    k: int = 5,
    *,
    query_ids: Any = None,
    measurement: Any = None,
    linked: bool = False,
) -> TextExplanation:
    """The k most helpful and the k most harmful training texts of each query, with the tokens that carry their scores.

    Examples
    --------
    ::

        objective = uw.from_trainer(trainer)
        found = uw.tasks.explain_texts(objective, ["a text to explain"], trainer.processing_class)
        print(found.to_pandas())
        found.report().save("texts.html")

    Parameters
    ----------
    subject
        An objective of tokens, or an `Influence` that is already fitted.
    queries
        Examples in the form of the training data, texts among them; of a classifier with their labels.
    tokenizer
        Whose tokens these are: its ``decode`` makes text of numbers.
    query_ids, measurement
        As in `Influence.attribute`.
    linked
        Whether a token of a query can be chosen in the report, to see its shares in the training texts alone. Takes
        memory for a gradient of each of the query's tokens.

    Raises
    ------
    InputError
        If the examples hold no tokens, or the tokenizer can't make text of them.
    """
    kinds.check(explain_texts, locals())
    scalars.whole("k", k)
    require("report", "tasks.explain_texts", "jinja2", "markupsafe")
    if isinstance(tokenizer, type) or not callable(getattr(tokenizer, "decode", None)):
        raise InputError(f"tokenizer: give the one that made the tokens, with a decode; got {scalars.shown(tokenizer)}")
    influence = subject if isinstance(subject, Influence) else Influence(subject)
    found = influence.attribute(
        queries, by="token" if linked else "train-token", query_ids=query_ids, measurement=measurement
    )
    return TextExplanation(found, found.sequence.top(k), found.sequence.bottom(k), tokenizer)


def _classifies(objective: Objective) -> bool:
    """Whether each example has one label, which is predicted."""
    loss = objective.loss
    if not isinstance(loss, Loss) or not loss.classifies:
        return False
    return objective.outputs(objective.data.take([0])).dim() == 2
