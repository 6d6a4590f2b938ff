"""The page on many examples: seconds that a browser waits, and memory of the server.

    python -m benchmarks.explore.page --kind rows --examples 50000

Makes a store of drawn scores through the store's own classes, serves it by the command in a process of its own, and
drives it in Chromium. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.explore.browser import Tab, browser, program
from benchmarks.jobs import memory
from benchmarks.jobs.open import made as made_scores
from upweight.explore import Contents, Session
from upweight.explore.display import Display
from upweight.explore.evidence import SHOWN
from upweight.explore.examples import Examples
from upweight.explore.pictures import thumbnails
from upweight.store.backend import Local

QUERIES, TIMES, COLUMNS = 500, 7, 10
CLASSES = tuple("abcdefghij")
CODE = "from upweight.cli import main; main()"
FIRST = "document.querySelector('.queries .ag-row[row-index=\"0\"] .ag-cell')?.innerText"


def made(place: Path, kind: str, examples: int) -> None:
    """A store with all that a page shows, but for an index of gradients."""
    made_scores(place, examples, QUERIES, None)
    random = np.random.default_rng(0)

    def side(count: int) -> Examples:
        labels = random.choice(CLASSES, count)
        said = np.where(random.random(count) < 0.9, labels, random.choice(CLASSES, count))
        facts = {
            "label": labels, "prediction": said, "wrong": labels != said, "loss": random.exponential(size=count),
            "suggested": said, "suspicion": random.exponential(size=count),
            "self-influence": random.exponential(size=count),
            "x": random.normal(size=count), "y": random.normal(size=count),
        }  # fmt: skip
        if kind == "images":
            drawn = (random.random((count, 28, 28)) * 255).astype(np.uint8)
            return Examples(np.arange(count), facts, {}, thumbnails(drawn)[0])
        own: dict[str, np.ndarray] = {f"number {k}": random.normal(size=count) for k in range(COLUMNS // 2)}
        words = np.array([f"level {k}" for k in range(50)])
        own |= {f"level {k}": random.choice(words, count) for k in range(COLUMNS // 2)}
        return Examples(np.arange(count), facts, own)

    noun = "row" if kind == "rows" else "image"
    Display(kind, noun, CLASSES, "nats", "drawn", None, side(examples), side(QUERIES)).keep(Local(place))


def measured(place: Path, examples: int, kind: str) -> dict[str, Any]:
    """Seconds of each action, and the server's memory."""
    words = [sys.executable, "-c", CODE, "explore", str(place), "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    begun = time.perf_counter()
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        assert server.stdout is not None
        address = next(found[1] for line in server.stdout if (found := re.search(r"page: (http://\S+)", line)))
        listening = time.perf_counter() - begun
        with browser() as chromium:
            tab = chromium.tab()
            tab.size(1280)
            first = timed(lambda: tab.open(address, FIRST))
            again = [timed(lambda k=k: tab.open(f"{address}?{k}", FIRST)) for k in range(3)]
            actions = driven(tab, examples) | (pictured(tab) if kind == "images" else {})
        status = Path(f"/proc/{server.pid}/status").read_text()
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    held = {name: int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) * 1024 for name, key in (("peak", "VmHWM"), ("end", "VmRSS"))}  # type: ignore[index]  # noqa: E501  # fmt: skip
    return {"to_listen": listening, "first": first, "again": again, "actions": actions, "memory": held | {"imports": imports()}, "disk": memory.on_disk(place), "processor": of_the_server(place)}  # noqa: E501  # fmt: skip


def of_the_server(place: Path) -> dict[str, list[float]]:
    """Seconds of the processor that the server works on what a browser asks for: others' work doesn't count."""
    contents = Contents(place)
    session = Session(contents, "me")
    session.look(5)
    keys = {column.name: column.key for column in contents.train_table()}

    def rows(sort: list[dict[str, str]], filters: dict[str, Any]) -> Callable[[], Any]:
        return lambda: session.rows("train", 0, 100, sort, filters)

    asked: dict[str, Callable[[], Any]] = {
        "rows as they are": rows([], {}),
        "rows sorted by a number": rows([{"colId": keys["suspicion"], "sort": "desc"}], {}),
        "rows sorted by a text": rows([{"colId": keys["label"], "sort": "desc"}], {}),
        "rows filtered by a number": rows([], {keys["loss"]: {"type": "greaterThan", "filter": 1}}),
        "rows filtered by a text": rows([], {keys["label"]: {"type": "equals", "filter": "a"}}),
        "a query's evidence": lambda: contents.evidence(3, 6),
        "what an example helps and harms": lambda: contents.effects(77, 6),
        "the map": contents.map.picture,
        "a decision": lambda: session.decide("keep"),
    }
    found = {name: [_processor(act) for _ in range(TIMES)] for name, act in asked.items()}
    session.search = "17"
    return found | {"rows searched for a word": [_processor(asked["rows as they are"]) for _ in range(TIMES)]}


def _processor(act: Callable[[], Any]) -> float:
    begun = time.process_time()
    act()
    return time.process_time() - begun


def imports() -> int:
    """Bytes of a process that has imported what the server needs, and opened nothing."""
    code = "import upweight.cli.app, upweight.explore.serve; print(open('/proc/self/status').read())"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    found = re.search(r"VmRSS:\s+(\d+) kB", said)
    assert found is not None
    return int(found[1]) * 1024


def timed(act: Callable[[], Any]) -> float:
    """Seconds of it."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def driven(tab: Tab, examples: int) -> dict[str, list[float]]:
    """Seconds from each action to what it brings, several times each."""
    random = np.random.default_rng(0)
    tab.do("[...document.querySelectorAll('.q-tab')].find(each => each.innerText.includes('Training')).click()")
    tab.wait("document.querySelector('.train .ag-row .ag-cell')?.innerText")
    time.sleep(1)
    found: dict[str, list[float]] = {}

    def do(name: str, act: Callable[[], Any], until: str) -> None:
        begun = time.perf_counter()
        act()
        tab.wait(until)
        found.setdefault(name, []).append(time.perf_counter() - begun)
        time.sleep(0.3)

    def row(number: int) -> str:
        return f"document.querySelector('.train .ag-row[row-index=\"{number}\"] .ag-cell')?.innerText"

    viewport = "document.querySelector('.train .ag-body-viewport')"
    for number in random.integers(200, examples - 200, TIMES).tolist():
        do("scroll to a place", lambda n=number: tab.do(f"{viewport}.scrollTop = {34 * n}"), row(number + 2))
    tab.do(f"{viewport}.scrollTop = 0")
    tab.wait(row(0))
    mark = "window.seen = document.querySelector('.train .ag-row[row-index=\"0\"] .ag-cell').innerText"
    changed = f"({row(0)} || window.seen) !== window.seen"
    api = "getElement(Number(document.querySelector('.train').id.slice(1))).api"
    for k in range(TIMES):
        for name, key, kind in (("sort by a number", "suspicion", "loss"), ("sort by a text", "label", "label")):
            del kind
            tab.do(mark)
            column = f"{api}.getColumns().find(each => each.getColDef().headerName === '{key}').getColId()"
            way = ("asc", "desc")[k % 2]
            do(name, lambda c=column, w=way: tab.do(f"{api}.applyColumnState({{state: [{{colId: {c}, sort: '{w}'}}], defaultState: {{sort: null}}}})"), changed)  # noqa: E501  # fmt: skip
    for k in range(TIMES):
        number, text = 1 + 0.2 * k, CLASSES[k]
        for name, key, model in (
            ("filter by a number", "suspicion", f"{{type: 'greaterThan', filter: {number}}}"),
            ("filter by a text", "label", f"{{type: 'equals', filter: '{text}'}}"),
        ):
            column = f"{api}.getColumns().find(each => each.getColDef().headerName === '{key}').getColId()"
            before = tab.do(f"{api}.getDisplayedRowCount()")
            do(name, lambda c=column, m=model: tab.do(f"{api}.setFilterModel({{[{c}]: {m}}})"), f"{api}.getDisplayedRowCount() !== {before} && {row(0)}")  # noqa: E501  # fmt: skip
    tab.do(f"{api}.setFilterModel(null)")
    time.sleep(1)
    for k in range(TIMES):
        into_search(tab)
        word = str(100 + 37 * k)
        do("search a word", lambda word=word: tab.type(word), f"({row(0)} || '').includes('{word}')")
    tab.do("document.activeElement.blur()")
    title = "(document.querySelector('.q-tab-panel:not([style*=none]) .detail .strong')?.innerText || '')"
    tab.click(".train .ag-row[row-index='0'] .ag-cell")
    tab.wait(f"{title}.startsWith('Training')")
    for _ in range(TIMES):
        tab.do(f"window.seen = {title}")
        do("the next example, by j", lambda: tab.key("j"), f"{title} && {title} !== window.seen")
    for k in range(TIMES):
        word = ("keep", "exclude")[k % 2]
        do(f"decide, by {'13'[k % 2]}", lambda k=k: tab.key("13"[k % 2]), f"[...document.querySelectorAll('.decision')].some(each => each.offsetParent && each.innerText.startsWith('{word}'))")  # noqa: E501  # fmt: skip
    return found


def into_search(tab: Tab) -> None:
    """The focus into the search, what stands there chosen: what is typed takes its place."""
    tab.click("input[placeholder=search]")
    tab.do("document.querySelector('input[placeholder=search]').select()")


def pictured(tab: Tab) -> dict[str, list[float]]:
    """Seconds from the key that asks for the next query to all pictures in sight, its evidence's among them."""
    tab.do("[...document.querySelectorAll('.q-tab')].find(each => each.innerText.includes('Queries')).click()")
    into_search(tab)
    tab.type("")  # the search leaves too few queries
    tab.wait(f"document.querySelector('.queries .ag-row[row-index=\"{TIMES}\"] .ag-cell')?.innerText")
    tab.do("document.activeElement.blur()")
    tab.click(".queries .ag-row[row-index='0'] .ag-cell")
    seen = "each.offsetParent && each.getBoundingClientRect().top < innerHeight"  # others load when they come near
    images = f"[...document.querySelectorAll('.detail img')].filter(each => {seen})"
    title = "([...document.querySelectorAll('.detail .strong')].find(each => each.offsetParent)?.innerText || '')"
    whole = f"{images}.length > {SHOWN} && {images}.every(each => each.complete && each.naturalWidth)"
    tab.wait(f"{title}.startsWith('Query') && {whole}")
    found = []
    for _ in range(TIMES):
        tab.do(f"window.seen = {title}")
        found.append(timed(lambda: (tab.key("n"), tab.wait(f"{title} !== window.seen && {whole}"))))
        time.sleep(0.3)
    return {"the next query and its pictures, by n": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("rows", "images"), default="rows")
    parser.add_argument("--examples", type=int, default=50_000)
    given = parser.parse_args()
    if program() is None:
        sys.exit("there is no Chromium here")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "store"
        made(place, given.kind, given.examples)
        print(
            json.dumps({"examples": given.examples, "queries": QUERIES, **measured(place, given.examples, given.kind)})
        )


if __name__ == "__main__":
    main()
