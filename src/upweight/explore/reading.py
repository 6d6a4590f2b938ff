"""What an example says, on a page: its text token by token where tokens were scored, plain texts, other columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from nicegui import ui

from upweight.explore import markup, view
from upweight.explore.examples import Examples
from upweight.report.tokens import Token, Tokens

if TYPE_CHECKING:
    from upweight.explore.page import Page


def content(
    examples: Examples, position: int, beside: tuple[Examples, int] | None = None, drawn: Sequence[Token] = ()
) -> None:
    """An example's texts, and its other columns as a table; marked: cells that differ from another's, words of both.

    A column that says what the ``drawn`` tokens say isn't repeated.
    """
    own = {name: value for name, value in examples.values(position).items() if not (drawn and _says(value, drawn))}
    other = None if beside is None else beside[0].values(beside[1])
    texts = set(examples.texts)
    for name in [name for name in own if name in texts]:
        words, theirs = str(own[name] or ""), None if other is None else other.get(name)
        shared = markup.shared_words(words, str(theirs)) if theirs is not None else set()
        ui.html(str(markup.text(words, shared)))
    cells = {name: value for name, value in own.items() if name not in texts}
    if cells:
        differing = set() if other is None else view.differing(cells, other)
        ui.html(str(markup.values(cells, differing, other if differing else None, examples.years)))


def text(tokens: Sequence[Token], position: int, chosen: int = 0) -> None:
    """A training example's tokens by their share: of all tokens of the query (0), or of one of them."""
    ui.html(str(markup.tokens(tokens, chosen))).mark(f"tokens-{position}", f"chosen-{chosen}")


def query_tokens(page: Page, found: Tokens) -> None:
    """The query's tokens; a click on one, or Enter, shows what speaks for it alone."""
    chosen = page.session.token
    ui.label(found.caption).classes("hint")
    with ui.element("div").classes("text query-tokens").props("role=radiogroup aria-label='Tokens of the query'"):
        if found.linked:
            _choice(page, 0, "all tokens", "token all", chosen == 0)
        for place, token in enumerate(found.query, 1):
            if found.linked:
                made = _choice(page, place, token.text, "token", chosen == place)
            else:
                made = ui.label(token.text).classes("token")
            made.style(f"--v:{float(token.shares[0]):.3f}").tooltip(token.said)


def _choice(page: Page, place: int, words: str, classes: str, here: bool) -> ui.label:
    made = ui.label(words).classes(f"{classes} {'here' if here else ''}").mark(f"token-{place}")
    made.props(f"role=radio tabindex=0 aria-checked={'true' if here else 'false'}")
    act = partial(page.choose_token, place)
    made.on("click", act, []).on("keydown.enter", act, [])
    return made


def _says(value: object, tokens: Sequence[Token]) -> bool:
    """Whether a column holds what the tokens read."""
    return "".join(str(value).split()) == "".join("".join(each.text for each in tokens).split())
