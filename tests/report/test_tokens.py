"""Coloured tokens: shares are those of the scores, on both sides, and whatever text they hold stays text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from report.test_page import NASTY, Page
from upweight import InputError
from upweight.report import Report, TokenExample, Tokens


def tokens(sign: int = 1, **options: Any) -> Tokens:
    first, second = np.array([[1.0, -2.0, 0.5], [0.0, 4.0, 0.0]]), np.array([[-1.0], [1.0]])
    examples = [TokenExample("a", ["x", "y", NASTY], first), TokenExample(NASTY, ["z"], second)]
    return Tokens(["q", "r"], examples, "what colours mean", sign, **options)


def test_shares_are_those_of_the_strongest_shown() -> None:
    block = tokens()
    assert block.linked
    shares = [[token.shares for token in texts] for _, texts in block.texts]
    assert shares[0] == [(0.5, 0.5, 0), (1, -1, 1), (0.25, 0.25, 0)]
    assert shares[1] == [(0, -0.5, 0.25)]
    assert [token.shares for token in block.query] == [(-1.5 / 5,), (1,)]
    assert [token.said for token in block.query] == ["-1.5", "+5"]
    harmful = tokens(-1)
    assert [token.shares for token in harmful.query] == [(0.3,), (-1,)]


def test_a_page_shows_them_and_links_the_two_sides() -> None:
    block = tokens()
    html = Report("t").section("s", block, Tokens([], [TokenExample("c", ["Ġa", "▁b"], [0, 0])], "d")).html()
    page = Page(html)
    assert "<script" not in html
    assert [attrs["id"] for attrs, _ in page.find("input")] == ["_1-1-r0", "_1-1-r1", "_1-1-r2"]
    assert "#_1-1:has(#_1-1-r2:checked) .text .token{--v:var(--r2)}" in html
    spans = [(attrs["style"], text) for attrs, text in page.find("span", **{"class": "token"})]
    assert spans[1] == ("--r0:1;--r1:-1;--r2:1", "y")
    assert spans[2][1] == NASTY
    assert [text for _, text in spans[-2:]] == ["a", "b"]
    assert ">\n a<" not in html
    assert "> a</span>" in html


def test_words_get_a_space_between_them() -> None:
    block = tokens(leading=False)
    assert [token.text for token in block.query] == ["q", " r"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"examples": []}, "examples: got none"),
        ({"examples": [TokenExample("a", ["x"], [1.0, 2.0])]}, r"examples\[0\].scores: got shape \(2,\)"),
        ({"examples": [TokenExample("a", ["x"], [np.nan])]}, "finite"),
        ({"helpful_sign": 0}, "helpful_sign"),
    ],
)
def test_what_is_none_is_refused(change: dict[str, Any], word: str) -> None:
    given: dict[str, Any] = {"tokens": ["q"], "examples": [TokenExample("a", ["x"], [1.0])], "caption": "c"}
    with pytest.raises(InputError, match=word):
        Tokens(**{**given, **change})
