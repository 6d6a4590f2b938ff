"""`upweight explore` makes its stores, and `upweight clean` applies what was decided there."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import explored
import upweight as uw
from cli.conftest import Planted, Run, assert_self_contained
from upweight.explore import Contents, Session
from upweight.retraining import fit

STUDY = """
import numpy as np, pandas as pd, torch
import upweight as uw
from upweight import retraining
N = 60
def study():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N + 40, 3, generator=generator, dtype=torch.float64)
    y = (x @ torch.tensor([[2.0, -1.0, 0.0], [0.0, 1.0, -1.0], [-1.0, 0.0, 2.0]], dtype=torch.float64)).argmax(1)
    y[:6] = (y[:6] + 1) % 3
    model = {model}
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x[:N], y[:N]), l2=0.01)
    table = pd.DataFrame({{"note": [f"=1+{{k}}" for k in range(N)]}})
    return uw.Study({fitted}, (x[N:], y[N:]), class_names=["a", "b", "c"], table=table{more})
{rest}
"""
LINEAR = {
    "model": "torch.nn.Linear(3, 3, dtype=torch.float64)",
    "fitted": "retraining.fit(objective)",
    "more": "",
    "rest": "",
}
NETWORK = {
    "model": "torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()",
    "fitted": "objective", "more": "", "rest": "",
}  # fmt: skip


def study(folder: Path, **parts: str) -> Path:
    path = folder / "mine.py"
    path.write_text(textwrap.dedent(STUDY).format(**parts))
    return path


def decided(store: str | Path, *, relabel: dict[int, str] | None = None, exclude: tuple[int, ...] = ()) -> Contents:
    contents = Contents(store)
    session = Session(contents, "me")
    for position, label in (relabel or {}).items():
        session.look(position)
        session.decide("relabel", label)
    for position in exclude:
        session.look(position)
        session.decide("exclude")
    return contents


def refusal(run: Run, *words: object) -> str:
    result = run(*words, "--json")
    assert result.exit_code == 1
    return str(json.loads(result.stdout)["error"]["message"])


def test_a_study_becomes_a_store_that_is_opened_as_it_is(
    run: Run, answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = study(tmp_path, **LINEAR)
    found = answer("explore", path, "--prepare")
    assert found["training examples"] == 60
    assert found["queries"] == 40
    contents = Contents("mine.explore")
    assert len(set(contents.train_order[:8].tolist()) & set(range(6))) >= 4
    assert contents.display.title == "mine.py"
    assert contents.display.train.on_map
    before = (tmp_path / "mine.explore" / "display.json").read_bytes()
    assert answer("explore", path, "--prepare")["queries"] == 40
    assert answer("explore", "mine.explore", "--prepare")["queries"] == 40
    assert (tmp_path / "mine.explore" / "display.json").read_bytes() == before


def test_a_store_of_attribute_gets_what_is_shown_beside_it(
    run: Run, answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = study(tmp_path, **LINEAR)
    answer("attribute", path, "--out", "few", "--top-k", 9)
    assert Contents("few").is_bare
    answer("explore", path, "--store", "few", "--prepare")
    contents = Contents("few")
    assert not contents.is_bare
    assert contents.stored.top_k == 9
    (tmp_path / "b").mkdir()
    assert "was begun with" in refusal(run, "explore", study(tmp_path / "b", **LINEAR), "--store", "few", "--prepare")


def test_cleaning_a_study_is_training_it_on_the_cleaned_data(
    answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = study(tmp_path, **LINEAR)
    answer("explore", path, "--prepare")
    names = ["a", "b", "c"]
    labels = Contents("mine.explore").display.train.facts["label"].tolist()
    truth = {k: names[(names.index(labels[k]) - 1) % 3] for k in range(5)}
    decided("mine.explore", relabel=truth, exclude=(5, 40))
    found = answer("clean", "mine.explore", "--output", "out")
    assert (found["relabelled"], found["excluded"], found["retrained"]) == (5, 2, True)

    one = uw.study.load(path)
    x, y = one.objective.data.take(range(60))
    for k, label in truth.items():
        y[k] = names.index(label)
    left = [k for k in range(60) if k not in (5, 40)]
    after = fit(one.objective.replace(data=(x[left], y[left])))
    for figure, values in (("mean loss", lambda o: o.losses(one.queries)), ("accuracy", lambda o: (o.outputs(one.queries).argmax(1) == one.queries[1]).double())):  # noqa: E501  # fmt: skip
        told = next(each for each in found["figures"] if each["name"] == figure)
        assert told["before"] == pytest.approx(float(values(one.objective).mean()), abs=1e-6)
        assert told["after"] == pytest.approx(float(values(after).mean()), abs=1e-6)
        assert told["interval"][0] <= told["change"] <= told["interval"][1]
    assert next(each for each in found["figures"] if each["name"] == "mean loss")["verdict"] == "better"

    kept = pd.read_csv(found["files"]["cleaned data"])
    assert kept["position"].tolist() == left
    assert kept["label"].tolist() == [truth.get(k, labels[k]) for k in left]
    assert kept["note"].str.startswith("'=").all()
    arrays = np.load(found["files"]["cleaned arrays"])
    assert (arrays["inputs"] == x[left].numpy()).all()
    assert (arrays["targets"] == y[left].numpy()).all()
    assert_self_contained(Path(found["files"]["report"]))
    assert "relabel" in Path(found["files"]["report"]).read_text()
    assert json.loads((tmp_path / "mine.explore" / "cleaned.json").read_bytes().partition(b"\n")[2])["excluded"] == 2
    assert (tmp_path / "mine.explore" / "decisions.parquet").is_file()


def test_a_network_without_retrain_gets_its_data_and_is_told_so(
    answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    answer("explore", study(tmp_path, **NETWORK), "--prepare")
    decided("mine.explore", exclude=(3,))
    found = answer("clean", "mine.explore")
    assert not found["retrained"]
    assert "Study(retrain=…)" in " ".join(found["notes"])
    assert "not trained again" in found["verdict"]
    assert len(pd.read_csv(found["files"]["cleaned data"])) == 59


def test_a_network_is_trained_by_its_own_retrain_before_and_after(
    answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rest = """
def again(objective):
    with open("trained.txt", "a") as file:
        file.write(f"{objective.n} ")
    return objective
"""
    answer("explore", study(tmp_path, **{**NETWORK, "more": ", retrain=again", "rest": rest}), "--prepare")
    decided("mine.explore", exclude=(3, 4))
    found = answer("clean", "mine.explore")
    assert (tmp_path / "trained.txt").read_text() == "60 58 "
    assert found["retrained"]
    assert all(each["change"] == 0 for each in found["figures"])
    assert "no difference that could not be chance" in found["verdict"]


def test_a_retraining_that_fails_keeps_decisions_and_data(
    run: Run, answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rest = "\ndef again(objective):\n    raise RuntimeError('out of luck')\n"
    answer("explore", study(tmp_path, **{**NETWORK, "more": ", retrain=again", "rest": rest}), "--prepare")
    decided("mine.explore", exclude=(3,))
    message = refusal(run, "clean", "mine.explore", "--output", "out")
    assert message.startswith(
        "retraining failed (RuntimeError: out of luck); the decisions are kept, and the cleaned data"
    )
    assert set(Contents("mine.explore").decisions.standing()) == {3}
    assert len(pd.read_csv(tmp_path / "out" / "clean.csv")) == 59


def test_data_that_have_changed_are_not_cleaned(
    run: Run, answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = study(tmp_path, **LINEAR)
    answer("explore", path, "--prepare")
    assert "nothing is decided" in refusal(run, "clean", "mine.explore")
    decided("mine.explore", exclude=(3,))
    path.write_text(path.read_text().replace("manual_seed(0)", "manual_seed(1)"))
    assert "gives other training data now" in refusal(run, "clean", "mine.explore")
    path.unlink()
    assert "is no more" in refusal(run, "clean", "mine.explore")


def test_a_store_of_a_program_can_t_be_cleaned_and_says_where_its_decisions_are(run: Run, tmp_path: Path) -> None:
    one = explored.problem()
    uw.Influence(one.objective).attribute(one.queries, store="mine", columns={})
    decided("mine", exclude=(3,))
    assert "decisions.parquet" in refusal(run, "clean", "mine")
    assert (tmp_path / "mine" / "decisions.parquet").is_file()


def test_a_csv_is_cleaned_row_by_row_and_nothing_else_in_it_changes(
    answer: Callable[..., dict[str, Any]], run: Run, cancer: Planted, tmp_path: Path
) -> None:
    source = Path(shutil.copy(cancer.path, tmp_path / "cancer.csv"))
    answer("explore", source, "--target", "target", "--queries", 30, "--prepare")
    contents = Contents("cancer.explore")
    assert len(contents.display.queries) == 30
    assert contents.display.noun == "row"
    assert set(contents.display.queries.own) >= {"mean radius"}
    rows = contents.display.train.ids
    suspicious = contents.train_order[:12].tolist()
    assert len({int(rows[k]) for k in suspicious} & cancer.errors) >= 8
    planted = [k for k in suspicious if int(rows[k]) in cancer.errors]
    names = set(contents.display.train.facts["label"])
    other = {k: next(iter(names - {contents.display.train.facts["label"][k]})) for k in planted}
    decided("cancer.explore", relabel=other, exclude=(int(np.flatnonzero(rows == rows[-1])[0]),))
    found = answer("clean", "cancer.explore", "--output", "out")
    before, after = source.read_text().splitlines(), Path(found["files"]["cleaned data"]).read_text().splitlines()
    assert len(after) == len(before) - 1
    del before[int(rows[-1]) + 1]
    changed = {number for number, (one, two) in enumerate(zip(before, after, strict=True)) if one != two}
    assert changed == {int(rows[k]) + 1 for k in planted}
    assert found["retrained"]
    assert [each["name"] for each in found["figures"]] == ["accuracy", "mean loss"]

    assert "other options" in refusal(run, "explore", source, "--target", "target", "--queries", 31, "--prepare")
    source.write_text(source.read_text() + "\n")
    assert "has changed since" in refusal(run, "clean", "cancer.explore")


def test_a_table_that_is_no_text_is_cleaned_by_its_columns(
    answer: Callable[..., dict[str, Any]], run: Run, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=60), "q": random.normal(size=60)})
    frame["y"] = np.where(frame["x"] + random.normal(size=60) > 0, "a", "b")
    frame["last"] = random.choice(["v", "w"], 60)
    frame.loc[7, "y"] = None
    frame.to_parquet(tmp_path / "pool.parquet")
    refused = refusal(run, "explore", "pool.parquet", "--target", "q", "--prepare")
    assert "is text or an identifier" in refused
    assert "of a quantity, `upweight explore` takes classes alone" in refused
    assert "--task" not in refused
    answer("explore", "pool.parquet", "--target", "y", "--queries", 5, "--prepare")
    rows = Contents("pool.explore").display.train.ids
    decided("pool.explore", relabel={0: "b" if frame["y"][rows[0]] == "a" else "a"}, exclude=(1,))
    after = pd.read_csv(answer("clean", "pool.explore", "--output", "out")["files"]["cleaned data"])
    left = frame.drop(index=rows[1])
    assert after.columns.tolist() == ["x", "q", "y", "last"]
    assert after["last"].tolist() == left["last"].tolist()
    assert after["x"].tolist() == pytest.approx(left["x"].tolist())
    changed = after["y"].fillna("").to_numpy() != left["y"].fillna("").to_numpy()
    assert left.index[changed].tolist() == [rows[0]]


def test_a_quantity_is_sent_to_the_command_that_takes_it(run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=300), "price": np.resize(np.arange(140) / 8, 300)})
    frame.to_csv(tmp_path / "prices.csv", index=False)
    refused = refusal(run, "explore", "prices.csv", "--target", "price", "--prepare")
    assert "a quantity rather than a class" in refused
    assert "`upweight label-errors FILE --target COLUMN` quantities too, or cut it into classes" in refused
    assert "--task" not in refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explore"], "--demo alone"),
        (["explore", "nowhere", "--prepare"], "there is no such store, study file or CSV"),
        (["explore", "x.csv", "--prepare"], "--target"),
        (["explore", "folder", "--store", "other", "--prepare"], "leave --store out"),
        (["explore", "folder", "--prepare"], "no store"),
        (["explore", "mine.py", "--target", "y", "--prepare"], "are for CSV files"),
        (["clean", "folder"], "no store"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    study(tmp_path, **LINEAR)
    result = run(*words, "--json")
    assert result.exit_code != 0
    assert said in result.stdout
