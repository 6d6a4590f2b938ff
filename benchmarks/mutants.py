"""Does a test notice a small wrong change? ``python -m benchmarks.mutants [--count 60] [--seed 0] [--room influence]``.

Plants the changes of `benchmarks.mutations`, one at a time, in a copy of the repository, and runs the tests: first
those that mirror the changed room, for every change; then, for those that nobody noticed, the rest of the suite.
What is judged is kept in a folder, and a run that is started again goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.mutations import Change, sample

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / ".made" / "mutants"
TESTED = ("-q", "-m", "not slow_download", "-p", "no:cacheprovider")
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
SURVIVED = "SURVIVED"
PATIENCE = 5.0
"""A change hangs when its tests take this many times as long as without it, and two minutes."""


@dataclass(frozen=True)
class Judged:
    """A change, and who noticed it: the first test that failed, a hang, or nobody."""

    room: str
    where: str
    start: int
    before: str
    after: str
    caught_by: str
    whole_suite: bool
    seconds: float

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to run."""
        return self.whole_suite or self.caught_by != SURVIVED

    def __str__(self) -> str:
        caught = self.caught_by if self.settled else "not by its room, the rest comes later"
        return f"{self.room:<13}{self.where}  {caught}  {self.seconds:.0f} s\n    - {self.before}\n    + {self.after}"


class Suite:
    """The tests of a copy, with the seconds of every test file and what fails there without any change."""

    def __init__(self, copy: Path, folder: Path):
        self.copy = copy
        source = str(copy / "src")
        self.environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        record = folder / "unchanged.xml"
        if not record.exists():
            print("the whole suite, unchanged ...", flush=True)
            self.run(["-o", "junit_family=xunit1", f"--junitxml={record}"], None)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.fails: list[str] = []
        for case in ElementTree.parse(record).iter("testcase"):
            self.seconds[case.attrib["file"]] += float(case.attrib["time"])
            if case.find("failure") is not None or case.find("error") is not None:
                self.fails.append(f"{case.attrib['file']}::{case.attrib['name']}")

    def of(self, room: str) -> list[str]:
        """The test files that mirror a room."""
        return [file for file in self.quickest if file.startswith((f"tests/{room}/", f"tests/test_{room}.py"))]

    @property
    def quickest(self) -> list[str]:
        """All test files, the quickest first."""
        return sorted(self.seconds, key=lambda file: (self.seconds[file], file))

    def caught_by(self, files: list[str]) -> str:
        """The first test of these files that fails though it doesn't when nothing is changed."""
        if not files:
            return SURVIVED
        known = [f"--deselect={test}" for test in self.fails]
        code, words = self.run(["-x", *known, *files], 120 + PATIENCE * sum(self.seconds[file] for file in files))
        if code == 0:
            return SURVIVED
        found = FAILED.search(words)
        return "a hang" if code is None else found[1] if found else f"pytest ended with {code}"

    def run(self, arguments: list[str], limit: float | None) -> tuple[int | None, str]:
        """Exit code, None if the time was up, and what was printed."""
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *TESTED, *arguments],
            cwd=self.copy,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            words, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the tests' own processes too
            words, _ = process.communicate()
            return None, words
        return process.returncode, words


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of what the repository tracks, as it is now, in a folder that goes when it is done with."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        for name in filter(None, listed.split("\0")):
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        yield Path(folder)


def judge(suite: Suite, room: str, change: Change, whole_suite: bool) -> Judged:
    """Plant a change, run the tests of its room, or all others, and take it out again."""
    file, own = suite.copy / change.path, suite.of(room)
    source, start = file.read_text(encoding="utf-8"), time.perf_counter()
    try:
        file.write_text(change(source), encoding="utf-8")
        caught_by = suite.caught_by([each for each in suite.quickest if each not in own] if whole_suite else own)
    finally:
        file.write_text(source, encoding="utf-8")
    seconds = time.perf_counter() - start
    where = f"{change.path}:{change.line}"
    return Judged(room, where, change.start, *change.lines(source), caught_by, whole_suite, seconds)


def read(record: Path) -> dict[tuple[str, int, str], Judged]:
    """What is judged already; of a change that was run twice, the last word."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    judged = [Judged(**json.loads(line)) for line in lines]
    return {(each.where, each.start, each.after): each for each in judged}


def main() -> None:
    """Judge the sampled changes, print each as it is done, and sum up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--room", help="a subpackage or module of upweight; without it, all take turns")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where what is judged is kept")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job in the background; tests send it
    options.folder.mkdir(parents=True, exist_ok=True)
    record = options.folder.resolve() / "judged.jsonl"
    with copied() as copy:
        chosen = sample(copy, options.count, options.seed, options.room)
        if not chosen:
            parser.error(f"no room {options.room} with anything to change")
        suite = Suite(copy, options.folder.resolve())
        sources = {change.path: (copy / change.path).read_text(encoding="utf-8") for _, change in chosen}
        keys = [(f"{c.path}:{c.line}", c.start, c.lines(sources[c.path])[1]) for _, c in chosen]
        for whole_suite in (False, True):
            judged = read(record)
            for key, (room, change) in zip(keys, chosen, strict=True):
                if key in judged and (judged[key].settled or not whole_suite):
                    continue
                found = judge(suite, room, change, whole_suite)
                with record.open("a", encoding="utf-8") as file:
                    print(json.dumps(asdict(found), ensure_ascii=False), file=file)
                print(found, flush=True)
    judged = read(record)
    survivors = [judged[key] for key in keys if judged[key].caught_by == SURVIVED]
    print(f"\n{len(keys)} changes, {len(keys) - len(survivors)} noticed, {len(survivors)} not:", *survivors, sep="\n")


if __name__ == "__main__":
    main()
