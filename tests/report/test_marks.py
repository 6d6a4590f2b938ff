"""What differs is marked, thousands are set apart where they are read, and a page says how it was made."""

from __future__ import annotations

import pytest

from upweight.errors import InputError
from upweight.report import Facts, Report, Table


def test_marked_cells_have_their_class_and_no_others() -> None:
    table = Table(["", "a"], [["x", 1], ["y", 2]], "c", marked=[[False, False], [False, True]])
    page = Report("t").section("s", table).html()
    assert page.count('<td class="number differs">2</td>') == 1
    assert page.count('differs"') == 1
    assert '<td class="number">1</td>' in page


def test_marks_of_another_form_are_refused() -> None:
    with pytest.raises(InputError, match="marked: give"):
        Table(["a"], [[1]], "c", marked=[[True, False]])


def test_facts_set_thousands_apart_and_tables_keep_names_as_they_are() -> None:
    page = Report("t").section("s", Facts({"n": 32561, "m": 1797}), Table(["row"], [[25094]], "c")).html()
    assert ">32,561</dd>" in page
    assert 'title="32561"' in page
    assert ">1797</dd>" in page
    assert ">25094</td>" in page


def test_the_foot_is_text() -> None:
    page = Report("t", foot="made by <b>\n\nseed 0").html()
    assert "<p>made by &lt;b&gt;</p>" in page
    assert "<p>seed 0</p>" in page
    assert "<footer>" not in Report("t").html()
