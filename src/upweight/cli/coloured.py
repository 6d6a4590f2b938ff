"""Tokens as a command scores and colours them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Group
    from rich.text import Text

    from upweight.cli.session import Session
    from upweight.cli.source import Source
    from upweight.influence import Influence
    from upweight.tasks import Explanation, TokenExplanation

HELPFUL, HARMFUL = "0,104,163", "168,67,0"
FAINT = 0.15
"""Share of the strongest token below which one isn't coloured in a terminal."""


def tokens_of(
    run: Session, opened: Source, influence: Influence, found: Explanation, position: int, wanted: bool | None
) -> TokenExplanation | None:
    """Scores by token of the examples found, where a source says what its tokens are, or they are asked for.

    Raises
    ------
    InputError
        If they are asked for, and there are none.
    """
    from upweight.errors import InputError
    from upweight.tasks.token_explanation import by_token, has_tokenizer

    known = opened.tokens is not None or has_tokenizer(opened.objective)
    if wanted is False or not (known or wanted):
        return None
    run.stage("scoring tokens")
    shown = [*found.helpful.positions[0].tolist(), *found.harmful.positions[0].tolist()]
    try:
        return by_token(
            influence,
            opened.queries.take([position]),
            shown,
            query_id=opened.query_ids[position],
            tokens=opened.tokens,
            query_tokens=None if opened.query_tokens is None else opened.query_tokens[position],
        )
    except InputError as error:
        if wanted:
            raise
        run.warnings.append(f"tokens can't be scored: {error}")
        return None


def coloured(found: TokenExplanation) -> Group:
    """The query and the examples as text whose tokens have the colour of their share, for a terminal."""
    from rich.console import Group
    from rich.text import Text

    strongest = max((float(abs(each.by_token).max(initial=0)) for each in found.examples), default=0.0)
    lines = [Text("\nToken by token", style="bold"), _line("query", found.tokens, found.query_scores, found, 0.0)]
    lines += [_line(str(each.id), each.tokens, each.by_token, found, strongest) for each in found.examples]
    return Group(*lines)


def _line(name: str, tokens: tuple[str, ...], scores: np.ndarray, found: TokenExplanation, strongest: float) -> Text:
    from rich.text import Text

    top = strongest or float(abs(scores).max(initial=0)) or 1.0
    line = Text(f"{name}: ", style="dim")
    for token, score in zip(tokens, scores.tolist(), strict=True):
        share = score * (found.helpful_sign or 1) / top
        line.append(token, style=_style(share))
    return line


def _style(share: float) -> str:
    if abs(share) < FAINT:
        return "not dim"
    return f"not dim white on rgb({HELPFUL if share > 0 else HARMFUL})"
