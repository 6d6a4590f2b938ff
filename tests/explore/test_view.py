"""Rows, their order and their filters, against pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import explored
from upweight.errors import InputError
from upweight.explore import Examples, view
from upweight.explore.decisions import Decision
from upweight.explore.examples import plain


@pytest.fixture(scope="module")
def examples() -> Examples:
    random = np.random.default_rng(0)
    facts = {"label": np.array(["b", "a", "c"] * 20), "loss": random.normal(size=60).round(1)}
    own = {"age": np.where(random.random(60) < 0.2, np.nan, random.integers(0, 9, 60)), "name": np.array([f"Name {k}" for k in range(60)], dtype=object)}  # noqa: E501  # fmt: skip
    return Examples(np.array([f"id-{k}" for k in range(60)]), facts, own)


@pytest.fixture(scope="module")
def frame(examples: Examples) -> pd.DataFrame:
    return pd.DataFrame({"id": examples.ids, **examples.facts, **examples.own})


def both(operator: str, *conditions: Any) -> dict[str, Any]:
    return {"operator": operator, "conditions": list(conditions)}


def key(columns: list[view.Column], name: str) -> str:
    return next(column.key for column in columns if column.name == name)


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("names", [["loss"], ["age"], ["label", "age"], ["name"]])
def test_sorted_as_pandas_sorts_with_gaps_last(
    examples: Examples, frame: pd.DataFrame, names: list[str], direction: str
) -> None:
    columns = view.table(examples)
    sort = [{"colId": key(columns, name), "sort": direction} for name in names]
    expected = frame.sort_values(names, ascending=direction == "asc", kind="stable", key=lambda c: c.str.lower() if c.dtype == object else c)  # noqa: E501  # fmt: skip
    assert view.rows(columns, sort=sort).tolist() == expected.index.tolist()


@pytest.mark.parametrize(
    ("name", "condition", "query"),
    [
        ("loss", {"type": "greaterThan", "filter": 0.5}, "loss > 0.5"),
        ("loss", {"type": "inRange", "filter": -0.5, "filterTo": 0.5}, "-0.5 <= loss <= 0.5"),
        (
            "loss",
            both("OR", {"type": "lessThan", "filter": -1}, {"type": "greaterThanOrEqual", "filter": 1}),
            "loss < -1 or loss >= 1",
        ),
        ("age", {"type": "blank"}, "age != age"),
        ("age", {"type": "notBlank"}, "age == age"),
        ("age", {"type": "equals", "filter": 3}, "age == 3"),
        ("label", {"type": "equals", "filter": "B"}, "label == 'b'"),
        (
            "label",
            both("AND", {"type": "notEqual", "filter": "a"}, {"type": "notContains", "filter": "b"}),
            "label == 'c'",
        ),
        ("name", {"type": "endsWith", "filter": "7"}, "name.str.endswith('7')"),
        ("name", {"type": "startsWith", "filter": "name 1"}, "name.str.startswith('Name 1')"),
        ("name", {"type": "contains", "filter": "E 2"}, "name.str.contains('e 2')"),
    ],
)  # fmt: skip
def test_filtered_as_pandas_filters(
    examples: Examples, frame: pd.DataFrame, name: str, condition: Any, query: str
) -> None:
    columns = view.table(examples)
    found = view.rows(columns, filters={key(columns, name): condition})
    assert found.tolist() == frame.query(query, engine="python").index.tolist()
    assert 0 < len(found) < 60


def test_every_word_that_is_searched_for_stands_somewhere_in_a_row(examples: Examples) -> None:
    columns = view.table(examples)
    assert view.rows(columns, search="NAME 7").tolist() == [7, 17, 27, 37, 47, 57]
    assert view.rows(columns, search="id-17 name").tolist() == [17]
    assert view.rows(columns, search="nowhere").tolist() == []


def test_without_an_order_the_given_one_holds_and_equals_keep_it(examples: Examples) -> None:
    columns, first = view.table(examples), np.arange(60)[::-1]
    assert view.rows(columns, first=first).tolist() == first.tolist()
    by_label = view.rows(columns, first=first, sort=[{"colId": key(columns, "label"), "sort": "asc"}])
    assert by_label[:3].tolist() == [58, 55, 52]


@pytest.mark.parametrize(
    "asked",
    [
        {"filters": {"c99": {"type": "blank"}}},
        {"filters": {"c3": {"type": "equals", "filter": "x"}}},
        {"filters": {"c2": {"type": "nothing"}}},
        {"filters": {"c2": 3}},
        {"sort": [{"colId": "c99", "sort": "asc"}]},
    ],
)
def test_what_cannot_be_read_is_refused(examples: Examples, asked: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        view.rows(view.table(examples), **asked)


def test_wrong_queries_of_highest_loss_come_first() -> None:
    facts = {"loss": np.array([1.0, 3.0, 2.0, 0.5]), "wrong": np.array([True, False, True, True])}
    assert view.wrong_first(Examples(np.arange(4), facts)).tolist() == [2, 0, 3, 1]
    assert view.wrong_first(Examples(np.arange(4))).tolist() == [0, 1, 2, 3]


def test_a_table_shows_decisions_and_cells_of_every_kind() -> None:
    decision = Decision("k", "s", "2", 2, "relabel", "ant", "bee", "me", "now")
    examples = Examples(np.arange(4), {"label": np.array(["ant"] * 4)}, explored.columns(4))
    columns = view.table(examples, {2: decision})
    assert [column.name for column in columns] == ["id", "decision", "label", "age", "city", "words", "<b>bold</b>"]
    row = view.cells(columns, np.array([2, 3]))
    assert row[0] == {
        "at": 2, "c0": 2, "c1": "relabel ant → bee", "c2": "ant", "c3": 1.0, "c4": explored.MARK,
        "c5": f"row 2 {explored.MARK}", "c6": False,
    }  # fmt: skip
    assert row[1]["c3"] is None


def test_long_cells_are_cut_and_names_beside_positions_shown() -> None:
    examples = Examples(np.array(["a", "b"]), {}, {"id": np.array(["x" * 500, "y"])})
    columns = view.table(examples)
    assert [column.name for column in columns] == ["id", "position", "id (column)"]
    assert len(view.cells(columns, np.array([0]))[0]["c2"]) == view.MOST_TEXT


def test_differing_cells() -> None:
    assert view.differing({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3, "c": None, "d": 4}) == {"b"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.datetime64("2020-04-22T00:00:00.000000"), "2020-04-22"),
        (np.datetime64("2020-04-22", "D"), "2020-04-22"),
        (np.datetime64("2020-04-22T10:30:00.000000"), "2020-04-22 10:30:00"),
        (np.datetime64("2020-04-22T10:30:00.250000"), "2020-04-22 10:30:00.25"),
        (np.datetime64("NaT"), None),
        (np.timedelta64(90, "s"), "90 seconds"),
    ],
)
def test_times_are_as_people_write_them(given: Any, words: str | None) -> None:
    assert plain(given) == words
