"""What comes from data is never markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

import explored
from upweight.explore import markup


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.words += data


def read(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


@pytest.mark.parametrize(
    ("value", "words"), [(60.0, "60"), (1234.0, "1,234"), (0.5, "0.5000"), (-7.25, "-7.250"), (1e17, "1.000e17")]
)
def test_numbers_without_a_fraction_are_whole(value: float, words: str) -> None:
    assert markup.shown(value) == words


@pytest.mark.parametrize("bad", [explored.MARK, '"><b>', "'><b>", "<b", "&lt;b&gt;", "</td><td>"])
def test_marks_in_data_stay_words(bad: str) -> None:
    table = read(str(markup.values({bad: bad}, [bad], {bad: f"{bad} other"})))
    assert table.found == ["table", "tr", "th", "td", "td"]
    assert table.words == f"{bad}{bad}{bad} other"
    text = read(str(markup.text(f"see {bad} there", markup.shared_words(bad, bad))))
    assert set(text.found) <= {"p", "mark"}
    assert text.words == f"see {bad} there"


def test_differing_cells_are_marked_with_what_stands_in_the_other() -> None:
    html = str(
        markup.values({"age": 3.14159265, "city": "Bonn", "gap": None}, ["city"], {"age": 3.14159265, "city": "Köln"})
    )
    assert html.count('class="differs"') == 1
    assert "Köln" in html
    assert 'title="3.14159265"' in html
    assert ">3.142<" in html
    assert "<td>–</td>" in html


def test_words_of_both_texts_are_marked() -> None:
    shared = markup.shared_words("The Horse ran away", "a horse, away from the others")
    assert shared == {"horse", "away"}
    assert str(markup.text("The Horse ran", shared)) == '<p class="text">The <mark>Horse</mark> ran</p>'
