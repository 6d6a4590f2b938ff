"""`upweight attack` on a study with a network, `upweight compare` on two studies of the same examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run, assert_self_contained

Ask = Callable[..., dict[str, Any]]
EXAMPLE = Path(__file__).parents[2] / "examples" / "digits_attack_study.py"
QUICK = ("--step", 0.2, "--iterations", 3)

STUDY = """
import torch
from sklearn.datasets import load_iris
import upweight as uw
from upweight.retraining import fit
from upweight.study import Study

def study():
    features, labels = load_iris(return_X_y=True)
    features = FORM
    model = torch.nn.Linear(features.shape[1], 3, dtype=torch.float64)
    objective = fit(uw.Objective(model, uw.losses.CrossEntropy(), (features, labels), l2=0.01))
    return Study(objective, (features[::5], labels[::5]), class_names=["a", "b", "c"])
"""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.py"
    path.write_text(STUDY.replace("FORM", "features"))
    return path


def test_attacks_the_digits_and_writes_a_report(answer: Ask, tmp_path: Path) -> None:
    found = answer("attack", EXAMPLE, "--count", 5, "--queries", 2, *QUICK)
    assert found["predictions attacked"] == 2
    assert found["flipped"] == sum(one["flipped"] for one in found["attacks"])
    assert all(one["p_after"] < one["p_before"] for one in found["attacks"])
    assert 0 < found["largest change (levels of 255)"] < 0.5
    assert found["levers"][0]["first"] >= 1
    page = Path(found["files"]["report"])
    assert_self_contained(page)
    assert "How attackable?" in page.read_text()
    kept = sorted((tmp_path / page.parent / "attacks").glob("*.pt"))
    stamps = [path.stat().st_mtime_ns for path in kept]
    again = answer("attack", EXAMPLE, "--count", 5, "--queries", 2, *QUICK)
    assert again["attacks"] == found["attacks"]
    assert [path.stat().st_mtime_ns for path in kept] == stamps


def test_attacks_several_queries_together(run: Run) -> None:
    result = run("attack", EXAMPLE, "--queries", 3, "--together", *QUICK)
    assert result.exit_code == 0, result.output
    assert "of 3 predictions flipped by changing 1 training image" in result.stdout
    assert "Strongest levers" in result.stdout


def test_attack_refuses_what_cannot_be_attacked(run: Run, plain: Path) -> None:
    result = run("attack", plain)
    assert result.exit_code == 1
    assert "gives no network" in " ".join(result.stderr.replace("│", "").split())
    told = json.loads(run("attack", EXAMPLE, "--radius", 0.5, "--json").stdout)["error"]
    assert told["kind"] == "InputError"
    assert "rounding may change a byte" in told["message"]


def test_compares_two_models_of_the_same_examples(answer: Ask, run: Run, plain: Path, tmp_path: Path) -> None:
    other = tmp_path / "squared.py"
    other.write_text(STUDY.replace("FORM", "features**2"))
    found = answer("compare", plain, other, "--query", 3)
    assert [model["model"] for model in found["models"]] == ["plain.py", "squared.py"]
    assert all(-1 <= model["ρ"] <= 1 and 0 < model["same class of 20"] <= 1 for model in found["models"])
    page = Path(found["files"]["report"])
    assert_self_contained(page)
    assert "What did they learn it from?" in page.read_text()
    assert "Means over 30 queries" in run("compare", plain, other).stdout
    assert "give two or more files" in run("compare", plain).stderr


def test_explains_by_distance_too(answer: Ask, plain: Path) -> None:
    found = answer("explain", plain, "--query", 3)
    assert set(found["distance"]) == {
        "ρ of |influence| with distance",
        "the same among examples with influence",
        "same class among the 20 most helpful",
    }
    assert "Influence and distance" in Path(found["files"]["report"]).read_text()
