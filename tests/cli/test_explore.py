"""`upweight explore` makes its stores of studies and tables, or opens them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upweight.explore import Contents

from .conftest import Run
from .stores import LINEAR, decided, prices, refusal, study


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


def test_models_weights_groups_and_estimators_mean_what_they_mean_to_label_errors(
    answer: Callable[..., dict[str, Any]], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices(tmp_path / "p.csv", 60).assign(group=np.arange(60) // 4).to_csv(tmp_path / "p.csv", index=False)
    (tmp_path / "mine_to_explore.py").write_text(
        "from sklearn.compose import TransformedTargetRegressor as Transformed\n"
        "from sklearn.linear_model import Ridge\nfrom sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\nimport numpy as np\n"
        "def ridge():\n    return make_pipeline(StandardScaler(), Ridge())\n"
        "def log():\n    return Transformed(ridge(), func=np.log, inverse_func=np.exp)\n"
    )
    asked = ("p.csv", "--target", "price", "--columns", "area", "--columns", "rooms", "--queries", 3, "--prepare")
    own = (*asked, "--weight", "times", "--group", "group", "--estimator", "mine_to_explore:ridge", "--store", "own")
    answer("explore", *own)
    contents = Contents("own")
    train = contents.display.train
    groups = {int(row) // 4 for row in train.ids}
    assert not groups & {int(row) // 4 for row in contents.display.queries.ids}
    assert "other options" in refusal(run, "explore", *own[:-2], "--weight", "rooms", "--store", "own")
    decided("own", exclude=(1,))
    monkeypatch.chdir(tmp_path.parent)  # the estimator is found where the store was made
    found = answer("clean", tmp_path / "own", "--output", tmp_path / "out")
    assert found["retrained"]
    monkeypatch.chdir(tmp_path)
    assert "as it transforms it" in refusal(run, "explore", *asked, "--estimator", "mine_to_explore:log")
    same = ("p.csv", "--target", "price", "--model", "logistic")
    assert refusal(run, "explore", *same, "--prepare") == refusal(run, "label-errors", *same)
    answer("explore", *asked, "--model", "mlp", "--store", "net")
    facts = Contents("net").display.train.facts
    assert np.corrcoef(facts["value"], facts["prediction"])[0, 1] > 0.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explore"], "--demo alone"),
        (["explore", "nowhere", "--prepare"], "there is no such store, study file or CSV"),
        (["explore", "x.csv", "--prepare"], "--target"),
        (["explore", "folder", "--store", "other", "--prepare"], "leave --store out"),
        (["explore", "folder", "--prepare"], "no store"),
        (["explore", "folder", "--target", "y", "--prepare"], "--target: folder is a store itself"),
        (["explore", "folder", "--model", "mlp", "--prepare"], "--model: folder is a store itself"),
        (["explore", "mine.py", "--target", "y", "--prepare"], "--target: is for CSV files"),
        (["explore", "mine.py", "--weight", "y", "--prepare"], "--weight: is for CSV files"),
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
