"""The page of `upweight attribute --report` and of `upweight query --to page.html`: queries with their examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from upweight.cli.job import Done
    from upweight.report import Block, Report
    from upweight.stored import Stored
    from upweight.tasks import TokenExplanation

QUERIES = 10
"""On a page where none is named."""
EXAMPLES = 5
"""Of each side where no number is given."""


@dataclass(frozen=True)
class Predicted:
    """Labels, and what the model says: of queries in a line, by place; of examples in columns, by position."""

    queries: Mapping[int, str]
    examples: pd.DataFrame

    @classmethod
    def of(cls, done: Done, rows: Sequence[int], k: int) -> Predicted:
        """Of some queries and the examples shown for them; none of what is no classification."""
        import pandas as pd

        from upweight.predictions import in_columns, in_words

        study, objective = done.study, done.study.objective
        places = sorted({int(place) for place in done.stored.to_pandas(k, list(rows) or None)["position"]})
        examples = pd.DataFrame(in_columns(objective, objective.data.take(places), study.class_names))
        if not rows or examples.empty:
            return cls({}, examples.set_axis(places[: len(examples)]))
        said = in_words(objective, objective.queries(study.queries).take(list(rows)), study.class_names)
        return cls(dict(zip(rows, said, strict=False)), examples.set_axis(places))

    def beside(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A table of examples with these columns after the score; columns of its own stay as they are."""
        own = [name for name in self.examples.columns if name not in frame.columns]
        if not own:
            return frame
        added = self.examples.loc[frame["position"], own].set_axis(frame.index)
        after = list(frame.columns).index("score") + 1
        return frame.iloc[:, :after].join(added).join(frame.iloc[:, after:])


def scores_page(
    stored: Stored,
    title: str,
    rows: Sequence[int] | None,
    k: int,
    *,
    known: pd.DataFrame | None = None,
    tokens: Mapping[int, TokenExplanation] | None = None,
    predicted: Predicted | None = None,
    facts: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> Report:
    """A section for each query: what is known of it, its tokens and the examples' coloured, and a table of these.

    Parameters
    ----------
    rows
        The queries' places (default: the first ten).
    k
        Examples of each side.
    known
        What is known of all queries, a row each.
    tokens
        Scores by token, by the query's place.
    predicted
        What the model says of queries and examples, where it classifies.
    """
    from upweight.cli.layout import frame_block, meaning_block
    from upweight.cli.query import groups, sides
    from upweight.report import Facts, Report, Text, Warnings
    from upweight.tasks.explanation_page import about, captions

    count = stored.shape[0] if len(stored.shape) > 1 else 1
    shown = list(range(min(count, QUERIES))) if rows is None else list(rows)
    named = None if len(stored.shape) == 1 else shown
    most, least = sides(stored)
    said = f"The {most} and {least} of {stored.shape[-1]:,} training examples"
    if named is not None:
        said += f" for {len(shown):,} of {count:,} queries"
    page = Report(title, f"{said}.").section(
        "The scores",
        meaning_block(stored.quantity, stored.magnitude),
        *([Facts(facts)] if facts else []),
        Warnings(list(warnings)),
    )
    for (name, frame), place in zip(groups(stored, stored.to_pandas(k, named), named), shown, strict=True):
        found = (tokens or {}).get(place)
        blocks: list[Block] = []
        if predicted is not None:
            blocks += [Text(predicted.queries[place])] if place in predicted.queries else []
            frame = predicted.beside(frame)
        if known is not None and named is not None:
            blocks += about({str(key): value for key, value in known.iloc[place].to_dict().items()}, found)
        if found is not None:
            blocks.append(found.block(captions(*_said(stored, frame), found)))
        table = frame.drop(columns=["query", "position"], errors="ignore").reset_index(drop=True)
        page = page.section(
            "Each example's own" if name is None else f"Query {name}",
            *blocks,
            frame_block(table, f"Ranks from 1: {most}; from −1: {least}."),
        )
    return page


def _said(stored: Stored, frame: pd.DataFrame) -> tuple[list[tuple[str, Any, float]], list[dict[str, Any]]]:
    """Side, name and score of each example, and what is known of it."""
    from upweight.cli.query import sides

    most, least = sides(stored)
    own = [column for column in frame.columns if column not in ("query", "rank", "id", "position", "score")]
    rows = frame.to_dict("records")
    shown = [(most if row["rank"] > 0 else least, row["id"], row["score"]) for row in rows]
    return shown, [{str(name): row[name] for name in own} for row in rows]


def tokens_by_query(done: Done, options: Mapping[str, Any], rows: Sequence[int], k: int) -> dict[int, TokenExplanation]:
    """Scores by token of the examples that the page shows, for each of some queries.

    Raises
    ------
    InputError
        If the model's gradients can't be parted by token, or nothing says what its tokens read.
    """
    from upweight.cli.query import groups
    from upweight.tasks.token_explanation import by_token

    study, stored = done.study, done.stored
    queries = study.objective.queries(study.queries)
    frames = groups(stored, stored.to_pandas(k, list(rows)), list(rows))
    return {
        row: by_token(
            done.influence,
            queries.take([row]),
            frame["position"].tolist(),
            query_id=name,
            quantity=options["quantity"],
            measurement=options["measurement"],
            tokens=study.tokens,
            query_tokens=None if study.query_tokens is None else study.query_tokens[row],
        )
        for row, (name, frame) in zip(rows, frames, strict=True)
    }
