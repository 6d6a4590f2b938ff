"""The tabs of a page that are about work done: what was decided, and what the model gains by it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from nicegui import ui

from upweight.explore.cleaned import Cleaned
from upweight.explore.decisions import UNDO
from upweight.explore.view import said

if TYPE_CHECKING:
    from upweight.explore.page import Page

POINTS = 400
"""Examples of a filtered list that are ringed on the map."""
LISTED = 500
"""Decisions that are listed; all are in the file."""
KEPT = "decisions are kept"


def decisions(page: Page) -> None:
    """All decisions, the last first."""
    contents = page.session.contents
    every = contents.decisions.read()
    undone = {each.undoes for each in every if each.what == UNDO}
    with ui.element("div").classes("list"):
        if not every:
            ui.label("Nothing is decided yet: choose an example, then 1 keep, 2 relabel, 3 exclude.").classes("hint")
            return
        with ui.row().classes("items-center gap-2"):
            ui.button("u undo", on_click=page.undo).props("dense outline no-caps").mark("undo-last")
            ui.link("all as a table (.csv)", "decisions.csv")
        rows = [
            {
                "id": each.id,
                "what": f"undone: {each.old} → {each.new}" if each.what == UNDO else said(each),
                "stands": "" if each.what == UNDO else "taken back" if each.key in undone else "yes",
                "who": each.who,
                "when": each.when,
                "key": each.key,
            }
            for each in reversed(every[-LISTED:])
        ]
        names = ("id", "what", "stands", "who", "when")
        columns = [{"name": name, "label": name, "field": name, "align": "left", "sortable": True} for name in names]
        ui.table(rows=rows, columns=columns, row_key="key", pagination=50).props("dense flat").classes("w-full").mark("decisions")  # noqa: E501  # fmt: skip
        if len(every) > LISTED:
            ui.label(f"The last {LISTED} of {len(every):,}.").classes("hint")


def cleaning(page: Page) -> None:
    """How to apply the decisions, and what the last time brought."""
    contents = page.session.contents
    standing = contents.decisions.standing()
    counts = {what: sum(each.what == what for each in standing.values()) for what in ("relabel", "exclude", "keep")}
    with ui.element("div").classes("list"):
        ui.label(f"{counts['relabel']:,} to relabel, {counts['exclude']:,} to exclude, {counts['keep']:,} kept.")
        origin = contents.display.origin
        path = None if origin is None else origin.path
        ui.label(
            "Cleaning writes a copy of the data with these decisions, trains the model on it again, and compares both "
            "on held-out examples. The data and the store stay as they are."
        ).classes("hint")
        place = shlex.quote(str(contents.place))
        command = f"upweight clean {place} --output {place}-cleaned"
        if path is not None:
            ui.label(f"It runs {path}.").classes("hint")
        ui.label(command).classes("badge")
        if path is not None:
            button = ui.button("apply, retrain and compare").props("no-caps").mark("clean")
            button.on_click(lambda: _clean(page, button))
            if not counts["relabel"] + counts["exclude"]:
                button.disable()
        found = Cleaned.of(contents.place)
        if found is not None:
            _compared(found)


def _compared(found: Cleaned) -> None:
    """The last comparison."""
    when = found.when[:16].replace("T", " ")
    ui.label(f"Cleaned {when} UTC: {found.changes}").classes("strong").mark("cleaned")
    ui.label(found.verdict).classes("note").mark("verdict")
    if found.figures:
        columns = [{"name": name, "label": name, "field": name, "align": "left"} for name in ("held out", "before", "after", "change", "95 % interval of the change")]  # noqa: E501  # fmt: skip
        rows = [dict(zip((each["name"] for each in columns), each.words, strict=True)) for each in found.figures]
        ui.table(rows=rows, columns=columns).props("dense flat").classes("w-full")
    for words in found.notes:
        ui.label(words).classes("hint")
    for name, path in found.files.items():
        ui.label(f"{name}: {path}").classes("hint")


async def _clean(page: Page, button: Any) -> None:
    """Run the command in a process of its own: what it holds is gone with it, and the page goes on meanwhile."""
    button.props("loading")
    button.disable()
    place = str(page.session.contents.place)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "upweight", "clean", place, "--json", "--output", f"{place}-cleaned",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        answer = _answer(out, err)
        if answer.get("error"):
            ui.notify(_failed(answer["error"]["message"]), type="negative", multi_line=True, timeout=0, close_button="close")  # noqa: E501  # fmt: skip
        else:
            ui.notify("cleaned")
    finally:
        with contextlib.suppress(RuntimeError):  # the window was closed meanwhile
            button.props(remove="loading")
            page.cleaning_view.refresh()


def _failed(why: str) -> str:
    """What a page says of it; that nothing is lost, once."""
    return f"cleaning failed: {why.rstrip('.')}{'' if KEPT in why else f'; the {KEPT}'}."


def _answer(out: bytes, err: bytes) -> dict[str, Any]:
    try:
        found = json.loads(out)
    except ValueError:
        return {"error": {"message": err.decode(errors="replace")[-500:] or "the command said nothing"}}
    return dict(found)
