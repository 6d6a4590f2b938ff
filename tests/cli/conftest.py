"""Tables with planted label errors, and a runner of the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from typer.testing import CliRunner, Result

from upweight.cli.app import app
from upweight.report.page import acting

Run = Callable[..., Result]


@dataclass(frozen=True)
class Planted:
    """A CSV and the rows whose labels are wrong."""

    path: Path
    errors: frozenset[int]


def plant(frame: pd.DataFrame, names: list[str], path: Path) -> Planted:
    random = np.random.default_rng(0)
    wrong = random.choice(len(frame), len(frame) // 20, replace=False)
    for row in wrong:
        others = [name for name in names if name != frame.loc[row, "target"]]
        frame.loc[row, "target"] = random.choice(others)
    frame.to_csv(path, index=False)
    return Planted(path, frozenset(wrong.tolist()))


@pytest.fixture(scope="session")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    data = load_breast_cancer(as_frame=True)
    names = data.target_names.tolist()
    frame = data.frame.assign(target=[names[label] for label in data.target])
    return plant(frame, names, tmp_path_factory.mktemp("csv") / "cancer.csv")


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    data = load_iris(as_frame=True)
    names = data.target_names.tolist()
    frame = data.frame.assign(target=[names[label] for label in data.target], plot=["a", "b", "c"] * 50)
    return plant(frame, names, tmp_path_factory.mktemp("csv") / "iris.csv")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in an empty folder at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def answer(run: Run) -> Callable[..., dict[str, Any]]:
    """Run a command with --json and read its answer; nothing else may stand on the output."""

    def ask(*arguments: object) -> dict[str, Any]:
        result = run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    return ask


def assert_self_contained(path: Path) -> None:
    """A report loads nothing from elsewhere."""
    page = path.read_text()
    assert page.lower().startswith("<!doctype html>")
    assert 'src="http' not in page
    assert 'href="http' not in page
    script, digest = acting(sorting=True, filtering='type="search"' in page)
    scripts = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    assert page.count("<script") == len(scripts)
    assert scripts in ([], [script])
    assert (f"script-src 'sha256-{digest}'" in page) == bool(scripts)
