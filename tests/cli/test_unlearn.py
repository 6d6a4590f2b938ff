"""`upweight unlearn` and `upweight correct-labels` on a study file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from .conftest import assert_self_contained

STUDY = Path(__file__).parents[2] / "examples/digits_study.py"


def test_a_class_is_forgotten_and_the_parameters_are_written(answer: Any) -> None:
    found = answer("unlearn", STUDY, "--class", "3", "--ratio", "0.3")
    accuracy = found["queries"]
    assert accuracy["accuracy, changed"]["before"] > 0.8
    assert accuracy["accuracy, changed"]["after"] <= 0.1
    assert accuracy["accuracy, others"]["after"] >= accuracy["accuracy, others"]["before"] - 0.02
    assert found["parameters that moved"] == 3 * 65
    state = torch.load(found["files"]["parameters"], weights_only=True)
    assert state["weight"].shape == (10, 64)
    assert_self_contained(Path(found["files"]["report"]))


def test_the_figure_marks_the_classes_that_changed(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from upweight import plots

    drawn: list[Any] = []
    real = plots.classwise_bars
    monkeypatch.setattr(plots, "classwise_bars", lambda *given, **named: drawn.append(named) or real(*given, **named))
    answer("unlearn", STUDY, "--class", "3", "--class", "7", "--ratio", "0.3")
    assert drawn[0]["removed"] == [3, 7]


def test_a_sample_and_a_global_choice_are_taken(answer: Any) -> None:
    found = answer("unlearn", STUDY, "--class", "3", "--ratio", "0.2", "--per", "global", "--sample", "50")
    assert found["parameters that moved"] == 2 * 65
    assert found["log-likelihood of what is wanted, held out"] < 0


def test_of_several_ratios_the_one_is_kept_that_held_out_examples_speak_for(answer: Any) -> None:
    found = answer("unlearn", STUDY, "--class", "3", "--ratio", "0.1", "--ratio", "1", "--ratio", "0.3")
    tried = found["by ratio"]
    assert [row["share"] for row in tried] == ["0.1", "0.3", "1"]
    best = max(tried, key=lambda row: row["held out"])
    assert found["parameters that moved"] == best["parameters"]
    assert found["queries"]["accuracy, others"]["after"] == best["accuracy, others"]
    page = Path(found["files"]["report"]).read_text()
    assert "By share of the units" in page
    assert "Residual of each step" in page


def test_new_labels_are_learnt_from_a_table(answer: Any, run: Any) -> None:
    pd.DataFrame({"position": range(60), "label": [7] * 60}).to_csv("labels.csv", index=False)
    found = answer("correct-labels", STUDY, "--labels", "labels.csv", "--ratio", "1", "--steps", "5", "--no-search")
    before, after = found["changed examples predicted by their new label"].split(", ")
    assert float(after.split("%")[0]) > float(before.split("%")[0])
    shown = run("correct-labels", STUDY, "--labels", "labels.csv", "--ratio", "1", "--no-search")
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["unlearn", STUDY, "--class", "11"], "'11' is none of this study's, 0, 1"),
        (["unlearn", STUDY, "--class", "3", "--choose", "best"], "--choose: one of 'highest-output'"),
        (
            ["unlearn", STUDY, "--class", "3", "--ratio", "0.1", "--ratio", "0.2", "--no-search"],
            "--ratio: 2 of them are compared by held-out examples",
        ),
        (["unlearn", STUDY, "--class", "3", "--per", "model"], "--per: one of 'layer', 'global'; got 'model'"),
        (["unlearn", STUDY, "--class", "3", "--ratio", "1", "--method", "HIF"], "--method: one of 'GIF', 'FIF'"),
        (["correct-labels", STUDY, "--labels", "empty.csv"], "needs columns position and label"),
        (["correct-labels", STUDY, "-l", "beyond.csv"], "--labels: beyond.csv has position 9999 in row 1; the study's"),
        (["correct-labels", STUDY, "-l", "below.csv"], "--labels: below.csv has position -1 in row 0; the study's"),
        (["correct-labels", STUDY, "-l", "class.csv"], "--labels: 'cat' is none of this study's, 0, 1"),
    ],
)
def test_what_cannot_be_done_is_one_message(run: Any, arguments: list[Any], message: str) -> None:
    pd.DataFrame({"place": [1]}).to_csv("empty.csv", index=False)
    pd.DataFrame({"position": [1, 9999], "label": 7}).to_csv("beyond.csv", index=False)
    pd.DataFrame({"position": [-1], "label": 7}).to_csv("below.csv", index=False)
    pd.DataFrame({"position": [1], "label": "cat"}).to_csv("class.csv", index=False)
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.replace("│", " ").split())
