"""Jobs by submitit: on this machine as on a cluster, and in this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import shards
import slurm
from executors.interface import ExecutorTests, ended
from processes import lives, wait_for
from shards import Shard, noted
from upweight.errors import InputError
from upweight.executors import Executor, Slurm, TaskFailedError

pytest.importorskip("submitit", reason="the extra upweight[slurm] is not installed")


class TestSlurm(ExecutorTests):
    lazy = False  # all tasks are drawn and dealt out at once

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = tmp_path_factory.mktemp("jobs")

    def executor(self, workers: int, retries: int = 2) -> Executor:
        return Slurm(workers, retries=retries, folder=self.folder, cluster="local")


class TestInThisProcess(ExecutorTests):
    lazy = False  # all tasks are drawn and dealt out at once
    apart = False
    most = 1

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = tmp_path_factory.mktemp("jobs")

    def executor(self, workers: int, retries: int = 2) -> Executor:
        return Slurm(workers, retries=retries, folder=self.folder, cluster="debug")


def test_jobs_that_are_lost_together_go_on_where_they_were(tmp_path: Path) -> None:
    tasks = [*(Shard(number) for number in range(2)), *(Shard(number, "wait") for number in range(2, 6))]
    stream = Slurm(2, folder=tmp_path / "jobs", cluster="local").run(tasks, partial(shards.made, tmp_path))
    assert sorted(next(stream)[0].number for _ in range(2)) == [0, 1]
    wait_for(lambda: noted(tmp_path, "begun") == ["0", "1", "2", "3"])
    for process in shards.processes(tmp_path):
        os.kill(process, signal.SIGKILL)
    (tmp_path / "go").touch()
    assert sorted((task.number, result.value) for task, result in stream) == [(n, n * n) for n in range(2, 6)]
    assert noted(tmp_path, "begun") == ["0", "1", "2", "2", "3", "3", "4", "5"]
    # What went between is gone, logs stay.
    assert not list((tmp_path / "jobs").glob("work-*"))
    assert len(list((tmp_path / "jobs").glob("*.err"))) == 4


def test_closures_are_sent(tmp_path: Path) -> None:
    scale = 3
    for cluster in ("local", "debug"):
        stream = Slurm(2, folder=tmp_path, cluster=cluster).run([1, 2, 3], lambda: lambda number: scale * number)
        assert sorted(stream) == [(1, 3), (2, 6), (3, 9)]


def test_after_a_failure_in_this_process_no_job_is_begun(tmp_path: Path) -> None:
    executor = Slurm(3, folder=tmp_path / "jobs", cluster="debug")
    pairs, error = ended(executor.run([Shard(0), Shard(1, "raise"), Shard(2)], partial(shards.made, tmp_path)))
    assert isinstance(error, TaskFailedError)
    assert [task.number for task, _ in pairs] == [0]
    assert noted(tmp_path, "begun") == ["0", "1"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": 0}, "^workers: "),
        ({"folder": ""}, "^folder: "),
        ({"folder": 3}, "^folder: "),
        ({"retries": -1}, "^retries: "),
        ({"cluster": 3}, "^cluster: "),
        ({"cluster": "moon"}, "^cluster, parameters: submitit refuses cluster='moon'"),
        ({"minutes": 3}, "^cluster, parameters: .*minutes"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Slurm(**{"workers": 1, "folder": tmp_path, "cluster": "local", **options})


def test_what_can_not_be_sent_is_refused_before_work(tmp_path: Path) -> None:
    import threading

    lock = threading.Lock()
    executor = Slurm(1, folder=tmp_path, cluster="local")
    with pytest.raises(InputError, match="make_worker: this can't be sent to a job"):
        executor.run([1], lambda: lambda number: lock.locked())
    with pytest.raises(InputError, match=r"tasks: .*lock.* can't be sent to a worker"):
        next(executor.run([lock], lambda: str))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Slurm, as far as its commands go."""
    monkeypatch.setenv("PATH", str(slurm.install(tmp_path / "commands")), prepend=os.pathsep)
    monkeypatch.setattr("upweight.executors.slurm.LATE", 0.5)  # there is one file system
    yield
    wait_for(lambda: not any(map(lives, shards.processes(tmp_path))))


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="its states are those of /proc")
@pytest.mark.usefixtures("cluster")
class TestOnACluster:
    def test_jobs_are_submitted_and_one_that_is_killed_again(self, tmp_path: Path) -> None:
        tasks = [Shard(0), Shard(1, "die once"), Shard(2), Shard(3)]
        executor = Slurm(2, folder=tmp_path / "jobs", timeout_min=60, slurm_partition="some")
        pairs = list(executor.run(tasks, partial(shards.made, tmp_path)))
        assert sorted((task.number, result.value) for task, result in pairs) == [(n, n * n) for n in range(4)]
        assert noted(tmp_path, "begun") == ["0", "1", "1", "2", "3"]

    @pytest.mark.parametrize(("minutes", "requeued"), [(60, True), (1, False)], ids=["makes way", "out of time"])
    def test_a_job_that_is_stopped_goes_on_where_it_was(self, tmp_path: Path, minutes: int, requeued: bool) -> None:
        tasks = [Shard(0), Shard(1, "wait"), Shard(2)]
        executor = Slurm(1, folder=tmp_path / "jobs", retries=0 if requeued else 1, timeout_min=minutes)
        stream = executor.run(tasks, partial(shards.made, tmp_path))
        assert next(stream)[0] == tasks[0]
        wait_for(lambda: noted(tmp_path, "begun") == ["0", "1"])
        os.kill(shards.processes(tmp_path)[0], signal.SIGUSR2)
        wait_for(lambda: not lives(shards.processes(tmp_path)[0]))
        (tmp_path / "go").touch()
        assert [task.number for task, _ in stream] == [1, 2]
        assert noted(tmp_path, "begun") == ["0", "1", "1", "2"]
        assert len(list((tmp_path / "commands" / "jobs").glob("*.number"))) == (1 if requeued else 2)

    def test_a_stream_that_is_closed_waits_for_what_has_begun(self, tmp_path: Path) -> None:
        tasks = [Shard(0), *(Shard(number, "wait") for number in range(1, 5))]
        stream = Slurm(1, folder=tmp_path / "jobs", timeout_min=60).run(tasks, partial(shards.made, tmp_path))
        next(stream)
        (tmp_path / "go").touch()
        stream.close()
        assert noted(tmp_path, "begun") == noted(tmp_path, "ended")
