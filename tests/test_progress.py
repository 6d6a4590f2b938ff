"""One progress bar at a time, and none where nobody looks."""

import io
import weakref
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.progress import Progress

from upweight import progress


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Descriptions of the bars that are drawn, on a screen that is there."""
    drawn: list[str] = []

    class Counted(Progress):
        def add_task(self, description, **options):
            drawn.append(description)
            return super().add_task(description, **options)

    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=io.StringIO(), force_terminal=True))
    monkeypatch.setattr(progress, "Progress", Counted)
    return drawn


def test_work_within_work_draws_no_bar_of_its_own(bars: list[str]) -> None:
    seen = [(i, list(progress.track("ab", "inner"))) for i in progress.track(range(2), "outer")]
    assert seen == [(0, ["a", "b"]), (1, ["a", "b"])]
    assert bars == ["outer"]
    assert list(progress.track([1], "after")) == [1]
    assert bars == ["outer", "after"]


def test_an_item_is_let_go_before_the_next_is_made(bars: list[str]) -> None:
    class Item:
        pass

    made: list[weakref.ref[Item]] = []

    def items() -> Iterator[Item]:
        for _ in range(3):
            assert all(each() is None for each in made)
            item = Item()
            made.append(weakref.ref(item))
            yield item
            del item

    for item in progress.track(items(), "drawn"):
        assert item is not None
        del item
    assert len(made) == 3


def test_a_bar_that_is_left_early_makes_way(bars: list[str]) -> None:
    walk = progress.track(range(5), "first")
    next(walk)
    walk.close()
    list(progress.track([1], "second"))
    assert bars == ["first", "second"]


def test_the_total_is_the_length_of_what_has_one_unless_it_is_given(
    bars: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    totals: list[float | None] = []

    class Watched(Progress):
        def add_task(self, *arguments, total=None, **options):
            totals.append(total)
            return super().add_task(*arguments, total=total, **options)

    monkeypatch.setattr(progress, "Progress", Watched)
    for items, total in (("abc", None), (iter("abc"), 3), ("abc", 10), (iter("abc"), None)):
        assert list(progress.track(items, "counted", total)) == ["a", "b", "c"]
    assert totals[:3] == [3, 3, 10]


def test_nothing_of_a_bar_is_left_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=screen, force_terminal=True))
    list(progress.track(range(3), "words"))
    shown = screen.getvalue()
    assert "words" in shown
    assert shown.rfind("\x1b[2K") > shown.rfind("words")  # the line is erased after it was last drawn


def test_nothing_is_drawn_without_a_screen(bars: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=io.StringIO()))
    assert list(progress.track([1, 2], "unseen")) == [1, 2]
    assert bars == []
