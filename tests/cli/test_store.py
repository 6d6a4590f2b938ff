"""`upweight query` and `info` read a store alone: neither the study nor its model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from upweight.cli.job_columns import columns, kept
from upweight.stored import Stored
from upweight.study import load

from .conftest import Run
from .jobs import write

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")

Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def stored(run: Run, tmp_path: Path) -> Stored:
    """A finished store, and no study any more."""
    study = write(tmp_path)
    result = run("attribute", study, "-o", "store", "--shard-size", 7)
    assert result.exit_code == 0, result.output
    study.unlink()
    return Stored.open(tmp_path / "store")


def test_queries_by_id_or_position(stored: Stored, answer: Answer) -> None:
    found = answer("query", "store", "q4", "1", "--top", 3)
    assert [each["query"] for each in found["queries"]] == ["q4", "q1"]
    assert [each["position"] for each in found["queries"]] == [4, 1]
    first = found["queries"][0]
    best, worst = stored.top(3, "q4"), stored.bottom(3, "q4")
    assert [row["position"] for row in first["helpful"]] == best.positions[0].tolist()
    assert [row["rank"] for row in first["helpful"]] == [1, 2, 3]
    assert [row["score"] for row in first["harmful"]] == pytest.approx(worst.scores[0].tolist())
    assert first["helpful"][0]["text"] == f"text {best.positions[0, 0]}"
    assert found["quantity"]["name"] == "removal"
    assert len(answer("query", "store")["queries"]) == 3


def test_the_terminal_shows_what_fits(stored: Stored, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("query", "store", "q2", "-n", 2).stdout
    assert "Query q2: helpful and harmful" in shown
    assert f"text {stored.top(1, 'q2').positions[0, 0]} " in shown
    assert "length" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "first 3 of 6 queries" in run("query", "store").stdout
    monkeypatch.setenv("COLUMNS", "38")
    narrow = run("query", "store", "q2").stdout
    assert "too wide" in narrow
    assert max(map(len, narrow.splitlines())) <= 38


def test_files(stored: Stored, run: Run, answer: Answer, tmp_path: Path) -> None:
    assert answer("query", "store", "--to", "all.npy")["files"] == {"scores": "all.npy"}
    everything = stored.scores.read(slice(None), slice(None))
    assert np.array_equal(np.load(tmp_path / "all.npy"), everything)
    answer("query", "store", "q3", "q1", "--to", "two.npy")
    assert np.array_equal(np.load(tmp_path / "two.npy"), everything[[3, 1]])
    answer("query", "store", "--to", "all.csv")
    frame = pd.read_csv(tmp_path / "all.csv")
    assert len(frame) == 240
    np.testing.assert_allclose(frame["score"], everything.reshape(-1), rtol=1e-5)
    answer("query", "store", "q5", "--to", "few.parquet", "--top", 2)
    few = pd.read_parquet(tmp_path / "few.parquet")
    assert few["rank"].tolist() == [1, 2, -1, -2]
    assert set(few["query"]) == {"q5"}
    assert "is there already" in refused(run, "query", "store", "--to", "all.csv")
    answer("query", "store", "--to", "all.csv", "--top", 1, "--force")
    assert len(pd.read_csv(tmp_path / "all.csv")) == 12


def test_text_of_a_csv_is_never_a_formula(run: Run, answer: Answer, tmp_path: Path) -> None:
    study = write(tmp_path)
    study.write_text(study.read_text().replace('f"text {k}"', 'f"=text{k}"'))
    assert run("attribute", study, "-o", "store").exit_code == 0
    answer("query", "store", "--to", "all.csv", "--top", 1)
    assert pd.read_csv(tmp_path / "all.csv")["text"].str.startswith("'=").all()


def refused(run: Run, *arguments: object) -> str:
    result = run(*arguments, "--json")
    assert result.exit_code == 1, result.output
    message: str = json.loads(result.stdout)["error"]["message"]
    return message


def test_what_there_is_not_is_refused(stored: Stored, run: Run, tmp_path: Path) -> None:
    assert "'q9' is neither an id (q0, q1, q2 …) nor a position (0 … 5)" in refused(run, "query", "store", "q9")
    assert "'6' is neither" in refused(run, "query", "store", "6")
    assert "ends in none of .csv" in refused(run, "query", "store", "--to", "all.xlsx")
    assert "leave --top out" in refused(run, "query", "store", "--to", "all.npy", "--top", 2)
    for command in ("query", "info", "resume", "clean", "explore"):
        (tmp_path / "none").mkdir(exist_ok=True)
        message = refused(run, command, "none")
        assert message.startswith("DIR: ")
        assert "none holds no store (it has no store.json); give the folder where `upweight attribute`" in message
    write(tmp_path)
    assert run("attribute", "mine.py", "-o", "few", "--top-k", 2).exit_code == 0
    assert "keeps 2 of each side" in refused(run, "query", "few", "--top", 3)
    assert "2 largest and smallest" in refused(run, "query", "few", "--to", "few.npy")
    assert not (tmp_path / "few.npy").exists()
    assert run("attribute", "mine.py", "-o", "own", "--self-influence").exit_code == 0
    assert "has no queries; leave 3 out" in refused(run, "query", "own", "3")


def test_self_influence_and_few(run: Run, answer: Answer, tmp_path: Path) -> None:
    write(tmp_path)
    assert run("attribute", "mine.py", "-o", "own", "--self-influence", "--top-k", 2).exit_code == 0
    own = Stored.open(tmp_path / "own")
    (only,) = answer("query", "own")["queries"]
    named = next(iter(only))
    assert [row["position"] for row in only[named]] == own.top(2).positions[0].tolist()
    assert str(own.top(1).positions[0, 0].item()) in run("query", "own").stdout
    answer("query", "own", "--to", "own.csv")
    assert len(pd.read_csv(tmp_path / "own.csv")) == 4


def test_info_of_a_finished_job(stored: Stored, run: Run, answer: Answer, tmp_path: Path) -> None:
    found = answer("info", "store")
    assert found["state"] == "finished"
    assert found["shards"] == {"done": 6, "total": 6}
    assert found["examples"] == {"done": 40, "total": 40}
    assert found["seconds_left"] == 0
    assert found["worked_on_by"] is None
    assert found["examples_per_second"] > 0
    assert found["bytes"] == sum(path.stat().st_size for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert found["fingerprints"] == stored.said["fingerprints"]
    assert found["options"]["shard_size"] == 7
    assert "damaged" not in found
    shown = run("info", "store", "--verify")
    assert shown.exit_code == 0
    assert "Every block is whole." in shown.stdout
    assert "6 of 6" in shown.stdout
    assert answer("info", "store", "--verify")["damaged"] == {}


def test_damaged_blocks_are_listed_and_done_anew(stored: Stored, run: Run, tmp_path: Path) -> None:
    block = tmp_path / "store" / "scores" / "c" / "0" / "2"
    kept = block.read_bytes()
    block.write_bytes(kept[:-1])
    (tmp_path / "store" / "blocks" / "column-0-000000").unlink()
    (tmp_path / "store" / "committed" / "scores-000004.json").unlink()
    shown = run("info", "store", "--verify", "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["damaged"] == {
        "column-0-000000": "is missing",
        "scores-000002": f"has {len(kept) - 1} bytes instead of {len(kept)}",
        "scores-000004": "is not committed",
    }
    shown = run("info", "store", "--verify")
    assert shown.exit_code == 1
    assert "3 damaged blocks" in shown.stdout
    assert "upweight resume" in shown.stdout
    write(tmp_path)
    assert run("resume", "store").exit_code == 0
    assert block.read_bytes() == kept
    assert run("info", "store", "--verify").exit_code == 0


def test_a_column_of_any_kind_is_kept() -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", None],
            "mixed": [1, "b"],
            "gaps": pd.array([1, None], dtype="Int64"),
            "whole": pd.array([1, 2], dtype="Int64"),
            "flag": [True, False],
            "category": pd.Categorical(["x", "y"]),
            "time": pd.to_datetime(["2020-01-01", "2021-01-01"]),
            "number": [0.5, np.nan],
        }
    )
    found = {name: kept(frame[name]) for name in frame.columns}
    assert found["text"].tolist() == ["a", ""]
    assert found["mixed"].tolist() == ["1", "b"]
    assert found["gaps"][0] == 1
    assert np.isnan(found["gaps"][1])
    assert found["whole"].dtype.kind == "i"
    assert found["flag"].dtype.kind == "b"
    assert found["category"].tolist() == ["x", "y"]
    assert found["time"].dtype.kind == "M"
    assert found["number"].dtype.kind == "f"


def test_labels_are_a_column_where_data_are_arrays(tmp_path: Path) -> None:
    study = load(write(tmp_path, data="(x, y), class_names=['a', 'b', 'c']"))
    found = columns(study, None)
    assert list(found) == ["label", "text", "length"]
    assert set(found["label"].tolist()) == {"a", "b", "c"}
    assert list(columns(study, ["label"])) == ["label"]
    assert columns(study, ["none"]) == {}
    assert list(columns(load(write(tmp_path)), None)) == ["text", "length"]
