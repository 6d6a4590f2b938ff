"""`upweight clean` applies what was decided in a store to a copy of its data, trains again and compares."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import explored
import upweight as uw
from upweight.explore import Contents, Session
from upweight.retraining import fit

from .conftest import Planted, Run, assert_self_contained
from .stores import LINEAR, NETWORK, decided, prices, refusal, study


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


def test_what_is_not_trained_again_is_not_said_to_be_trained(
    answer: Callable[..., dict[str, Any]], run: Run, tmp_path: Path
) -> None:
    answer("explore", study(tmp_path, **LINEAR), "--prepare")
    decided("mine.explore", exclude=(5,))
    told = run("clean", "mine.explore", "--no-retrain").output
    assert "0 labels changed, 1 example left out, of a copy of the data." in told
    assert "trained to the optimum" not in told
    assert "trained to the optimum" not in Path("upweight-report/clean.html").read_text()


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
    answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=60), "q": random.normal(size=60)})
    frame["y"] = np.where(frame["x"] + random.normal(size=60) > 0, "a", "b")
    frame["last"] = random.choice(["v", "w"], 60)
    frame.loc[7, "y"] = None
    frame.to_parquet(tmp_path / "pool.parquet")
    answer("explore", "pool.parquet", "--target", "y", "--queries", 5, "--prepare")
    rows = Contents("pool.explore").display.train.ids
    decided("pool.explore", relabel={0: "b" if frame["y"][rows[0]] == "a" else "a"}, exclude=(1,))
    written = answer("clean", "pool.explore", "--output", "out")["files"]["cleaned data"]
    assert written.endswith("clean.parquet")
    after = pd.read_parquet(written)
    left = frame.drop(index=rows[1])
    assert after.drop(columns="y").to_numpy().tolist() == left.drop(columns="y").to_numpy().tolist()
    assert after.columns.tolist() == ["x", "q", "y", "last"]
    changed = after["y"].fillna("").to_numpy() != left["y"].fillna("").to_numpy()
    assert left.index[changed].tolist() == [rows[0]]


def test_a_quantity_is_shown_decided_about_and_cleaned_in_its_own_units(
    answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    frame = prices(tmp_path / "prices.csv")
    found = answer("explore", "prices.csv", "--target", "price", "--queries", 7, "--prepare")
    assert (found["queries"], found["wrong"]) == (7, None)
    contents = Contents("prices.explore")
    train, queries = contents.display.train, contents.display.queries
    planted = {int(row): position for position, row in enumerate(train.ids) if row in (17, 40)}
    assert planted
    assert set(contents.train_order[: len(planted)].tolist()) == set(planted.values())
    assert train.facts["value"].tolist() == frame["price"][train.ids].tolist()
    assert train.facts["line"].tolist() == (train.ids + 2).tolist()
    for side in (train, queries):
        gaps = side.facts["value"] - side.facts["prediction"]
        assert side.facts["residual"].tolist() == pytest.approx(gaps.tolist())
        assert side.facts["loss"].tolist() == pytest.approx((gaps**2 / 2).tolist())
    assert np.diff(queries.facts["loss"][contents.query_order]).max() <= 0

    session = Session(contents, "me")
    row, position = next(iter(planted.items()))
    session.look(position)
    made = session.decide("relabel")
    assert float(made.old) == frame["price"][row]
    assert float(made.new) == pytest.approx(frame["price"].drop([17, 40]).mean(), rel=1)
    assert len(made.new.partition(".")[2]) <= 2  # as many decimals as the column has
    session.look((position + 1) % len(train))
    with pytest.raises(uw.InputError, match="'a lot' is no value of a quantity; give a finite number"):
        session.decide("relabel", "a lot")
    given = session.decide("relabel", "1500")
    session.look((position + 2) % len(train))
    excluded = int(train.ids[(position + 2) % len(train)])
    session.decide("exclude")

    cleaned = answer("clean", "prices.explore", "--output", "out")
    before = (tmp_path / "prices.csv").read_text().splitlines()
    after = Path(cleaned["files"]["cleaned data"]).read_text().splitlines()
    del before[excluded + 1]
    changed = {one: two for one, two in zip(before, after, strict=True) if one != two}
    assert len(changed) == 2
    assert {two.split(";")[-1] for two in changed.values()} == {"1500,00 €", f"{made.new} €".replace(".", ",")}
    assert given.new == "1500"

    assert [each["name"] for each in cleaned["figures"]] == ["mean absolute error", "root mean square error"]
    held_out = np.setdiff1d(np.arange(len(frame)), train.ids)
    assert len(held_out) == 24
    for figure in cleaned["figures"]:
        assert figure["interval"][0] <= figure["change"] <= figure["interval"][1]
        assert figure["change"] == pytest.approx(figure["after"] - figure["before"])
    assert "line" in Path(cleaned["files"]["report"]).read_text()
    assert "value before" in Path(cleaned["files"]["report"]).read_text()


def test_the_errors_that_are_compared_are_those_of_the_model_trained_on_the_cleaned_rows(
    answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    from upweight.cli.csv_source import split
    from upweight.tabular import read_labelled, train

    prices(tmp_path / "prices.csv")
    answer("explore", "prices.csv", "--target", "price", "--queries", 7, "--prepare")
    decided("prices.explore", relabel={3: "2000"}, exclude=(5,))
    found = answer("clean", "prices.explore", "--output", "out")
    whole, held_out = split(read_labelled(tmp_path / "prices.csv", "price"), [], 0)
    whole.labels[3] = 2000
    model = train(whole.take(np.setdiff1d(np.arange(len(whole)), [5])))
    x, y = model.queries(held_out)
    errors = model.objective.outputs((x, y)).reshape(-1).numpy() - y
    told = {each["name"]: each["after"] for each in found["figures"]}
    assert told["mean absolute error"] == pytest.approx(np.abs(errors).mean(), rel=1e-6)
    assert told["root mean square error"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-6)
