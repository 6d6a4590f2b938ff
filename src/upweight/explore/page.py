"""The page: lists on the left, a query or an example on the right, a map, decisions, what cleaning has brought."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from nicegui import ui

from upweight.errors import InputError
from upweight.explore import lists, markup, panels, work
from upweight.explore.contents import Contents
from upweight.explore.decisions import What
from upweight.explore.session import Session
from upweight.files import NotWrittenError

KEYS = "j k: next and previous example · n p: query · 1 keep · 2 relabel · 3 exclude · u undo"
POLL = 2.0
"""Seconds after which decisions of other pages are looked for."""
OPEN: WeakValueDictionary[str, Page] = WeakValueDictionary()
"""Pages that are open, by their keys."""


class Page:
    """What one browser window shows.

    Parameters
    ----------
    contents
        Of the store.
    who
        Whose decisions they are.
    """

    def __init__(self, contents: Contents, who: str):
        self.key = secrets.token_urlsafe(16)
        self.session = Session(contents, who)
        self.seen = len(contents.decisions.read())
        OPEN[self.key] = self

    def build(self) -> None:
        """Put it together in the window that asks for it."""
        contents = self.session.contents
        ui.add_css((Path(__file__).parent / "style.css").read_text(encoding="utf-8"))
        self.dark = ui.dark_mode(None)
        ui.keyboard(self.pressed, repeating=True)
        ui.timer(POLL, self.look_around)
        self._bar()
        has_queries = len(contents.display.queries) > 0
        with ui.tabs(on_change=self._turned).props("dense no-caps align=left") as self.tabs:
            if has_queries:
                ui.tab("queries", f"Queries ({len(contents.display.queries):,})")
            ui.tab("training", f"Training {contents.display.noun}s ({len(contents.display.train):,})")
            if contents.display.train.on_map:
                ui.tab("map", "Map")
            ui.tab("decisions", "Decisions")
            ui.tab("cleaning", "Cleaning")
        with (
            ui.tab_panels(self.tabs, value="queries" if has_queries else "training")
            .props("keep-alive")
            .classes("w-full bg-transparent")
        ):
            if has_queries:
                with ui.tab_panel("queries"), _pane():
                    with ui.element("div").classes("list"):
                        self.queries = lists.grid(self.key, "queries", contents.query_table, self.ask)
                    with ui.element("div").classes("detail"):
                        self.query_view()
            with ui.tab_panel("training"), _pane():
                with ui.element("div").classes("list"):
                    self.train = lists.grid(self.key, "train", contents.train_table(), self.choose)
                with ui.element("div").classes("detail"):
                    self.example_view()
            if contents.display.train.on_map:
                with ui.tab_panel("map"), _pane():
                    with ui.element("div").classes("list"):
                        self._map()
                    with ui.element("div").classes("detail"):
                        self.example_view()
            with ui.tab_panel("decisions"), _pane():
                self.decisions_view()
            with ui.tab_panel("cleaning"), _pane():
                self.cleaning_view()

    def _bar(self) -> None:
        contents = self.session.contents
        with ui.row().classes("bar items-center w-full"):
            ui.label(f"upweight · {contents.display.title}").classes("title")
            self.facts = ui.label(self._facts()).classes("facts")
            ui.space()
            ui.label(KEYS).classes("facts keys")
            self.search = ui.input(placeholder="search", on_change=self._search).props(f"dense clearable debounce={lists.WAIT}").classes("w-40").mark("search")  # noqa: E501  # fmt: skip
            ui.button(icon="contrast", on_click=self._shade).props("flat dense round aria-label='dark or light'")
        with ui.element("details").classes("hint px-3 w-full"):
            with ui.element("summary"):
                ui.label("What the numbers mean").classes("inline")
            ui.label(contents.meaning())
            if contents.display.suspicion:
                ui.label(f"suspicion: {contents.display.suspicion}.")
            ui.label(f"Keys: {KEYS}.")
        for words in self._notes():
            ui.label(words).classes("note mx-3")

    def _notes(self) -> list[str]:
        contents, found = self.session.contents, []
        if contents.is_bare:
            found.append(
                "This store holds scores, ids and columns alone: positions are shown. Labels, predictions, losses and "
                f"pictures are added by: upweight explore STUDY.py --store {contents.place}"
            )
        return found

    def _facts(self) -> str:
        return " · ".join(self.session.contents.counted())

    @ui.refreshable_method
    def query_view(self) -> None:
        """The right side of the queries."""
        panels.query_panel(self)

    @ui.refreshable_method
    def example_view(self) -> None:
        """The right side of the training examples."""
        panels.example_panel(self)

    @ui.refreshable_method
    def decisions_view(self) -> None:
        """All that was decided."""
        work.decisions(self)

    @ui.refreshable_method
    def cleaning_view(self) -> None:
        """What cleaning has brought, and how to clean."""
        work.cleaning(self)

    def ask(self, query: int) -> None:
        """Look at a query."""
        with self._told():
            self.session.ask(query)
            self.tabs.set_value("queries")
            self._renew()

    def choose(self, position: int) -> None:
        """Look at a training example of the list; j and k lead along it."""
        with self._told():
            self.session.look(position, self.session.order.get("train", self.session.contents.train_order).tolist())
            self._renew()

    def look(self, position: int) -> None:
        """Look at a training example, among those that j and k lead along if it is one of them."""
        with self._told():
            self.session.look(position)
            self._renew()

    def choose_token(self, place: int) -> None:
        """Show what speaks for one token of the query (from 1 on), or for all of them (0)."""
        self.session.token = place
        self.query_view.refresh()

    def closer(self) -> None:
        """Look at the example among all training examples."""
        self.tabs.set_value("training")
        self._renew()

    def decide(self, what: What, new: str | None = None) -> None:
        """Decide about the example that is looked at."""
        with self._told():
            made = self.session.decide(what, new)
            ui.notify(f"{made.id}: {'relabelled ' + made.old + ' → ' + made.new if what == 'relabel' else what}")
            self._decided()

    def undo(self) -> None:
        """Take back the last decision of this person's."""
        with self._told():
            made = self.session.undo()
            ui.notify("nothing to undo" if made is None else f"{made.id}: undone")
            self._decided()

    def pressed(self, event: Any) -> None:
        """A key of `KEYS`."""
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt:
            return
        acts: dict[str, Callable[[], Any]] = {
            "j": lambda: self._moved(self.session.move(1, listed=self.tabs.value == "training")),
            "k": lambda: self._moved(self.session.move(-1, listed=self.tabs.value == "training")),
            "n": lambda: self._asked(self.session.next_query(1)),
            "p": lambda: self._asked(self.session.next_query(-1)),
            "1": lambda: self.decide("keep"),
            "2": lambda: self.decide("relabel"),
            "3": lambda: self.decide("exclude"),
            "u": self.undo,
        }
        act = acts.get(event.key.name)
        if act is not None and not (event.action.repeat and event.key.name in "123u"):
            with self._told():
                act()

    def look_around(self) -> None:
        """Show what other pages have decided meanwhile."""
        with self._told():
            if len(self.session.contents.decisions.read()) != self.seen:
                self._decided()

    def _moved(self, position: int | None) -> None:
        if position is not None:
            self._renew()
            order = self.session.order.get("train")
            if order is not None and self.tabs.value == "training":
                at = (order == position).nonzero()[0]
                lists.show(self.train, position, int(at[0]) if len(at) else None)

    def _asked(self, query: int | None) -> None:
        if query is not None:
            self.tabs.set_value("queries")
            self._renew()
            at = (self.session.order.get("queries", self.session.contents.query_order) == query).nonzero()[0]
            lists.show(self.queries, query, int(at[0]) if len(at) else None)

    def _decided(self) -> None:
        self.seen = len(self.session.contents.decisions.read())
        lists.renew(self.train)
        self.decisions_view.refresh()
        self.cleaning_view.refresh()
        self.facts.set_text(self._facts())
        self._renew()

    def _renew(self) -> None:
        if len(self.session.contents.display.queries):
            self.query_view.refresh()
        self.example_view.refresh()
        if hasattr(self, "image"):
            self.image.set_content(str(self._points()))

    def _turned(self) -> None:
        if hasattr(self, "image") and self.tabs.value == "map":
            self.image.set_content(str(self._points()))

    def _search(self, event: Any) -> None:
        self.session.search = event.value or ""
        for made in (getattr(self, "queries", None), self.train):
            if made is not None:
                lists.restart(made)

    def _shade(self) -> None:
        if self.dark.value is None:  # as the system has it: only the browser knows
            ui.run_javascript("Quasar.Dark.toggle()")
        else:
            self.dark.value = not self.dark.value

    def _map(self) -> None:
        train = self.session.contents.display.train
        ui.label("Every training example by the direction of its gradient: two that lie together pull the model alike. A click chooses the nearest.").classes("hint")  # noqa: E501  # fmt: skip
        self.image = ui.interactive_image("map.png", on_mouse=self._hit, events=["click"]).classes("map")
        self.image.props["alt"] = f"map of {len(train):,} training examples"
        ui.label("Rings: the example looked at, and those that helped (blue) and harmed (red) the query; grey: the training list as it is filtered.").classes("hint")  # noqa: E501  # fmt: skip

    def _hit(self, event: Any) -> None:
        found = self.session.contents.map.at(event.image_x, event.image_y)
        if found is not None:
            self.look(found)

    def _points(self) -> Any:
        session = self.session
        places = session.contents.map.places
        points: list[tuple[float, float, str, float]] = []
        order = session.order.get("train")
        if order is not None and len(order) < len(places):
            points += [(*places[each], "shown", 4.0) for each in order[: work.POINTS].tolist()]
        points += [(*places[each.position], each.side, 7.0) for each in session.evidence]
        if session.example is not None:
            points.append((*places[session.example], "here", 11.0))
        return markup.circles(points)

    @contextlib.contextmanager
    def _told(self) -> Any:
        """What can't be done is said on the page."""
        try:
            yield
        except (InputError, NotWrittenError) as error:
            ui.notify(str(error), type="warning", multi_line=True)


def _pane() -> ui.element:
    return ui.element("div").classes("pane")
