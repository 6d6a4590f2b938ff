"""The right side of a page: a query with what helped and harmed it, or all that is known of a training example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nicegui import ui

from upweight.explore import examples as shown
from upweight.explore import reading, view
from upweight.explore.examples import Examples
from upweight.explore.reading import content, query_tokens
from upweight.report.numbers import readable
from upweight.report.tokens import Token

if TYPE_CHECKING:
    from upweight.explore.page import Page

NEAREST = 6
EFFECTS = 6


def query_panel(page: Page) -> None:
    """The chosen query, and its evidence."""
    session, contents = page.session, page.session.contents
    queries, train = contents.display.queries, contents.display.train
    if session.query is None:
        first = "those" if queries.answer == shown.VALUE else "the wrong ones"
        ui.label(f"Choose a query of the list: {first} of highest loss come first.").classes("hint")
        return
    with ui.row().classes("items-start gap-3 w-full no-wrap"):
        picture(page, "queries", session.query, large=True)
        with ui.column().classes("gap-1 min-w-0"):
            ui.label(f"Query {queries.caption(session.query)}").classes("strong")
            _said(queries, session.query, contents.display.unit)
    found = contents.coloured(session.query)
    block = None if found is None else found.block()
    if block is not None:
        query_tokens(page, block)
    content(queries, session.query, drawn=() if block is None else block.query)
    if session.example is not None:
        with ui.element("div").classes("note"):
            words = (
                f"Training {contents.display.noun} {train.caption(session.example)}{_answer(train, session.example)}"
            )
            with ui.row().classes("items-center gap-2"):
                ui.label(words).classes("strong").mark("chosen")
                ui.button("look closer", on_click=page.closer).props("dense flat no-caps").mark("closer")
            decide_row(page, session.example)
    else:
        ui.label("j and k lead along the examples below; 1 keeps one, 2 relabels it, 3 excludes it, u undoes.").classes("hint")  # noqa: E501  # fmt: skip
    standing, texts, apart = contents.decisions.standing(), {}, {}
    if found is not None and block is not None:
        apart = {each.position: [each.apart] * bool(each.apart) for each in found.examples}
        texts = {each.position: tokens for each, (_, tokens) in zip(found.examples, block.texts, strict=True)}
    for side in contents.sides:
        ui.label(f"Most {side} training examples" if side in ("helpful", "harmful") else f"{side.capitalize()} scores").classes("strong")  # noqa: E501  # fmt: skip
        with _cards(train):
            for each in [each for each in session.evidence if each.side == side]:
                card(
                    page, each.position, [contents.sentence(each), *apart.get(each.position, [])], side=each.side,
                    beside=(queries, session.query), tokens=texts.get(each.position, ()),
                    decision=view.said(standing[each.position]) if each.position in standing else "",
                )  # fmt: skip


def example_panel(page: Page) -> None:
    """The chosen training example: label, self-influence, what it helps and harms, its nearest; and the decision."""
    session, contents = page.session, page.session.contents
    position = session.example
    if position is None:
        ui.label("Choose a training example: by a click, or with j and k.").classes("hint")
        return
    train = contents.display.train
    with ui.row().classes("items-start gap-3 w-full no-wrap"):
        picture(page, "train", position, large=True)
        with ui.column().classes("gap-1 min-w-0"):
            ui.label(f"Training {contents.display.noun} {train.caption(position)}").classes("strong")
            _said(train, position, contents.display.unit)
            _numbers(page, position)
    content(train, position)
    decide_row(page, position)
    _against(page, position)
    effects = contents.effects(position, EFFECTS)
    for side, words in zip(contents.sides, ("It helps these queries", "It harms these queries"), strict=True):
        some = [each for each in effects if each.side == side]
        if some:
            ui.label(words if contents.stored.quantity.helpful_sign else f"Queries of its {side} scores").classes("strong")  # noqa: E501  # fmt: skip
            with _cards(contents.display.queries):
                for each in some:
                    query_card(page, each.position, f"{each.score:+.3g} {contents.stored.quantity.unit}", side)
    nearest = contents.nearest(position, NEAREST)
    if nearest:
        ui.label("Nearest by their gradients").classes("strong")
        with _cards(train):
            for other, cosine in nearest:
                card(page, other, [f"cosine {cosine:.3f}"], beside=(train, position))
    elif not contents.has_neighbours:
        ui.label("No nearest examples: this store has no index of gradients.").classes("hint")


def _against(page: Page, position: int) -> None:
    """What speaks for and against the label of an example that was asked about itself."""
    contents = page.session.contents
    query = contents.asked_about(position)
    if query is None:
        return
    train, found = contents.display.train, contents.evidence(query, EFFECTS + 1)
    for side, words in zip(reversed(contents.sides), (f"These speak against its {train.answer}", "These agree with it"), strict=True):  # noqa: E501  # fmt: skip
        ui.label(words).classes("strong")
        with _cards(train):
            some = [each for each in found if each.side == side and each.position != position]
            for each in some[:EFFECTS]:
                card(page, each.position, [contents.sentence(each)], side=side, beside=(train, position))


def decide_row(page: Page, position: int) -> None:
    """What was decided, and buttons for it."""
    contents = page.session.contents
    train = contents.display.train
    standing = contents.decisions.standing().get(position)
    words = "not decided" if standing is None else f"{view.said(standing)} ({standing.who}, {standing.when[:16]})"
    with ui.row().classes("items-center gap-2 w-full"):
        ui.label(words).classes("badge decision").mark("decision")
        ui.button("1 keep", on_click=lambda: page.decide("keep")).props("dense outline no-caps").mark("keep")
        if train.has_answers:
            suggestion, words = train.suggestion(position), "2 relabel"
            chooser: Any
            if train.answer == shown.VALUE:
                words = "2 set value"
                chooser = ui.input(value=suggestion or "", label="to").props("dense inputmode=decimal").classes("w-28")
            else:
                classes = train.classes(contents.display.class_names)
                chooser = ui.select(classes, value=suggestion, label="as").props("dense options-dense").classes("w-28")
            chooser.mark("label")
            ui.button(words, on_click=lambda: page.decide("relabel", chooser.value)).props("dense outline no-caps").mark("relabel")  # noqa: E501  # fmt: skip
        ui.button("3 exclude", on_click=lambda: page.decide("exclude")).props("dense outline no-caps").mark("exclude")
        ui.button("u undo", on_click=page.undo).props("dense flat no-caps").mark("undo")


def card(
    page: Page,
    position: int,
    lines: Sequence[str],
    *,
    side: str = "",
    beside: tuple[Examples, int] | None = None,
    tokens: Sequence[Token] = (),
    decision: str = "",
) -> None:
    """A training example among others; a click leads to it."""
    train = page.session.contents.display.train
    here = "here" if position == page.session.example else ""
    with _clickable(f"example {side} {here}", lambda: page.look(position)).mark(f"train-{position}"):
        picture(page, "train", position)
        ui.label(f"{train.caption(position)}{_answer(train, position)}").classes("strong")
        for line in lines:
            ui.label(line)
        if decision:
            ui.label(decision).classes("badge")
        if tokens:
            reading.text(tokens, position, page.session.token)
        content(train, position, beside, tokens)


def query_card(page: Page, position: int, line: str, side: str = "") -> None:
    """A query among others; a click leads to it."""
    queries = page.session.contents.display.queries
    with _clickable(f"example {side}", lambda: page.ask(position)).mark(f"query-{position}"):
        picture(page, "queries", position)
        given, said = queries.shown(queries.answer, position), queries.shown(shown.PREDICTION, position)
        words = "" if given is None or said in (None, given) else f", predicted {said}"
        ui.label(f"{queries.caption(position)}{_answer(queries, position)}{words}").classes("strong")
        ui.label(line)
        content(queries, position)


def picture(page: Page, side: str, position: int, *, large: bool = False) -> None:
    """An example's image, where there is one."""
    contents = page.session.contents
    examples = contents.display.train if side == "train" else contents.display.queries
    if examples.pictures is None:
        return
    answer = _answer(examples, position)
    words = f"{'training image' if side == 'train' else 'query'} {examples.caption(position)}"
    image = ui.element("img").classes("picture large" if large else "picture")
    image.props["src"] = f"picture/{side}/{position}"
    image.props["alt"] = f"{words}{answer}"
    image.props["loading"] = "lazy"


def _said(examples: Examples, position: int, unit: str) -> None:
    """Label or value, prediction, how far apart they are, and loss."""
    given, said = examples.shown(examples.answer, position), examples.shown(shown.PREDICTION, position)
    if given is not None:
        ui.label(f"{examples.answer}: {given}")
    if said is not None:
        wrong = examples.fact(shown.WRONG, position)
        ui.label(f"prediction: {said}{' (wrong)' if wrong else ''}").classes("badge wrong" if wrong else "")
    residual = examples.shown(shown.RESIDUAL, position)
    if residual is not None:
        ui.label(f"residual: {residual}, the value less the prediction")
    loss = examples.fact(shown.LOSS, position)
    if loss is not None:
        ui.label(f"loss: {readable(loss, 3)} {unit}")


def _numbers(page: Page, position: int) -> None:
    """Suggested label or value, suspicion and self-influence in words."""
    contents = page.session.contents
    train, unit = contents.display.train, contents.display.unit
    suggested, given = train.shown(shown.SUGGESTED, position), train.shown(train.answer, position)
    if suggested is not None:
        ui.label(f"without it the model gives the same {train.answer}" if suggested == given else f"without it the model says {suggested}")  # noqa: E501  # fmt: skip
    suspicion = train.fact(shown.SUSPICION, position)
    if suspicion is not None:
        words = ui.label(f"suspicion of its {train.answer}: {readable(suspicion, 3)} {unit}")
        with words:
            ui.tooltip(contents.display.suspicion)
    own = train.fact(shown.SELF, position)
    if own is not None:
        ui.label(f"self-influence: without it its own loss would {'rise' if own >= 0 else 'fall'} by {readable(abs(own), 3)} {unit}")  # noqa: E501  # fmt: skip


def _answer(examples: Examples, position: int) -> str:
    """An example's label or value, behind its name."""
    given = examples.shown(examples.answer, position)
    return "" if given is None else f": {given}"


def _cards(examples: Examples) -> Any:
    return ui.element("div").classes("cards wide" if examples.own else "cards")


def _clickable(classes: str, act: Callable[[], Any]) -> Any:
    found = ui.element("div").classes(classes)
    found.props["tabindex"], found.props["role"] = "0", "button"
    return found.on("click", act, []).on("keydown.enter", act, [])
