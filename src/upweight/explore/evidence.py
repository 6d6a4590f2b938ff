"""The training examples that matter to a query, of a store."""

from __future__ import annotations

from dataclasses import dataclass

from upweight.stored import Stored

HELPFUL, HARMFUL = "helpful", "harmful"
SHOWN = 6
"""Examples of each side that are shown of a query."""


@dataclass(frozen=True)
class Scored:
    """An example with a score.

    Attributes
    ----------
    position
        Of the training example, or of the query.
    score
        In the store's unit.
    side
        ``helpful`` or ``harmful``; ``largest`` or ``smallest`` where the sign says nothing.
    """

    position: int
    score: float
    side: str


def sides(stored: Stored) -> tuple[str, str]:
    """What the two ends of the scores are called."""
    return (HELPFUL, HARMFUL) if stored.quantity.helpful_sign else ("largest", "smallest")


def evidence(stored: Stored, query: int, k: int = SHOWN) -> list[Scored]:
    """The k training examples of each side for a query: most helpful first, then most harmful."""
    kept = stored.top_k
    k = min(k, stored.shape[-1] if kept is None else kept)
    found: list[Scored] = []
    for side, ranking in zip(sides(stored), (stored.top(k, [query]), stored.bottom(k, [query])), strict=True):
        pairs = zip(ranking.positions[0].tolist(), ranking.scores[0].tolist(), strict=True)
        found += [Scored(position, score, side) for position, score in pairs]
    return found
