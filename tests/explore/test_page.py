"""The page with a simulated user: no browser is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from nicegui.testing import User, user_simulation

import explored
from upweight.explore import Contents, keep, work
from upweight.explore.page import OPEN, Page

Flow = Callable[[User, Page], Coroutine[Any, Any, None]]


def visited(place: Path, flow: Flow) -> Contents:
    """What a user did on the page; a store of its own reads what is left."""
    pages: list[Page] = []

    def root() -> None:
        pages.append(Page(Contents(place), "me"))
        pages[-1].build()

    async def play() -> None:
        async with user_simulation(root) as user:
            await user.open("/")
            await flow(user, pages[-1])

    asyncio.run(play())
    return Contents(place)


def press(user: User, marker: str) -> None:
    """The button of one of the views, which all show the same example: a browser shows one of them."""
    found = user.find(marker=marker)
    found.elements = {min(found.elements, key=lambda each: each.id)}
    found.click()


def test_a_query_its_evidence_and_decisions(place: Path) -> None:
    async def flow(user: User, page: Page) -> None:
        await user.should_see("upweight · <i>title</i>")
        await user.should_see("36 training examples · 7 queries")
        page.ask(2)
        await user.should_see("Query 2")
        await user.should_see("Most harmful training examples")
        first = page.session.evidence[0].position
        user.find(marker=f"train-{first}").click()
        await user.should_see(f"Training example {first}: ")
        await user.should_see("not decided")
        press(user, "exclude")
        await user.should_see("exclude (me")
        press(user, "undo")
        await user.should_see("not decided")

    after = visited(place, flow)
    assert [each.what for each in after.decisions.read()] == ["exclude", "undo"]
    assert after.decisions.standing() == {}


def test_an_example_is_looked_at_and_relabelled(place: Path) -> None:
    async def flow(user: User, page: Page) -> None:
        page.tabs.set_value("training")
        page.choose(5)
        await user.should_see("Training example 5")
        await user.should_see("without it the model says")
        await user.should_see("self-influence: without it its own loss would rise by")
        await user.should_see("It helps these queries")
        await user.should_see("Nearest by their gradients")
        press(user, "relabel")
        assert page.session.contents.decisions.standing()[5].what == "relabel"

    assert visited(place, flow).decisions.standing()[5].who == "me"


def test_a_value_is_looked_at_and_set(tmp_path: Path) -> None:
    keep(explored.wrong_numbers(), tmp_path / "numbers")

    async def flow(user: User, page: Page) -> None:
        page.choose(explored.WRONG_NUMBER)
        await user.should_see("value: 9.25")
        await user.should_see("the value less the prediction")
        await user.should_see("without it the model says ")
        await user.should_see("These speak against its value")
        await user.should_see("2 set value")
        press(user, "relabel")
        train = page.session.contents.display.train
        made = page.session.contents.decisions.standing()[explored.WRONG_NUMBER]
        assert (made.old, made.new) == ("9.25", train.suggestion(explored.WRONG_NUMBER))
        page.decide("relabel", "a lot")
        await user.should_see("'a lot' is no value of a quantity")

    assert visited(tmp_path / "numbers", flow).decisions.standing()[explored.WRONG_NUMBER].who == "me"


def test_what_cannot_be_done_is_said(place: Path) -> None:
    async def flow(user: User, page: Page) -> None:
        page.decide("keep")
        await user.should_see("choose a training example first")
        page.undo()
        await user.should_see("nothing to undo")

    assert visited(place, flow).decisions.read() == []


def test_decisions_of_another_page_are_shown(place: Path) -> None:
    async def flow(user: User, page: Page) -> None:
        Contents(place).decisions.decide(3, "exclude", id="3", old="ant", who="you")
        page.look_around()
        await user.should_see("1 decision")
        page.tabs.set_value("decisions")
        await user.should_see(marker="decisions")
        page.tabs.set_value("cleaning")
        await user.should_see("0 to relabel, 1 to exclude, 0 kept.")

    visited(place, flow)


def test_a_bare_store_says_what_it_lacks(tmp_path: Path) -> None:
    import upweight as uw

    one = explored.problem()
    uw.Influence(one.objective).attribute(one.queries, store=tmp_path / "bare")

    async def flow(user: User, page: Page) -> None:
        await user.should_see("positions are shown")
        page.ask(0)
        await user.should_see("Query 0")
        page.choose(1)
        await user.should_see("Training example 1")

    visited(tmp_path / "bare", flow)


def test_a_page_that_was_closed_is_forgotten(place: Path) -> None:
    async def flow(user: User, page: Page) -> None:
        assert OPEN[page.key] is page

    visited(place, flow)


def test_that_decisions_are_kept_is_said_once() -> None:
    for why in ("no luck", "no luck.", "no luck; the decisions are kept, and the cleaned data are in a.csv"):
        said = work._failed(why)
        assert said.startswith("cleaning failed: no luck")
        assert said.count("decisions are kept") == 1
        assert said.endswith(".")
        assert not said.endswith("..")
