"""The coordinator's loop, with workers that do what a list says, so that every order of events can be had."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from upweight.executors import TaskFailedError, WorkerDiedError
from upweight.executors.failures import Done, Failure
from upweight.executors.schedule import Died, Event, Ready, scheduled

Happening = tuple[int, str]
"""A seat, and what its worker does: ``up``, ``done``, ``fail``, ``die``."""


class Scripted:
    """A crew whose events stand in a list, several at a time; it notes what it was asked for."""

    def __init__(self, *script: Happening | list[Happening]):
        self.script = [each if isinstance(each, list) else [each] for each in script]
        self.asked: list[str] = []
        self.at: dict[int, Any] = {}

    def start(self, seat: int) -> None:
        self.asked.append(f"start {seat}")

    def give(self, seat: int, content: bytes) -> None:
        self.at[seat] = pickle.loads(content)
        self.asked.append(f"{self.at[seat]} to {seat}")

    def events(self) -> list[tuple[int, Event]]:
        return [(seat, self.event(seat, what)) for seat, what in self.script.pop(0)]

    def event(self, seat: int, what: str) -> Event:
        if what == "up":
            return Ready()
        task = self.at.pop(seat, None)
        if what == "die":
            return Died("so it was")
        return pickle.dumps(Done(task * 10) if what == "done" else Failure(f"{task} was bad"))

    def working(self) -> int:
        return len(self.at)

    def close(self) -> None:
        self.asked.append("close")

    def kill(self) -> None:
        self.asked.append("kill")


def run(crew: Scripted, tasks: Any, workers: int = 2, retries: int = 1) -> tuple[list[Any], Exception | None]:
    pairs = []
    try:
        for pair in scheduled(tasks, crew, pickle.dumps, workers=workers, retries=retries):
            pairs.append(pair)  # noqa: PERF402
    except Exception as error:
        return pairs, error
    return pairs, None


def test_workers_are_started_for_tasks_and_given_the_next_before_the_caller_has_the_last() -> None:
    crew = Scripted((0, "up"), (1, "up"), (1, "done"), (0, "done"), (1, "done"))
    stream = scheduled([1, 2, 3], crew, pickle.dumps, workers=4, retries=0)
    assert next(stream) == (2, 20)
    assert crew.asked == ["start 0", "start 1", "start 2", "1 to 0", "2 to 1", "3 to 1"]
    assert list(stream) == [(1, 10), (3, 30)]
    assert crew.asked[-1] == "close"


def test_no_more_are_drawn_than_can_be_begun() -> None:
    drawn: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(9):
            drawn.append(number)
            yield number

    crew = Scripted([(0, "up"), (1, "up")], *([(seat, "done")] for seat in (0, 0, 1)))
    stream = scheduled(tasks(), crew, pickle.dumps, workers=2, retries=0)
    assert drawn == []
    for ended in (1, 2, 3):
        next(stream)
        assert len(drawn) == ended + 2
    stream.close()
    assert len(drawn) == 5


def test_a_task_that_comes_back_goes_to_whoever_is_free_first() -> None:
    crew = Scripted([(0, "up"), (1, "up")], (0, "die"), (1, "done"), (1, "done"), (1, "done"))
    # No worker ever starts at seat 0 again: the others do its work, and nobody waits for it.
    assert run(crew, [1, 2, 3]) == ([(2, 20), (1, 10), (3, 30)], None)
    assert crew.asked == ["start 0", "start 1", "1 to 0", "2 to 1", "start 0", "1 to 1", "3 to 1", "close"]


def test_an_idle_worker_takes_it_rather_than_a_new_one() -> None:
    crew = Scripted([(0, "up"), (1, "up")], (1, "done"), (0, "die"), (1, "done"))
    assert run(crew, [1, 2]) == ([(2, 20), (1, 10)], None)
    assert crew.asked.count("start 0") == 1


def test_deaths_are_counted_by_task() -> None:
    one_each = [[(0, "up")], [(0, "die")], [(0, "up")], [(0, "done")]]
    assert run(Scripted(*one_each, *one_each[1:]), [1, 2], workers=1) == ([(1, 10), (2, 20)], None)
    pairs, error = run(Scripted(*one_each[:3], (0, "die")), [1, 2], workers=1)
    assert pairs == []
    assert isinstance(error, WorkerDiedError)
    assert str(error) == "task 1: its worker died (killed, or out of memory), 2 times: so it was"


def test_workers_that_die_before_their_first_task_are_not_started_for_ever() -> None:
    pairs, error = run(Scripted((0, "die"), (0, "die")), [1, 2], workers=1)
    assert isinstance(error, WorkerDiedError)
    assert (pairs, error.task) == ([], 1)
    revived = Scripted((0, "die"), (0, "up"), (0, "done"))
    assert run(revived, [1], workers=1) == ([(1, 10)], None)


@pytest.mark.parametrize("later", ["done", "fail", "die"])
def test_nothing_is_begun_after_a_failure_and_what_has_begun_is_awaited(later: str) -> None:
    crew = Scripted([(0, "up"), (1, "up")], (0, "fail"), (1, later))
    pairs, error = run(crew, [1, 2, 3])
    assert pairs == ([(2, 20)] if later == "done" else [])
    assert isinstance(error, TaskFailedError)  # the first
    assert str(error) == "task 1 failed: 1 was bad"
    assert crew.asked == ["start 0", "start 1", "1 to 0", "2 to 1", "close"]


def test_what_ends_together_with_a_failure_is_not_lost() -> None:
    pairs, error = run(Scripted([(0, "up"), (1, "up")], [(0, "fail"), (1, "done")]), [1, 2, 3])
    assert pairs == [(2, 20)]
    assert isinstance(error, TaskFailedError)


def test_an_error_of_the_tasks_themselves_comes_after_what_has_begun() -> None:
    def tasks() -> Iterator[int]:
        yield from (1, 2)
        raise ArithmeticError("no more")

    pairs, error = run(Scripted([(0, "up"), (1, "up")], (0, "done"), (1, "done")), tasks())
    assert pairs == [(1, 10), (2, 20)]
    assert isinstance(error, ArithmeticError)


def test_a_result_that_can_not_be_read_is_a_failure_of_its_task() -> None:
    crew = Scripted((0, "up"), (0, "done"))
    crew.event = lambda seat, what: Ready() if what == "up" else b"no pickle"  # type: ignore[method-assign]
    _, error = run(crew, [1])
    assert isinstance(error, TaskFailedError)
    assert error.task == 1


def test_an_interrupt_closes_and_a_second_one_kills(capsys: pytest.CaptureFixture[str]) -> None:
    crew = Scripted((0, "up"), (0, "done"))
    stream = scheduled([1, 2, 3], crew, pickle.dumps, workers=1, retries=0, called="walks")
    next(stream)

    def interrupted() -> None:
        raise KeyboardInterrupt

    crew.close = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stream.throw(KeyboardInterrupt)
    assert crew.asked[-1] == "kill"
    assert "waiting for 1 walks that have begun (Ctrl-C again ends them)" in capsys.readouterr().err


def test_a_second_interrupt_kills_as_soon_as_the_first_has_been_said(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Scripted((0, "up"), (0, "done"))
    stream = scheduled([1, 2, 3], crew, pickle.dumps, workers=1, retries=0)
    next(stream)

    class Terminal(io.StringIO):
        def flush(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stderr", Terminal())
    with pytest.raises(KeyboardInterrupt):
        stream.throw(KeyboardInterrupt)
    assert crew.asked[-1] == "kill"
    assert "close" not in crew.asked


def test_an_interrupt_that_is_being_handled_elsewhere_is_not_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    crew = Scripted((0, "up"), (0, "done"), (0, "done"))
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert run(crew, [1, 2], workers=1) == ([(1, 10), (2, 20)], None)
    assert capsys.readouterr().err == ""


def test_the_errors_can_be_sent_themselves() -> None:
    for error in (TaskFailedError("a", "b"), WorkerDiedError("a", 2, "b")):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.task) == (str(error), "a")
    assert len(str(TaskFailedError("a" * 1000, "b"))) < 300
