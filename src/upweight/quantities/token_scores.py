"""Results by token: scores of a pair of examples, and rankings of spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from upweight.attribution import SHOWN
from upweight.optional import imported
from upweight.spans import Span

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TokenScores:
    """Scores of one training example for one query, by token or span.

    Attributes
    ----------
    query, example, query_id, id
        Their places and names.
    sequence
        The example's score for the query.
    train, query_tokens
        The same by the example's tokens ``[time]``, or by the query's; None where they weren't asked for.
    pairs
        By both, ``[query time, train time]``.
    remainder
        What belongs to no token, or to no pair of tokens.
    train_spans, query_spans
        Which positions each score is of.
    """

    query: int
    example: int
    query_id: Any
    id: Any
    sequence: float
    train: Float[Tensor, " t"] | None
    query_tokens: Float[Tensor, " s"] | None
    pairs: Float[Tensor, "s t"] | None
    remainder: float
    train_spans: tuple[Span, ...] | None
    query_spans: tuple[Span, ...] | None

    def __repr__(self) -> str:
        lines = [f"query {self.query_id}, example {self.id}: {self.sequence:+.3g} (remainder {self.remainder:+.3g})"]
        for name, scores, spans in (
            ("train", self.train, self.train_spans),
            ("query", self.query_tokens, self.query_spans),
        ):
            if scores is not None and spans is not None:
                pairs = zip(spans, scores.tolist(), strict=True)
                lines.append(f"  {name}: " + ", ".join(f"{span} ({score:+.3g})" for span, score in pairs))
        return "\n".join(lines)


@dataclass(frozen=True)
class Hit:
    """One span of a training example, of a query, or a pair of them.

    Attributes
    ----------
    query, example, query_id, id
        Places and names of query and example.
    train, query_span
        The spans; None for the side that isn't parted.
    score, sequence
        Of the span, and of the whole example.
    """

    query: int
    example: int
    query_id: Any
    id: Any
    train: Span | None
    query_span: Span | None
    score: float
    sequence: float

    def __str__(self) -> str:
        parts = [f"{self.id}", *(str(span) for span in (self.train,) if span is not None)]
        at = "" if self.query_span is None else f" for {self.query_span}"
        return f"{' '.join(parts)}{at} ({self.score:+.3g})"


@dataclass(frozen=True)
class TokenRanking:
    """Spans of the highest or lowest scores of each query, best first."""

    title: str
    hits: tuple[tuple[Hit, ...], ...]

    def to_pandas(self) -> pd.DataFrame:
        """One row per query and rank."""
        with imported("tables", "TokenRanking.to_pandas"):
            import pandas as pd
        rows = []
        for hits in self.hits:
            for rank, hit in enumerate(hits, 1):
                row: dict[str, Any] = {"query": hit.query_id, "rank": rank, "id": hit.id, "position": hit.example}
                for name, span in (("train", hit.train), ("query", hit.query_span)):
                    if span is not None:
                        row |= {f"{name}_start": span.start, f"{name}_stop": span.stop, f"{name}_text": span.text}
                rows.append({**row, "score": hit.score, "sequence": hit.sequence})
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        lines = [self.title]
        shown = [hits for hits in self.hits[:SHOWN] if hits]
        lines += [f"  query {hits[0].query_id}: " + ", ".join(map(str, hits)) for hits in shown]
        if len(self.hits) > SHOWN:
            lines.append(f"  … and {len(self.hits) - SHOWN} more queries; .to_pandas() holds all")
        return "\n".join(lines)
