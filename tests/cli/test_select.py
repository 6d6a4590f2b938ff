"""`upweight select`, on a CSV and on a study file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from .conftest import Planted, Run, assert_self_contained

Ask = Callable[..., dict[str, Any]]

STUDY = """
import torch
from sklearn.datasets import load_iris
import upweight as uw
from upweight.retraining import fit
from upweight.study import Study

def study():
    features, labels = load_iris(return_X_y=True)
    wrong = labels.copy()
    wrong[::10] = (wrong[::10] + 1) % 3
    model = torch.nn.Linear(4, 3, dtype=torch.float64)
    objective = fit(uw.Objective(model, uw.losses.CrossEntropy(), (features, wrong), l2=0.01))
    return Study(objective, (features[1::5], labels[1::5]))
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "my_study.py"
    path.write_text(STUDY)
    return path


def test_examples_with_wrong_labels_are_left_out(study: Path, answer: Ask) -> None:
    found = answer("select", study, "-k", 90, "--top", 3)
    assert found["chosen"] == len(found["ids"]) == 90
    assert found["pool"] == 150
    assert found["reference"] == 30
    assert sum(name % 10 == 0 for name in found["ids"]) <= 3
    assert [each["rank"] for each in found["top"]] == [1, 2, 3]
    table = pd.read_csv(found["files"]["selection"])
    assert table["example"].tolist() == found["ids"]
    assert_self_contained(Path(found["files"]["report"]))


def test_of_a_table_a_fifth_is_the_reference_set(iris: Planted, run: Run, answer: Ask) -> None:
    found = answer("select", iris.path, "-t", "target", "-k", 20, "--method", "similarity", "--diversity", 0.5)
    assert (found["pool"], found["reference"], found["chosen"]) == (120, 30, 20)
    table = pd.read_csv(found["files"]["selection"])
    assert {"rank", "row", "score", "target"} <= set(table.columns)
    result = run("select", iris.path, "-t", "target", "-k", 20, "--force")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines()[:-4])) <= 80


def test_more_than_there_are_are_refused(study: Path, run: Run) -> None:
    result = run("select", study, "-k", 151)
    assert result.exit_code != 0
    assert "k: give a whole number from 1 to 150" in " ".join(result.output.split())


def test_of_a_large_reference_set_as_many_are_drawn_as_scores_fit(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    frame = pd.DataFrame({"x": x, "y": np.where(x + random.normal(size=200) > 0, "a", "b")})
    frame.to_csv(tmp_path / "large.csv", index=False)
    monkeypatch.setattr("upweight.cli.select.MOST_SCORES", 160 * 12)
    found = json.loads(run("select", "large.csv", "-t", "y", "-k", 3, "--json").stdout)
    assert found["reference"] == 12
    assert found["warnings"][0].startswith("reference: 12 of its 40 rows were drawn by chance (seed 0)")
