"""Whatever ends a job, at whichever write: the next call goes on to the bytes of one that nobody disturbed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from disturbed import SHARDS, Disturbed, contents, job
from processes import lives, wait_for
from upweight import InputError, Stored
from upweight.executors import Processes
from upweight.files import NotWrittenError
from upweight.jobs import parts
from upweight.jobs.run import LOG
from upweight.store import Local

TOP = (None, 3)


def apart(place: Any, top_k: int | None, executor: Any = None) -> int | None:
    """The job in a fork of this process; how that ended."""
    process = multiprocessing.get_context("fork").Process(target=job, args=(place, top_k, executor))
    process.start()
    process.join()
    return process.exitcode


def written(place: Path, event: str = "shard") -> list[dict[str, Any]]:
    """What the log says of an event."""
    lines = [json.loads(line) for line in (place / LOG).read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def is_once(place: Path) -> bool:
    """Whether no shard was written down as done twice."""
    return max(Counter((line["job"], line["shard"]) for line in written(place)).values()) == 1


@pytest.fixture(scope="module", params=TOP)
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Any, int]]:
    """top_k, the files of an undisturbed job, and how many steps it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    place = Disturbed(folder / "store", folder / "notes")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts, "AT_ONCE", 1)  # merged after every shard
        job(place, request.param)
        yield request.param, contents(place.path), place.steps


@pytest.mark.parametrize("what", ["kill", "full"])
@pytest.mark.parametrize(
    "every", [3, pytest.param(1, marks=pytest.mark.exhaustive)], ids=lambda every: f"every {every}"
)
def test_at_every_step(tmp_path: Path, undisturbed: tuple[Any, Any, int], what: str, every: int) -> None:
    top_k, whole, steps = undisturbed
    first = {("kill", None): 0, ("full", None): 1, ("kill", 3): 2, ("full", 3): 0}[what, top_k]  # others in each
    for at in {*range(first % every, steps, every), *([steps] if what == "kill" else [])}:
        store, notes = tmp_path / f"{at}", tmp_path / f"notes-{at}"
        if at == steps:
            assert apart(Disturbed(store, notes, "killed", at - 1), top_k) == -signal.SIGKILL
        elif what == "full":
            with suppress(NotWrittenError):  # deletions after the last write can be done
                job(Disturbed(store, notes, what, at), top_k)
        else:
            assert apart(Disturbed(store, notes, what, at), top_k) == -signal.SIGKILL
        before = Counter(line["shard"] for line in written(store)) if (store / LOG).exists() else Counter()
        job(store, top_k)
        assert contents(store) == whole
        if before:
            assert is_once(store)
            assert len(written(store)) >= SHARDS - 1  # of one, the kill came before it was written down


@pytest.mark.parametrize("what", ["kill", "full"])
def test_with_two_workers(tmp_path: Path, undisturbed: tuple[Any, Any, int], what: str) -> None:
    top_k, whole, _ = undisturbed
    two = Processes(2, threads=1, start="fork")
    for at in (0, 3):
        store = tmp_path / f"{at}"
        place = Disturbed(
            store, tmp_path / f"notes-{at}", what, at, "part-", deletions=what == "full"
        )  # no driver dies
        if what == "full":
            with pytest.raises(NotWrittenError, match="No space left"):
                job(place, top_k, two)
            assert sum(is_there.startswith("committed/part-") for is_there in contents(store)) >= at // 2 - 1
            job(store, top_k, two)
        else:
            job(place, top_k, two)  # a worker that dies is replaced, and its shard is done again
        assert contents(store) == whole
        assert is_once(store)
        assert len(written(store)) == SHARDS


SCRIPT = """
import sys
from pathlib import Path
from disturbed import Disturbed, job
from upweight.executors import InProcess, Processes

if __name__ == "__main__":
    store, notes, top_k, two = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) or None, sys.argv[4] == "2"
    place = Disturbed(store, notes, "wait", 3, "part-")
    job(place, top_k, Processes(2, threads=1, start="fork") if two else InProcess())
"""


def started(tmp_path: Path, top_k: int | None, workers: int) -> subprocess.Popen[str]:
    """The job as a user's script, which waits at a write, in a process group of its own."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), str(tmp_path / "store"), str(tmp_path / "notes"), str(top_k or 0)]
    process = subprocess.Popen(
        [*words, str(workers)], start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    wait_for((tmp_path / "notes" / "waits").exists)
    return process


def group(process: subprocess.Popen[str]) -> list[int]:
    """The living processes of its group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == process.pid and lives(int(entry.name)):
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.exhaustive), 2])
def test_a_script_that_is_ended_leaves_no_process_and_is_gone_on_with(
    tmp_path: Path, undisturbed: tuple[Any, Any, int], way: signal.Signals, workers: int
) -> None:
    top_k, whole, _ = undisturbed
    process = started(tmp_path, top_k, workers)
    os.kill(process.pid, way)  # the driver alone; workers see that it is gone, or are told
    if way == signal.SIGINT:
        (tmp_path / "notes" / "go").touch()  # a shard that has begun is finished
    _, told = process.communicate(timeout=120)
    assert process.returncode == -way or (way == signal.SIGINT and process.returncode == 1)
    if way == signal.SIGINT:
        assert "KeyboardInterrupt" in told
        assert written(tmp_path / "store", "stopped")[0]["error"].startswith("KeyboardInterrupt")
    wait_for(lambda: not group(process))
    with pytest.raises(InputError, match=rf"is at [0-9] of {SHARDS} shards"):
        Stored.open(tmp_path / "store")
    job(tmp_path / "store", top_k)
    assert contents(tmp_path / "store") == whole
    assert is_once(tmp_path / "store")


def test_two_jobs_at_once(tmp_path: Path, undisturbed: tuple[Any, Any, int]) -> None:
    top_k, whole, _ = undisturbed
    place = Disturbed(tmp_path / "store", tmp_path / "notes", "wait", 3, "part-")
    process = multiprocessing.get_context("fork").Process(target=job, args=(place, top_k))
    process.start()
    wait_for((tmp_path / "notes" / "waits").exists)
    with pytest.raises(InputError, match=rf"another process \({process.pid} on .*\) works on"):
        job(place.path, top_k)
    (tmp_path / "notes" / "go").touch()
    process.join()
    assert process.exitcode == 0
    assert contents(place.path) == whole
    before = (place.path / LOG).read_text()
    job(place.path, top_k)
    assert (place.path / LOG).read_text() == before  # it was done already


def test_a_worker_of_a_driver_that_is_gone_may_finish_its_shard_whenever(
    tmp_path: Path, undisturbed: tuple[Any, Any, int]
) -> None:
    top_k, whole, _ = undisturbed
    job(tmp_path / "whole", top_k)
    late: dict[str, bytes] = {}

    class Noting(Local):
        def write(self, key: str, content: bytes) -> None:
            if "part-" in key or "scores-" in key:
                late[key] = content
            super().write(key, content)

    job(Noting(tmp_path / "store"), top_k)
    for key, content in late.items():  # after the new driver has merged and removed them; one without its block
        if not key.startswith("blocks/part-000001"):
            Local(tmp_path / "store").write(key, content)
    stored = Stored.open(tmp_path / "store")
    stored.verify()
    found = job(tmp_path / "store", top_k)
    assert (found.top(3).positions == Stored.open(tmp_path / "whole").top(3).positions).all()
    assert contents(tmp_path / "store") == whole


def test_whoever_does_a_shard_its_bytes_are_the_same(tmp_path: Path, undisturbed: tuple[Any, Any, int]) -> None:
    top_k, whole, _ = undisturbed
    job(tmp_path / "store", top_k, Processes(2, threads=1))
    assert contents(tmp_path / "store") == whole
