"""Tasks in this process."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

import shards
from executors.interface import ExecutorTests
from shards import Shard
from upweight.executors import Executor, InProcess, TaskFailedError


class TestInProcess(ExecutorTests):
    most = 1
    apart = False

    def executor(self, workers: int, retries: int = 2) -> Executor:
        return InProcess()


def test_they_come_in_order_by_this_process_and_closures_will_do(tmp_path: Path) -> None:
    scale = 3
    pairs = list(InProcess().run(iter([2, 1]), lambda: lambda number: (scale * number, os.getpid())))
    assert pairs == [(2, (6, os.getpid())), (1, (3, os.getpid()))]


def test_what_was_raised_is_the_cause(tmp_path: Path) -> None:
    with pytest.raises(TaskFailedError, match="failed: ValueError: no such luck") as told:
        list(InProcess().run([Shard(0, "raise")], partial(shards.made, tmp_path)))
    assert isinstance(told.value.__cause__, ValueError)
