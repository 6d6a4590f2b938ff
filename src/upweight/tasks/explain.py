"""Why did the model say this? The training examples that helped and that harmed, one query at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from upweight import kinds, scalars
from upweight.attribution import Attribution, Ranking
from upweight.errors import InputError
from upweight.frameworks.shown import columns_like
from upweight.influence import Influence
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.optional import imported
from upweight.predictions import in_words, label_column
from upweight.tasks.token_explanation import TokenExplanation, by_token

if TYPE_CHECKING:
    import pandas as pd

    from upweight.report import Report

TAKEN = ("query", "rank", "id", "position", "score", "side")
"""Columns of every explanation's table."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Training examples for and against the queries' labels.

    Attributes
    ----------
    attribution
        Predicted change of each query's loss if a training example were left out, ``[queries, train]``.
    helpful, harmful
        Without these the loss would rise, or fall, most.
    tokens
        The same by token, one for each query, where that was asked for.
    columns, query_columns
        What is known of training examples and queries, by name: texts, say, and labels of a classification.
    predicted
        Of a classification, a line for each query: its label, and what the model says.
    """

    attribution: Attribution
    helpful: Ranking
    harmful: Ranking
    tokens: tuple[TokenExplanation, ...] = ()
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    query_columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    predicted: tuple[str, ...] = ()

    def to_pandas(self) -> pd.DataFrame:
        """One row per query, side and rank, with what is known of the training examples.

        Where no column has texts and tokens were scored, ``text`` is what these read.
        """
        with imported("tables", "Explanation.to_pandas"):
            import pandas as pd
        columns = {f"{name} (column)" if name in TAKEN else name: values for name, values in self.columns.items()}
        sides = {"helpful": self.helpful, "harmful": self.harmful}
        frames = [ranking.to_pandas(columns or None).assign(side=side) for side, ranking in sides.items()]
        if self.tokens and not any(isinstance(each[0], str) for name, each in columns.items() if name != "label"):
            middle = self.helpful.positions.shape[1]
            for frame, part in zip(frames, (slice(middle), slice(middle, None)), strict=True):
                read = ["".join(example.tokens) for one in self.tokens for example in one.examples[part]]
                frame.insert(list(frame.columns).index("score") + 1, "text", read)
        return pd.concat(frames, ignore_index=True)

    def page(self, title: str = "Why?") -> Report:
        """A report: what the scores are, and for each query its examples with their columns, and tokens coloured.

        ``page().save("why.html")`` writes it; a notebook shows it.
        """
        with imported("report", "Explanation.page"):
            from upweight.tasks.explanation_page import page
        return page(self, title)

    def __repr__(self) -> str:
        shown = [f"{self.attribution.quantity}", f"{self.helpful}", f"{self.harmful}", *map(repr, self.tokens)]
        return "\n".join(shown)


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
    tokens: Any = False,
    query_tokens: Sequence[Sequence[str]] | None = None,
) -> Explanation:
    """The k most helpful and the k most harmful training examples of each query (Koh & Liang 2017, section 5.1).

    Parameters
    ----------
    subject
        An objective, or an `Influence` that is already fitted.
    queries
        Examples in the form of the training data; their labels are those that are explained.
    k
        Helpful examples of each query, and as many harmful ones.
    query_ids
        Names of the queries (default: their positions).
    measurement
        What is explained: one of `upweight.measurements`, its name, or a function ``(model, batch) -> [batch]``;
        default the loss.
    leverage_corrected, newton_steps
        Removal with the example's own curvature taken out, as in `Influence.attribute`.
    tokens
        True: score the tokens of the examples found too, on both sides, in words of the objective's tokenizer; or a
        tokenizer, where the objective has none; or the texts of each training example's tokens, a list for each, and
        then ``query_tokens`` likewise. A tokenizer's special tokens aren't shown; captions say what stands there.

    Raises
    ------
    InputError
        If tokens are asked for and not known, the model's gradients can't be parted by token, or leverage is to be
        divided out of their scores.

    Examples
    --------
    ::

        objective = uw.from_trainer(trainer)
        found = uw.tasks.explain(objective, ["The capital of France is Paris"], tokens=True)
        found.page().save("why.html")
    """
    kinds.check(explain, locals())
    scalars.whole("k", k)
    wanted = tokens is not False and tokens is not None
    tokenizer = tokens if _decodes(tokens) else None
    given = None if tokens is True or tokenizer is not None or not wanted else tokens
    if wanted and (leverage_corrected or newton_steps != 1):
        raise InputError("tokens: leverage isn't divided out of their scores; leave leverage_corrected or tokens out")
    influence = subject if isinstance(subject, Influence) else Influence(subject)
    objective = influence.objective
    data = objective.queries(queries)
    for name, texts, count in (("tokens", given, objective.n), ("query_tokens", query_tokens, len(data))):
        if texts is not None and (not kinds.KINDS["Sequence"].test(texts) or len(texts) != count):
            raise InputError(f"{name}: got {scalars.shown(texts)}; give the tokens of each of {count} examples")
    if (given is None) != (query_tokens is None):
        raise InputError(
            "query_tokens: go with tokens=, the texts of each training example's tokens; give both or neither"
        )
    found = influence.attribute(
        data,
        query_ids=query_ids,
        measurement=measurement,
        leverage_corrected=leverage_corrected,
        newton_steps=newton_steps,
    )
    helpful, harmful = found.top(k), found.bottom(k)
    parted = [
        by_token(
            influence,
            data.take([row]),
            [*helpful.positions[row].tolist(), *harmful.positions[row].tolist()],
            query_id=found.query_ids[row],
            measurement=measurement,
            tokens=given,
            query_tokens=None if query_tokens is None else query_tokens[row],
            tokenizer=tokenizer,
        )
        for row in range(len(data) if wanted else 0)
    ]
    shown, columns = columns_like(objective, data), {**objective.columns, **label_column(objective)}
    return Explanation(found, helpful, harmful, tuple(parted), columns, shown, in_words(objective, data))


def _decodes(tokens: Any) -> bool:
    """Whether it is a tokenizer."""
    return callable(getattr(tokens, "decode", None)) and not isinstance(tokens, str | bytes | type)
