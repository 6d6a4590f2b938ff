"""What every executor promises: a new one is tested by a subclass of `ExecutorTests` that says how it is made."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

import shards
from processes import lives, wait_for
from shards import Shard, noted
from upweight.errors import InputError
from upweight.executors import Executor, TaskFailedError, WorkerDiedError
from upweight.files import NotWrittenError


class ExecutorTests:
    """Every task once, whatever the order; failures named; deaths mended; nothing begun after the end.

    A subclass gives ``executor``. What doesn't hold is switched off by the attributes below, each with the reason.
    """

    most: ClassVar[int] = 2
    """The workers of these tests."""
    lazy: ClassVar[bool] = True
    """Whether tasks are drawn as workers come free."""
    apart: ClassVar[bool] = True
    """Whether a worker is another process, which can die alone."""

    def executor(self, workers: int, retries: int = 2) -> Executor:
        raise NotImplementedError

    def test_it_is_one(self) -> None:
        executor = self.executor(self.most)
        assert isinstance(executor, Executor)
        assert executor.workers == self.most

    def test_every_task_is_done_once(self, tmp_path: Path) -> None:
        tasks = [Shard(number) for number in range(7)]
        pairs = list(self.executor(self.most).run(tasks, partial(shards.made, tmp_path)))
        assert sorted((task.number, result.value) for task, result in pairs) == [(n, n * n) for n in range(7)]
        assert noted(tmp_path, "begun") == noted(tmp_path, "ended") == [str(n) for n in range(7)]
        # Each worker was made once, in a process of its own, and kept.
        makers = noted(tmp_path, "made")
        assert len(set(makers)) == len(makers) <= self.most
        assert {result.worker for _, result in pairs} <= set(makers)
        assert len(set(shards.processes(tmp_path))) == len(makers)
        if self.apart:
            wait_for(lambda: not any(map(lives, shards.processes(tmp_path))))

    def test_equal_tasks_are_as_many(self, tmp_path: Path) -> None:
        pairs = list(self.executor(1).run([Shard(2)] * 3, partial(shards.made, tmp_path)))
        assert [(task, result.value) for task, result in pairs] == [(Shard(2), 4)] * 3

    def test_without_tasks_no_worker_is_made(self, tmp_path: Path) -> None:
        assert list(self.executor(self.most).run([], partial(shards.made, tmp_path))) == []
        assert not noted(tmp_path, "made")

    def test_tasks_are_drawn_as_workers_come_free(self, tmp_path: Path) -> None:
        drawn = 0

        def tasks() -> Iterator[Shard]:
            nonlocal drawn
            for number in range(9):
                drawn += 1
                yield Shard(number)

        stream = self.executor(self.most).run(tasks(), partial(shards.made, tmp_path))
        for _ in stream:
            seen = drawn
            assert not self.lazy or seen <= len(noted(tmp_path, "ended")) + self.most
        assert drawn == 9

    @pytest.mark.parametrize("what", ["raise", "leave"])
    def test_a_failure_names_its_task_and_nothing_is_begun_after_it(self, tmp_path: Path, what: str) -> None:
        tasks = [Shard(0), Shard(1, what), Shard(2), Shard(3)]
        stream = self.executor(1).run(tasks, partial(shards.made, tmp_path))
        assert next(stream)[0] == tasks[0]
        with pytest.raises(TaskFailedError, match=r"(?s)Shard\(number=1.*failed: .*no such luck") as told:
            list(stream)
        assert told.value.task == tasks[1]
        assert noted(tmp_path, "begun") == ["0", "1"]

    def test_what_has_begun_at_a_failure_is_finished(self, tmp_path: Path) -> None:
        tasks = [Shard(0, "raise"), *(Shard(number) for number in range(1, 30))]
        pairs, error = ended(self.executor(self.most).run(tasks, partial(shards.made, tmp_path)))
        assert isinstance(error, TaskFailedError)
        assert error.task == tasks[0]
        assert noted(tmp_path, "begun") == sorted(["0", *(str(task.number) for task, _ in pairs)])

    @pytest.mark.parametrize(
        ("what", "kind", "words"),
        [("refuse", InputError, "data: give better ones"), ("unwritten", NotWrittenError, "a/file: can't be written")],
    )
    def test_our_own_refusals_keep_their_words(
        self, tmp_path: Path, what: str, kind: type[Exception], words: str
    ) -> None:
        with pytest.raises(kind) as told:
            list(self.executor(1).run([Shard(0, what)], partial(shards.made, tmp_path)))
        assert str(told.value) == words
        assert isinstance(told.value.__cause__, TaskFailedError)
        assert told.value.__cause__.task == Shard(0, what)

    def test_a_worker_that_can_not_be_made_is_told(self) -> None:
        with pytest.raises(TaskFailedError, match="no such worker"):
            list(self.executor(1).run([Shard(0)], partial(shards.unmade, ValueError)))
        with pytest.raises(InputError, match=r"^no such worker$"):
            list(self.executor(1).run([Shard(0)], partial(shards.unmade, InputError)))

    def test_tasks_that_can_not_be_drawn_end_it(self, tmp_path: Path) -> None:
        def tasks() -> Iterator[Shard]:
            yield Shard(0)
            raise ArithmeticError("no more")

        pairs, error = ended(self.executor(1).run(tasks(), partial(shards.made, tmp_path)))
        assert isinstance(error, ArithmeticError)
        assert [task for task, _ in pairs] == ([Shard(0)] if self.lazy else [])

    def test_a_task_whose_worker_died_is_done_again(self, tmp_path: Path) -> None:
        tasks = [Shard(0), Shard(1, "die once"), *(Shard(number) for number in range(2, 5))]
        if not self.apart:
            pytest.skip("a death would be this process's")
        pairs = list(self.executor(self.most).run(tasks, partial(shards.made, tmp_path)))
        assert sorted((task.number, result.value) for task, result in pairs) == [(n, n * n) for n in range(5)]
        assert noted(tmp_path, "begun") == ["0", "1", "1", "2", "3", "4"]
        assert noted(tmp_path, "ended") == ["0", "1", "2", "3", "4"]

    @pytest.mark.parametrize("retries", [0, 1])
    def test_a_task_that_always_kills_is_named(self, tmp_path: Path, retries: int) -> None:
        tasks = [Shard(0), Shard(1, "die"), Shard(2)]
        if not self.apart:
            pytest.skip("a death would be this process's")
        pairs, error = ended(self.executor(1, retries).run(tasks, partial(shards.made, tmp_path)))
        assert isinstance(error, WorkerDiedError)
        assert (error.task, error.deaths) == (tasks[1], retries + 1)
        assert re.search(r"Shard\(number=1.*: its worker died", str(error))
        assert noted(tmp_path, "begun").count("1") == retries + 1
        assert [task.number for task, _ in pairs] == [0]

    def test_a_result_that_can_not_be_sent_is_told(self, tmp_path: Path) -> None:
        tasks = [Shard(0), Shard(1, "odd")]
        if not self.apart:
            pytest.skip("nothing is sent")
        with pytest.raises(TaskFailedError, match=r"(?s)number=1.*[Pp]ickle"):
            list(self.executor(1).run(tasks, partial(shards.made, tmp_path)))

    def test_an_interrupt_waits_for_what_has_begun(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tasks = [Shard(0), *(Shard(number, "wait") for number in range(1, 9))]
        if not self.apart:
            pytest.skip("it ends the task")
        stream = self.executor(self.most).run(tasks, partial(shards.made, tmp_path))
        assert next(stream)[0] == tasks[0]
        said = Said(tmp_path / "go")
        with monkeypatch.context() as patched:
            patched.setattr("sys.stderr", said)
            with pytest.raises(KeyboardInterrupt):
                stream.throw(KeyboardInterrupt)
        waited = re.search(r"waiting for (\d) tasks that have begun", said.words)
        assert waited is not None
        assert 1 <= int(waited[1]) <= self.most  # another may have been about to start
        assert len(noted(tmp_path, "begun")) == len(noted(tmp_path, "ended")) <= 1 + int(waited[1])
        wait_for(lambda: not any(map(lives, shards.processes(tmp_path))))

    def test_a_stream_that_is_closed_leaves_nothing(self, tmp_path: Path) -> None:
        stream = self.executor(self.most).run([Shard(n) for n in range(99)], partial(shards.made, tmp_path))
        next(stream)
        stream.close()
        begun = noted(tmp_path, "begun")
        assert begun == noted(tmp_path, "ended")
        assert len(begun) < 99 or not self.lazy
        if self.apart:
            wait_for(lambda: not any(map(lives, shards.processes(tmp_path))))
        assert noted(tmp_path, "begun") == begun
        assert not [thread for thread in threading.enumerate() if "upweight" in thread.name]


def ended(stream: Iterable[tuple[Shard, Any]]) -> tuple[list[tuple[Shard, Any]], Exception | None]:
    """What came, and what was raised after it."""
    pairs = []
    try:
        for pair in stream:
            pairs.append(pair)  # noqa: PERF402
    except Exception as error:
        return pairs, error
    return pairs, None


class Said:
    """A stream for words, the first of which make a file."""

    def __init__(self, file: Path):
        self.file = file
        self.words = ""

    def write(self, words: str) -> None:
        self.words += words
        self.file.touch()

    def flush(self) -> None:
        """Nothing is held."""
