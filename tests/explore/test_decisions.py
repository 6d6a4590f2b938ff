"""Decisions are added, never lost: two at a time, taken back, put into one file, refused in another store."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest

import explored
import upweight as uw
from upweight.errors import DamagedFileWarning, InputError
from upweight.explore import Decisions
from upweight.store.backend import Local


@pytest.fixture
def decisions(place: Path) -> Decisions:
    return Decisions(Local(place))


def test_the_last_decision_about_an_example_stands(decisions: Decisions) -> None:
    decisions.decide(4, "keep", id="four", old="ant")
    decisions.decide(4, "relabel", id="four", old="ant", new="bee")
    decisions.decide(9, "exclude", id="nine", old="cat")
    standing = decisions.standing()
    assert {position: (each.what, each.old, each.new) for position, each in standing.items()} == {
        4: ("relabel", "ant", "bee"),
        9: ("exclude", "cat", "cat"),
    }
    assert [each.what for each in decisions.read()] == ["keep", "relabel", "exclude"]


def test_undoing_goes_back_step_by_step_and_only_one_s_own(decisions: Decisions) -> None:
    decisions.decide(4, "keep", id="four", old="ant", who="me")
    decisions.decide(4, "exclude", id="four", old="ant", who="me")
    decisions.decide(5, "keep", id="five", old="ant", who="you")
    undone = decisions.undo("me")
    assert undone is not None
    assert undone.position == 4
    assert {position: each.what for position, each in decisions.standing().items()} == {4: "keep", 5: "keep"}
    assert decisions.undo("me") is not None
    assert set(decisions.standing()) == {5}
    assert decisions.undo("me") is None
    assert len(decisions.read()) == 5  # nothing was taken away


def test_two_that_are_open_see_each_other_s(place: Path) -> None:
    one, other = Decisions(Local(place)), Decisions(Local(place))
    one.decide(1, "keep", id="1", old="ant", who="me")
    other.decide(2, "keep", id="2", old="ant", who="you")
    assert set(one.standing()) == set(other.standing()) == {1, 2}


def test_putting_them_into_one_file_changes_nothing_for_whoever_has_them_open(place: Path) -> None:
    one, other = Decisions(Local(place)), Decisions(Local(place))
    for position in range(5):
        one.decide(position, "keep", id=str(position), old="ant")
    assert one.compact()
    assert not list((place / "decisions").iterdir())
    rows = pyarrow.parquet.read_table(place / "decisions.parquet").to_pylist()
    assert [row["position"] for row in rows] == list(range(5))
    assert set(rows[0]) == {"key", "store", "id", "position", "what", "old", "new", "who", "when", "undoes"}
    other.decide(7, "exclude", id="7", old="bee")
    assert one.read() == other.read() == Decisions(Local(place)).read()
    assert other.compact()
    assert len(pyarrow.parquet.read_table(place / "decisions.parquet")) == 6
    assert not other.compact()


def test_they_are_not_put_together_while_another_process_works_there(place: Path, decisions: Decisions) -> None:
    decisions.decide(1, "keep", id="1", old="ant")
    with Local(place).held():
        assert not decisions.compact()
    assert len(list((place / "decisions").iterdir())) == 1


def _decide(place: str, first: int, count: int) -> None:
    mine = Decisions(Local(Path(place)))
    for position in range(first, first + count):
        mine.decide(position, "keep", id=str(position), old="ant", who=f"process {first}")
        if position % 5 == 0:
            mine.compact()


def test_processes_that_decide_and_put_together_at_the_same_time_lose_none(place: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_decide, args=(str(place), first, 15)) for first in (0, 15)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert set(Decisions(Local(place)).standing()) == set(range(30))


def test_decisions_of_another_store_are_refused(place: Path, decisions: Decisions, tmp_path: Path) -> None:
    decisions.decide(1, "keep", id="1", old="ant")
    x, y = explored.problem().objective.data.take(range(20))
    other = explored.problem().objective.replace(data=(x, y))
    uw.Influence(other).attribute(explored.problem().queries, store=tmp_path / "other")
    shutil.copytree(place / "decisions", tmp_path / "other" / "decisions")
    with pytest.raises(InputError, match="decisions of another store"):
        Decisions(Local(tmp_path / "other"))
    decisions.compact()
    shutil.rmtree(tmp_path / "other" / "decisions")
    shutil.copy(place / "decisions.parquet", tmp_path / "other" / "decisions.parquet")
    with pytest.raises(InputError, match="decisions of another store"):
        Decisions(Local(tmp_path / "other"))


def test_a_damaged_one_is_named_and_the_others_stand(place: Path, decisions: Decisions) -> None:
    for position in (1, 2):
        decisions.decide(position, "keep", id=str(position), old="ant")
    damaged = sorted((place / "decisions").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.warns(DamagedFileWarning, match=damaged.name):
        assert set(Decisions(Local(place)).standing()) == {2}
    (place / "decisions.parquet").write_bytes(b"PAR1 no more")
    with (
        pytest.raises(InputError, match=r"decisions\.parquet in .* was cut or altered"),
        pytest.warns(DamagedFileWarning),
    ):
        Decisions(Local(place))


@pytest.mark.parametrize(
    ("position", "what", "new", "named"),
    [
        (36, "keep", None, "position"),
        (0, "burn", None, "what"),
        (0, "relabel", None, "new"),
        (0, "relabel", "ant", "new"),
    ],
)
def test_what_cannot_be_decided_is_refused_by_name(
    decisions: Decisions, position: int, what: str, new: str | None, named: str
) -> None:
    with pytest.raises(InputError, match=f"^{named}: "):
        decisions.decide(position, what, id="x", old="ant", new=new)  # type: ignore[arg-type]
    assert decisions.read() == []
