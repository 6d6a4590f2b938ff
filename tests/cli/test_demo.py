"""`upweight demo` end to end, and the command itself as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from upweight.cli.app import app
from upweight.demo import flipped_digits, train

from .conftest import Run, assert_self_contained


def test_demo_finds_flips_and_agrees_with_retraining(answer: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    found = answer("demo")
    assert found["flipped"] == round(0.05 * found["train"])
    recovered = found["recovery"]["out-of-sample loss"]
    assert recovered["0.1"] >= 0.95  # 98 to 100 % over seeds
    assert found["auc"]["out-of-sample loss"] > 0.99
    assert found["recovery"]["random"]["0.1"] < 0.3
    assert found["agreement"]["pairs"] == 20
    assert found["agreement"]["pearson"] >= 0.99
    assert 0.8 < found["agreement"]["slope"] < 1.2
    explained = found["explained"]
    assert explained["label"] != explained["predicted"]
    assert found["warnings"] == []
    page = tmp_path / "upweight-report" / "index.html"
    assert Path(found["files"]["report"]).resolve() == page.resolve()
    assert_self_contained(page)
    assert page.read_text().count("data:image/png") >= 30


def test_the_model_of_the_demo_has_an_output_for_each_digit() -> None:
    assert train(flipped_digits(0)).layout.shapes == ((10, 64), (10,))


def test_the_table_in_the_terminal_parts_helpful_from_harmful(run: Run) -> None:
    shown = run("demo")
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.stdout.splitlines()]
    sides = [line[0] if line else "" for line in lines]
    first, last = sides.index("helpful"), len(sides) - sides[::-1].index("harmful")
    assert sides[first:last] == ["helpful"] * 5 + [""] + ["harmful"] * 5


def test_commands_have_help_with_examples(run: Run) -> None:
    for command in ("demo", "label-errors", "explain", "verify", "attribute", "resume", "info", "query"):
        shown = run(command, "--help")
        assert shown.exit_code == 0
        assert f"upweight {command}" in shown.stdout
    assert "fetch" in run("data", "--help").stdout


def test_command_runs_as_a_process() -> None:
    command = [sys.executable, "-c", "from upweight.cli import main; main()", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    assert shown.stdout.startswith("upweight 0.")


def test_no_words_of_a_help_are_taken_for_markup() -> None:
    """``[default: …]`` would be gone without a word."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        for words in [command.help, *(getattr(each, "help", None) for each in command.params)]:
            assert Text.from_markup(words or "").plain == (words or ""), name
