"""Actors on Ray: on one that is there, which stays; on one of its own; on a cluster that loses a node."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import shards
from executors.interface import ExecutorTests
from processes import lives, wait_for
from shards import Shard, noted
from upweight.errors import InputError
from upweight.executors import Executor, Ray

ray = pytest.importorskip("ray", reason="the extra upweight[ray] is not installed")

QUIET: dict[str, Any] = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}


@pytest.fixture(scope="class")
def _theirs() -> Iterator[None]:
    """A Ray that a user has started."""
    ray.init("local", num_cpus=2, **QUIET)
    yield
    assert ray.is_initialized()
    ray.shutdown()


@pytest.mark.slow  # for the start of that Ray
@pytest.mark.usefixtures("_theirs")
class TestRay(ExecutorTests):
    def executor(self, workers: int, retries: int = 2) -> Executor:
        return Ray(workers, retries=retries)

    def test_there_are_as_many_workers_as_there_is_room_for(self) -> None:
        assert Ray().workers == 2
        assert Ray(num_cpus=0.5).workers == 4
        with pytest.raises(InputError, match=r"num_cpus, num_gpus: .* has 2 CPUs and 0 GPUs"):
            Ray(num_gpus=1)
        with pytest.raises(InputError, match="workers: give a number"):
            Ray(num_cpus=0)

    def test_a_worker_has_as_many_threads_as_processors(self, tmp_path: Path) -> None:
        made = partial(shards.made, tmp_path)
        threads = [[result.threads for _, result in Ray(1, num_cpus=n).run([Shard(0)], made)] for n in (0.5, 1, 2)]
        assert threads == [[1], [1], [2]]

    def test_closures_are_sent(self) -> None:
        class Own:
            def __init__(self, value: int):
                self.value = value

        scale = 3
        ((task, result),) = Ray(1).run([Own(2)], lambda: lambda task: Own(scale * task.value))
        assert (task.value, result.value, type(result)) == (2, 6, Own)

    def test_what_can_not_be_sent_is_refused_before_work(self) -> None:
        lock = threading.Lock()
        with pytest.raises(InputError, match="make_worker: this can't be sent to a cluster"):
            Ray(1).run([1], lambda: lambda task: lock.locked())

    def test_workers_without_room_are_not_waited_for(self, tmp_path: Path) -> None:
        pairs = list(Ray(5).run([Shard(number) for number in range(9)], partial(shards.made, tmp_path)))
        assert sorted(task.number for task, _ in pairs) == list(range(9))

    def test_an_actor_that_is_killed_from_outside_is_replaced(self, tmp_path: Path) -> None:
        stream = Ray(1).run([Shard(0), Shard(1, "wait"), Shard(2)], partial(shards.made, tmp_path))
        next(stream)
        wait_for(lambda: noted(tmp_path, "begun") == ["0", "1"])
        os.kill(shards.processes(tmp_path)[0], signal.SIGKILL)
        (tmp_path / "go").touch()
        assert [task.number for task, _ in stream] == [1, 2]
        assert len(noted(tmp_path, "made")) == 2


def test_a_ray_of_its_own_is_shut_down_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert Ray().workers == os.cpu_count()
    before, environment = signal.getsignal(signal.SIGTERM), dict(os.environ)
    pairs = list(Ray(1).run([Shard(0)], partial(shards.made, tmp_path)))
    assert [result.value for _, result in pairs] == [0]
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is before
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ.keys() - environment.keys()
    wait_for(lambda: not any(map(lives, shards.processes(tmp_path))))


def test_a_node_that_is_lost_loses_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes: list[Any] = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()

        def lose_one() -> None:
            wait_for(lambda: noted(tmp_path, "begun") == ["0", "1"])
            cluster.remove_node(nodes[0], allow_graceful=False)
            wait_for(lambda: not all(map(lives, shards.processes(tmp_path))))
            (tmp_path / "go").touch()

        losing = threading.Thread(target=lose_one)
        losing.start()
        tasks = [Shard(0, "wait"), Shard(1, "wait"), *(Shard(number) for number in range(2, 6))]
        pairs = list(Ray(2, address=cluster.address).run(tasks, partial(shards.made, tmp_path)))
        losing.join()
        assert sorted((task.number, result.value) for task, result in pairs) == [(n, n * n) for n in range(6)]
        assert not ray.is_initialized()
    finally:
        cluster.shutdown()
    begun = noted(tmp_path, "begun")
    assert len(begun) == 7  # the one that was lost twice
    assert set(begun) == {str(n) for n in range(6)}
