"""`upweight select`, on a CSV and on a study file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

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


TEXTS = """
import torch
import upweight as uw

WORDS = "red green blue cat dog bird sings runs sleeps".split()
TEXTS = ["red cat sleeps", "green dog runs", "blue bird sings", "red dog runs", "blue cat sings", "green bird runs"] * 2

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = torch.nn.Embedding(len(WORDS), 4), torch.nn.Linear(4, len(WORDS))

    def forward(self, input_ids, attention_mask=None):
        return self.head(torch.tanh(self.table(input_ids)))

def encode(text):
    return {"input_ids": torch.tensor([WORDS.index(word) for word in text.split()])}

def study():
    torch.manual_seed(0)
    ids = torch.stack([encode(text)["input_ids"] for text in TEXTS])
    rows = [{"text": text, "topic": text.split()[1], "input_ids": row} for text, row in zip(TEXTS, ids)]
    asked = [{"text": "the cat is red", "topic": "cat", "input_ids": ids[0]}]
    objective = uw.from_transformers(Model(), rows, task="causal-lm", l2=0.1, ids=[f"text-{k}" for k in range(12)])
    return uw.Study(objective, asked, query_ids=["asked"])
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "texts.py"
    path.write_text(TEXTS)
    return path


def test_words_choose_among_texts_and_rows_are_exported(written: Path, tmp_path: Path, answer: Ask) -> None:
    found = answer("select", written, "-k", 4, "--method", "bm25", "--text", "text", "--export", "chosen.jsonl")
    assert set(found["ids"][:2]) == {"text-0", "text-6"}  # "red cat sleeps": two words of three
    rows = [json.loads(line) for line in (tmp_path / "chosen.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows[:2]] == ["red cat sleeps"] * 2
    assert rows[0].keys() == {"text", "topic", "input_ids"}
    assert Path(found["files"]["data set"]).name == "chosen.jsonl"
    table = pd.read_csv(found["files"]["selection"])
    assert table["text"][0] == "red cat sleeps"
    assert found["variety"]["doubles"] >= 0.5  # the first two
    assert "red cat sleeps" in Path(found["files"]["report"]).read_text()


def test_what_was_chosen_of_a_csv_is_a_csv_again(iris: Planted, tmp_path: Path, answer: Ask) -> None:
    found = answer("select", iris.path, "-t", "target", "-k", 20, "--export", "chosen.csv")
    whole, part = pd.read_csv(iris.path, dtype=str), pd.read_csv(tmp_path / "chosen.csv", dtype=str)
    pd.testing.assert_frame_equal(part, whole.iloc[found["ids"]].reset_index(drop=True))


def test_arrays_are_exported_as_they_are_nested(study: Path, tmp_path: Path, answer: Ask) -> None:
    found = answer("select", study, "-k", 20, "--export", "chosen.pt", "--diversity", 1)
    features, labels = torch.load(tmp_path / "chosen.pt", weights_only=True)
    assert features.shape == (20, 4)
    assert labels.tolist() == [(name // 50 + (name % 10 == 0)) % 3 for name in found["ids"]]
    assert found["variety"]["best"] < found["variety"]["directions"] < 8  # of a softmax of 3 × 4 weights


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--export", "chosen.csv"], "the pool holds no rows with names; give a file that ends in .pt"),
        (["--export", "chosen.npy"], "of my_study.py give a file that ends in .pt or .jsonl"),
        (["--export", "my_study.py"], "of my_study.py give a file"),
        (["--method", "bm25"], "--text: which column holds the texts isn't known of the pool"),
        (["--text", "a"], "--text is for --method bm25"),
    ],
)
def test_what_cannot_be_exported_or_read_is_refused(options: list[object], message: str, study: Path, run: Run) -> None:
    result = run("select", study, "-k", 5, *options)
    assert result.exit_code != 0
    assert message in " ".join(result.output.replace("│", " ").split())


def test_an_export_never_takes_the_place_of_what_is_read(iris: Planted, run: Run) -> None:
    before = iris.path.read_bytes()
    result = run("select", iris.path, "-t", "target", "-k", 5, "--export", iris.path, "--force")
    assert result.exit_code == 1
    assert "--export" in result.output
    assert iris.path.read_bytes() == before


def test_what_is_chosen_of_a_table_that_is_no_text_is_exported_by_its_columns(answer: Ask, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=60), "day": pd.date_range("2024-01-01", periods=60)})
    frame["y"] = np.where(frame["x"] + random.normal(size=60) > 0, "a", "b")
    frame.to_parquet(tmp_path / "pool.parquet")
    found = answer("select", "pool.parquet", "-t", "y", "-k", 3, "--export", "chosen.csv")
    chosen = pd.read_csv(tmp_path / "chosen.csv")
    assert chosen["x"].tolist() == pytest.approx(frame["x"][found["ids"]].tolist())
    assert chosen["day"].tolist() == [f"{day:%Y-%m-%d}" for day in frame["day"][found["ids"]]]
