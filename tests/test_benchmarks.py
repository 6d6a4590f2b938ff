"""What the benchmarks beside other libraries make of what they measured: page, fastest, medians, differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from benchmarks.fidelity import models, record, report
from benchmarks.fidelity.peers import solved
from benchmarks.fidelity.peers.problem import Problem
from benchmarks.fidelity.plan import Measurement
from benchmarks.fidelity.speed import difference, disagreement, fastest, middle
from benchmarks.fidelity.tables import machines
from benchmarks.replay import report as replay_report
from benchmarks.tables import report as tables_report
from benchmarks.throughput import record as throughput_record
from torch import Tensor


def row(total: float, **more: Any) -> record.Row:
    return {"stages": {"total": total}, "memory": 10 * total, **more}


def test_the_page_is_what_the_record_says():
    found = record.load()
    drawn = [task for task in found["tasks"] if (report.PAGE.parent / f"{task}.png").exists()]
    assert report.PAGE.read_text(encoding="utf-8") == report.markdown(found, drawn)


def test_the_page_on_replay_is_what_its_record_says():
    found = throughput_record.load(replay_report.FILE)
    page = replay_report.FILE.parent / "RESULTS.md"
    assert page.read_text(encoding="utf-8") == replay_report.markdown(found)


def test_the_page_on_tables_is_what_its_record_says():
    found = throughput_record.load(tables_report.FILE)
    page = tables_report.FILE.parent / "RESULTS.md"
    assert page.read_text(encoding="utf-8") == tables_report.markdown(found)


def test_medians_over_runs_unless_one_failed():
    runs = [row(3.0), row(1.0), row(2.0)]
    assert middle(runs) == {**row(2.0), "repeats": 3}
    assert middle([*runs, {"failed": "no memory"}]) == {"failed": "no memory"}


def test_the_fastest_setting_of_each_peer_that_has_one():
    names = {("a", "slow"): row(2.0), ("a", "quick"): row(1.0), ("b", "only"): row(9.0), ("c", "none"): {"failed": ""}}
    trials = {Measurement("1-vs-7", *name): found for name, found in names.items()}
    assert [one.name for one in fastest(trials)] == ["a: quick", "b: only"]


def test_differences_are_those_of_the_worst_query(tmp_path: Path):
    theirs = np.array([[1.0, -4.0], [0.1, 0.2]])
    ours = theirs + np.array([[0.0, 0.4], [0.1, 0.0]])
    for name, values in (("ours", ours), ("theirs", theirs)):
        np.savez(tmp_path / name, factors=values, values=theirs)
    parts = difference(tmp_path / "ours.npz", tmp_path / "theirs.npz")
    assert parts == pytest.approx({"factors": 0.5, "values": 0.0})
    rows = {"ours": row(1.0, differences={"theirs": parts}), "theirs": row(2.0)}
    assert disagreement({"tasks": {}, "rows": {"1-vs-7": rows}}) == pytest.approx(0.5)
    assert disagreement({"tasks": {}, "rows": {}}) is None


def test_machines_are_named_once_where_they_are_the_same():
    one = {"processor": "P", "cores": 2, "threads": 1, "python": "3.11"}
    found = {"tasks": {"a": {"machine": one}, "b": {"machine": one}, "c": {"machine": {**one, "threads": 2}}}}
    assert machines(found, ["a", "b"]) == "P, 2 cores, 1 thread for each; Python 3.11"
    assert machines(found, ["a", "c"]).startswith("a: P, 2 cores, 1 thread for each; Python 3.11; c: P")


def test_one_output_is_a_logit():
    outputs, labels = torch.tensor([[0.3], [-2.0]]), torch.tensor([1.0, 0.0])
    expected = -F.logsigmoid(torch.tensor([0.3, 2.0]))
    torch.testing.assert_close(models.loss_of_outputs(outputs, labels), expected)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_few_queries_stand_for_all_where_they_are_solved_one_by_one(one_by_one: bool, monkeypatch: pytest.MonkeyPatch):
    asked, ticks = [], iter(range(100))
    monkeypatch.setattr(solved.time, "perf_counter", lambda: next(ticks))

    def prepare(given: Problem, tolerance: float) -> solved.Solved:
        asked.append((len(given.queries[0]), tolerance))
        return solved.Solved(lambda: given.queries[0], lambda factors: factors, {"report": 7})

    arrays, found = solved.measure(solved.Solver(prepare, one_by_one), problem(queries=20), options(few=5))
    count = 5 if one_by_one else 20
    assert asked == [(2, solved.LOOSE), (count, 1e-5)]
    assert len(arrays["factors"]) == count
    factors = 4 if one_by_one else 1
    assert {name: found["stages"][name] for name in ("fit", "factors", "values", "total")} == {
        **{"fit": 1, "factors": factors, "values": 1},
        "total": 2 + factors,
    }
    assert ("processor" in found["stages"]) is not one_by_one
    assert found["settings"]["report"] == "7"


def problem(queries: int) -> Problem:
    def examples(count: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(count, 784), torch.zeros(count)

    model = models.build("1-vs-7")
    nothing = np.zeros((0, 0))
    return Problem("1-vs-7", model, examples(30), examples(queries), 0.01, (), (), (), nothing, nothing)


def options(**given: Any) -> Any:
    return type("Options", (), {"tolerance": 1e-5, "limit": 60.0, "few": None, **given})
