"""`upweight replay`: the training that a study file declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from .conftest import Run, assert_self_contained

Ask = Callable[..., dict[str, Any]]

STUDY = """
import torch
import upweight as uw

def replay():
    torch.manual_seed(0)
    x, y = torch.randn(12, 3), torch.arange(12) % 3
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    return uw.Replay(
        model, uw.losses.CrossEntropy(), (x, y), optimizer=torch.optim.AdamW(model.parameters(), eps=1e-4),
        epochs=2, batch_size=4, ids=[f"e{k}" for k in range(12)],
    )

def study():
    x, y = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), torch.arange(5) % 3
    return uw.Study(replay().objective(), (x, y), query_ids=list("abcde"))
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "my_study.py"
    path.write_text(STUDY)
    return path


def test_scores_of_a_declared_training(study: Path, answer: Ask, run: Run) -> None:
    found = answer("replay", study, "--first", 2, "--weight", 0.5, "--seed", 0, "--seed", 1, "--top", 3)
    assert found["queries"] == ["a", "b"]
    assert found["facts"]["weight"] == 0.5
    assert found["facts"]["seeds"] == 2
    assert found["quantity"]["name"] == "removal by replay"
    table = pd.read_csv(found["files"]["scores"])
    assert table["example"].tolist() == [f"e{k}" for k in range(12)]
    best = table.sort_values("query a", ascending=False)["example"].tolist()[:3]
    assert [each["id"] for each in found["helpful"][0]] == best
    assert_self_contained(Path(found["files"]["report"]))
    stored = run("replay", study, "--first", 2, "--store", "states", "--no-smoothness")
    assert stored.exit_code == 0, stored.output
    assert "metasmoothness not measured" in " ".join(stored.stdout.split())
    assert (Path("states") / "store.json").exists()


def test_what_declares_no_training_is_refused(tmp_path: Path, run: Run) -> None:
    for body, words in ((STUDY.replace("def replay", "def other"), "defines no 'replay'"), ("replay = 3\n", "'study'")):
        path = tmp_path / "bad_study.py"
        path.write_text(body)
        result = run("replay", path)
        assert result.exit_code != 0
        assert words in " ".join(result.output.split())
