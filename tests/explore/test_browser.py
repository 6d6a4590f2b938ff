"""The page in a real Chromium: open, sort, filter, click through, decide, undo, two pages at once, clean, compare."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.explore.browser import Browser, Tab, browser, program

import explored
from explore.test_coloured import asked_of, kept
from upweight.explore import Cleaned, Contents, Origin
from upweight.jobs.of_study import digest
from upweight.store.backend import Local

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="there is no Chromium here"),
]
LISTED = "document.querySelector('.queries .ag-row[row-index=\"0\"] .ag-cell')?.innerText"


@contextlib.contextmanager
def served(place: Path, *options: str) -> Iterator[str]:
    """The address of a page, as the command prints it."""
    code = "from upweight.cli import main; main()"
    words = [sys.executable, "-c", code, "explore", str(place), "--port", "0", *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        said = ""
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if found := re.search(r"page: (http://\S+)", line):
                yield found[1]
                break
        else:
            raise AssertionError(said)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose data come from a study file, so that it can be cleaned."""
    folder = tmp_path_factory.mktemp("browsed")
    study = folder / "study.py"
    tests = str(Path(explored.__file__).parent)
    study.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {tests!r})
            import explored, upweight as uw

            def study():
                one = explored.problem()
                return uw.Study(one.objective, one.queries, class_names=explored.CLASSES)
            """
        )
    )
    explored.store(folder / "store", origin=Origin("study", str(study), str(folder), digest(study), {}))
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A page where nothing is decided."""
    with served(folder / "store") as found:
        yield found


@pytest.fixture
def place(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder / "store", tmp_path / "store"))


def opened(chromium: Browser, address: str, width: int = 1280) -> Tab:
    tab = chromium.tab()
    tab.size(width)
    tab.open(address, LISTED)
    return tab


def turn(tab: Tab, words: str) -> None:
    tab.do(f"[...document.querySelectorAll('.q-tab')].find(each => each.innerText.includes({words!r})).click()")


def cell(tab: Tab, side: str, row: int, name: str) -> str:
    return str(tab.do(_cell(side, row, name)))


def _cell(side: str, row: int, name: str) -> str:
    key = f"[...document.querySelectorAll('.{side} .ag-header-cell')].find(e => e.innerText.trim() === {name!r})?.getAttribute('col-id')"  # noqa: E501  # fmt: skip
    return f"document.querySelector(`.{side} .ag-row[row-index='{row}'] [col-id='${{{key}}}']`)?.innerText"


def test_looking_sorting_filtering_deciding_undoing(chromium: Browser, place: Path) -> None:
    with served(place) as address:
        tab = opened(chromium, address)
        contents = Contents(place)
        worst = int(contents.query_order[0])
        assert cell(tab, "queries", 0, "id") == str(worst)

        # a query, its evidence, along it by keys
        tab.click(".queries .ag-row[row-index='0'] .ag-cell")
        tab.sees("Most helpful training examples")
        walk = [each.position for each in contents.evidence(worst, 6)]
        tab.key("j")
        tab.sees(f"Training example {walk[0]}")
        tab.key("j")
        tab.sees(f"Training example {walk[1]}")
        tab.key("3")
        tab.wait("document.querySelector('.decision')?.innerText.startsWith('exclude')")
        tab.key("u")
        tab.wait("document.querySelector('.decision')?.innerText === 'not decided'")
        tab.key("n")
        tab.sees(f"Query {int(contents.query_order[1])}")

        # the training list: sorted, filtered, decided about, undone
        turn(tab, "Training")
        tab.wait(f"{_cell('train', 0, 'id')} === '5'")  # the wrong label comes first
        tab.click(".train .ag-row[row-index='0'] .ag-cell")
        tab.sees("It helps these queries")
        tab.sees("Nearest by their gradients")
        tab.key("2")
        tab.wait(f"{_cell('train', 0, 'decision')}?.startsWith('relabel')")
        tab.key("1")
        tab.wait(f"{_cell('train', 0, 'decision')} === 'keep'")
        tab.key("u")
        tab.wait(f"{_cell('train', 0, 'decision')}?.startsWith('relabel')")
        tab.key("j")
        tab.sees(f"Training example {int(contents.train_order[1])}")
        tab.click(".train .ag-header-cell-label", 0)
        tab.wait(f"{_cell('train', 0, 'id')} === '0'")
        tab.click(".train input[aria-label='decision Filter Input']")
        tab.type("relabel")
        tab.wait(f"document.querySelectorAll('.train .ag-row').length === 1 && {_cell('train', 0, 'id')} === '5'")
        tab.click("input[placeholder=search]")
        tab.type("bonn")
        tab.wait("document.querySelectorAll('.queries .ag-center-cols-container .ag-row').length !== 7")

        # words in a field are no keys
        assert [each.what for each in Contents(place).decisions.standing().values()] == ["relabel"]
        turn(tab, "Decisions")
        tab.sees("taken back")
        assert tab.faults == []
        assert {each.partition("://")[2].partition("/")[0] for each in tab.requested if each.startswith(("http", "ws"))} == {address.split("/")[2]}  # noqa: E501  # fmt: skip


def test_marks_in_data_are_words_on_the_page(chromium: Browser, address: str, folder: Path) -> None:
    tab = opened(chromium, address)
    row = Contents(folder / "store").query_order.tolist().index(2)
    tab.click(f".queries .ag-row[row-index='{row}'] .ag-cell")
    tab.sees("Most helpful training examples")
    tab.sees("<img src=x onerror=")
    turn(tab, "Training")
    tab.wait("document.querySelector('.train .ag-row .ag-cell')?.innerText")
    tab.click(".train .ag-row[row-index='0'] .ag-cell")
    tab.sees("It helps these queries")
    tab.sees("<b>bold</b>")
    assert tab.do("document.body.dataset.ran || ''") == ""
    assert tab.do("document.querySelectorAll('img[src=x], b').length") == 0
    assert "<i>title</i>" in tab.text


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
def test_tokens_are_coloured_and_marks_in_them_are_words(chromium: Browser, tmp_path: Path) -> None:
    with served(kept(asked_of(), tmp_path / "store")) as address:
        tab = opened(chromium, address)
        row = Contents(tmp_path / "store").query_order.tolist().index(1)
        tab.click(f".queries .ag-row[row-index='{row}'] .ag-cell")
        tab.sees("all tokens")
        tab.sees(explored.MARK)
        colour = "getComputedStyle([...document.querySelectorAll('.example .token')].find(e => e.innerText.includes('dog'))).backgroundImage"  # noqa: E501  # fmt: skip
        tab.wait(f"{colour}.includes('gradient')")
        before = tab.do("document.querySelector('.cards').innerHTML")
        tab.click(".query-tokens .token", 1)
        tab.wait("document.querySelectorAll('.query-tokens .token')[1].classList.contains('here')")
        tab.wait(f"document.querySelector('.cards').innerHTML !== {json.dumps(before)}")
        assert tab.do("document.body.dataset.ran || ''") == ""
        assert tab.do("document.querySelectorAll('img[src=x]').length") == 0
        assert tab.faults == []


def test_two_pages_at_once_lose_no_decision(chromium: Browser, place: Path) -> None:
    with served(place, "--who", "one") as first, served(place, "--who", "two") as second:
        tabs = opened(chromium, first), opened(chromium, second)
        for tab, row in zip(tabs, (0, 1), strict=True):
            turn(tab, "Training")
            tab.wait("document.querySelector('.train .ag-row .ag-cell')?.innerText")
            tab.click(f".train .ag-row[row-index='{row}'] .ag-cell")
            tab.sees("It helps these queries")
        tabs[0].key("1")
        tabs[1].key("3")
        order = Contents(place).train_order.tolist()
        for tab in tabs:  # each shows the other's, without being asked
            tab.front()
            tab.wait(f"{_cell('train', 0, 'decision')} === 'keep' && {_cell('train', 1, 'decision')} === 'exclude'")
        standing = Contents(place).decisions.standing()
        assert {position: (each.what, each.who) for position, each in standing.items()} == {
            order[0]: ("keep", "one"),
            order[1]: ("exclude", "two"),
        }


def test_cleaning_from_the_page_compares_before_and_after(chromium: Browser, place: Path) -> None:
    with served(place) as address:
        tab = opened(chromium, address)
        turn(tab, "Training")
        tab.wait(f"{_cell('train', 0, 'id')} === '5'")
        tab.click(".train .ag-row[row-index='0'] .ag-cell")
        tab.sees("It helps these queries")
        tab.key("2")
        tab.wait(f"{_cell('train', 0, 'decision')}?.startsWith('relabel')")
        turn(tab, "Cleaning")
        tab.sees("1 to relabel, 0 to exclude, 0 kept.")
        tab.do(
            "[...document.querySelectorAll('button')].find(each => each.innerText.includes('apply, retrain')).click()"
        )
        tab.sees("On held-out examples accuracy went from", 120)
        found = Cleaned.of(Local(place))
        assert found is not None
        assert found.relabelled == 1
        assert Path(found.files["report"]).is_file()
        assert Path(found.files["report"]).parent == place.parent / "store-cleaned"


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone_and_dark_is_dark(
    chromium: Browser, address: str, tmp_path: Path, dark: bool
) -> None:
    tab = chromium.tab()
    tab.size(400, 800, dark=dark)
    tab.open(address, LISTED)
    tab.click(".queries .ag-row[row-index='0'] .ag-cell")
    tab.sees("Most helpful training examples")
    for words in ("Queries", "Training", "Map", "Decisions", "Cleaning"):
        turn(tab, words)
        tab.wait(f"document.querySelector('.q-tab--active').innerText.includes({words!r})")
        assert tab.do("document.documentElement.scrollWidth") <= 400, words
    red = int(re.findall(r"\d+", tab.do("getComputedStyle(document.body).backgroundColor"))[0])
    assert red < 60 if dark else red > 200
    assert tab.picture(tmp_path / "phone.png").stat().st_size > 5000


def test_other_machines_need_the_token(chromium: Browser, place: Path) -> None:
    with served(place, "--host", "0.0.0.0") as address:
        port = re.search(r":(\d+)/", address)
        assert port is not None
        tab = chromium.tab()
        tab.open(f"http://127.0.0.1:{port[1]}/", "document.body.innerText.includes('the token in it is missing')")
        token = address.partition("?")[2]
        assert token.startswith("token=")
        tab.open(f"http://127.0.0.1:{port[1]}/?{token}", LISTED)
