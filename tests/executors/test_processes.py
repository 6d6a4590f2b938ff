"""Worker processes: threads, what can be sent, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import shards
from executors.interface import ExecutorTests
from processes import lives, wait_for
from shards import Shard, noted
from upweight.errors import InputError
from upweight.executors import Executor, Processes


class TestProcesses(ExecutorTests):
    def executor(self, workers: int, retries: int = 2) -> Executor:
        return Processes(workers, retries=retries)


class TestForkedProcesses(ExecutorTests):
    def executor(self, workers: int, retries: int = 2) -> Executor:
        return Processes(workers, retries=retries, start="fork")


def test_threads_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    pairs = list(Processes(2).run([Shard(0), Shard(1)], partial(shards.made, tmp_path)))
    pairs += Processes(1, threads=2).run([Shard(0)], partial(shards.made, tmp_path))
    assert [result.threads for _, result in pairs] == [3, 3, 2]


def test_closures_are_refused_before_work_or_forked() -> None:
    scale = 3
    with pytest.raises(InputError, match=r"make_worker: .*can't be sent.*top level of a module.*start='fork'"):
        Processes(1).run([1], lambda: lambda number: scale * number)
    assert list(Processes(1, start="fork").run([1], lambda: lambda number: scale * number)) == [(1, 3)]


def test_closures_are_refused_where_processes_can_not_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(InputError, match=r"make_worker: .*InProcess\(\)"):
        Processes(1).run([1], lambda: lambda number: number)
    with pytest.raises(InputError, match="start: processes can't be forked here"):
        Processes(1, start="fork")


def test_a_task_that_can_not_be_sent_is_named_and_the_others_are_done() -> None:
    stream = Processes(1, start="fork").run([1, lambda: 2, 3], lambda: str)
    assert next(stream) == (1, "1")
    with pytest.raises(InputError, match=r"tasks: .*lambda.* can't be sent to a worker"):
        next(stream)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"workers": 0}, "workers"),
        ({"threads": 0}, "threads"),
        ({"retries": -1}, "retries"),
        ({"start": "forkserver"}, "start"),
        ({"called": 3}, "called"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, object], name: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: "):
        Processes(**{"workers": 1, **options})  # type: ignore[arg-type]


SCRIPT = """
import sys
from functools import partial
from pathlib import Path

import shards
from upweight.executors import Processes

class Own(shards.Shard):
    pass

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    tasks = [Own(number, "wait") for number in range(6)]
    stream = Processes(2).run(tasks, partial(shards.made, folder))
    if sys.argv[2] == "all":
        print(sorted(task.number for task, _ in stream))
    else:  # the script ends with the stream open
        print(next(stream)[0].number)
"""


def started(folder: Path, how: str = "all") -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), how],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def all_gone(folder: Path) -> bool:
    return not any(map(lives, shards.processes(folder)))


def test_classes_of_a_script_are_sent_and_a_stream_left_open_does_not_hold_its_end(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    for how in ("all", "one"):
        told, errors = started(tmp_path, how).communicate(timeout=120)
        assert (told, errors) == ("[0, 1, 2, 3, 4, 5]\n", "") if how == "all" else told in ("0\n", "1\n")
        assert all_gone(tmp_path)
    assert noted(tmp_path, "begun") == noted(tmp_path, "ended")


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-C twice", "terminated", "killed"])
def test_an_interrupt_keeps_what_is_done_and_ends_what_runs(tmp_path: Path, how: str) -> None:
    process = started(tmp_path)
    wait_for(lambda: len(noted(tmp_path, "begun")) == 2)
    assert process.stderr is not None
    if how.startswith("Ctrl-C"):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the whole group
        assert "waiting for 2 tasks that have begun (Ctrl-C again ends them)" in process.stderr.readline()
        if how == "Ctrl-C":
            (tmp_path / "go").touch()
        else:
            os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM if how == "terminated" else signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode != 0
    wait_for(lambda: all_gone(tmp_path))
    assert len(noted(tmp_path, "begun")) == 2
    assert len(noted(tmp_path, "ended")) == (2 if how == "Ctrl-C" else 0)
    assert told.count("KeyboardInterrupt") <= 2  # our own, and none of the workers'
