"""A page's tables in a real Chromium: sorted by a click, filtered by words and by columns, from a file, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.explore.browser import browser, program

from upweight.report import Report, Table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="there is no Chromium here"),
]
MARK = "<img src=x onerror=\"document.body.dataset.ran='yes'\">"
SHOWN = "[...document.querySelectorAll('tbody tr')].filter(e => e.offsetParent).map(e => e.cells[0].innerText)"


def test_tables_sort_and_filter(tmp_path: Path) -> None:
    rows = [[f"r{k}", "odd" if k % 2 else MARK, k**2 / 7, None if k == 3 else 10.0 - k] for k in range(12)]
    page = Report("Try").section("Rows", Table(["name", "what it is", "score [nats]", "gap"], rows, "Rows."))
    with browser() as chromium:
        tab = chromium.tab()
        tab.size(400, 800, dark=True)
        tab.open(page.save(tmp_path / "page.html").as_uri(), "document.querySelector('.filter input')?.offsetParent")

        def shows(*names: str) -> None:
            tab.wait(f"JSON.stringify({SHOWN}) === {json.dumps(json.dumps(names, separators=(',', ':')))}")

        def ask(words: str) -> None:
            tab.click(".filter input")
            tab.do("document.querySelector('.filter input').select()")
            tab.type(words)

        every = [f"r{k}" for k in range(12)]
        shows(*every)
        ask("ODD score>5")
        shows("r7", "r9", "r11")
        assert tab.do("document.querySelector('output').value") == "3 of 12 rows"
        tab.click("th:nth-child(4)")  # the sort keeps what is filtered
        shows("r7", "r9", "r11")
        tab.click("th:nth-child(4)")
        shows("r11", "r9", "r7")
        ask("gap<=10 gap>7")
        shows("r2", "r1", "r0")  # a gap is no number
        ask('"what it is":img name=r0')
        shows("r0")
        ask("nothing:like>this")
        shows()
        assert tab.do("document.documentElement.scrollWidth") <= 400
        assert tab.do("document.body.dataset.ran || ''") == ""
        assert tab.faults == []
        tab.send("Emulation.setEmulatedMedia", media="print", features=[])
        assert tab.do("getComputedStyle(document.querySelector('.filter input')).display") == "none"
