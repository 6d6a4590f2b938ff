"""What differs is marked, thousands are set apart where they are read, and a page says how it was made."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from upweight.errors import InputError
from upweight.report import Facts, Report, Table, Text
from upweight.report.page import acting


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
    assert Report("t").html().count("<p>") == page.count("<p>") - 2


@pytest.mark.parametrize("letters", [10, 70_000, 2_000_000])
def test_a_page_says_its_size(letters: int) -> None:
    page = Report("t").section("s", Text("a" * letters)).html()
    said, unit = re.findall(r"One file of ([\d.,]+) (kB|MB), which loads nothing", page)[0]
    size = float(said.replace(",", "")) * {"kB": 1e3, "MB": 1e6}[unit]
    assert size == pytest.approx(len(page.encode()), abs={"kB": 600, "MB": 6e4}[unit])


def test_tables_are_sorted_by_one_script_whose_digest_the_policy_names():
    rows = [[1 / 3, "a"], [2e-9, "b"], [5.0, "c"]]
    page = Report("t").section("s", Table(["x", "y"], rows, "c")).html()
    script, digest = acting(sorting=True, filtering=False)
    assert page.count(f"<script>{script}</script>") == page.count("<script") == 1
    assert f"script-src 'sha256-{digest}';" in page
    assert digest == b64encode(sha256(script.encode()).digest()).decode()
    assert '<table class="sortable">' in page
    assert f'data-sort="{1 / 3!r}"' in page  # by all digits, not by those shown


def test_a_page_with_nothing_to_sort_has_no_script():
    marked = Table(["a"], [[1], [2], [3]], "c", marked=[[True], [False], [False]])
    page = Report("t").section("s", Table(["a"], [[1], [2]], "c"), marked).html()
    assert "<script" not in page
    assert "script-src" not in page
    assert "sortable" not in page.split("</style>")[1]


def test_long_tables_have_a_filter_and_its_script():
    rows = [[k / 3, f"<i>{k}"] for k in range(9)]
    page = Report("t").section("s", Table(["odd name [nats]", "y"], rows, "c"), Table(["x"], rows_of(8), "d")).html()
    script, digest = acting(sorting=True, filtering=True)
    assert page.count(f"<script>{script}</script>") == page.count("<script") == 1
    assert f"script-src 'sha256-{digest}';" in page
    assert page.count('type="search"') == 1
    assert "words, or &#34;odd name&#34;&gt;0" in page
    assert 'class="filter" hidden' in page  # without scripts there is none
    assert Table(["", "a"], [["x", "y"]] * 9, "c").example == "a:word"


def rows_of(count):
    return [[k] for k in range(count)]


def test_rows_lead_to_tables_of_the_page():
    first = Table(["a"], [[1], ["<b>"]], "c", links=["other", None])
    page = Report("t").section("s", first, Table(["a"], [[1]], "d", anchor="other")).html()
    assert '<a href="#other">1</a>' in page
    assert page.count('id="other"') == page.count('<a href="#other') == 1
    with pytest.raises(InputError, match="links: got 1 for 2 rows"):
        Table(["a"], [[1], [2]], "c", links=["other"])
    with pytest.raises(InputError, match="'s' is taken"):
        Report("t").section("s").section("u", Table(["a"], [[1]], "d", anchor="s"))
