"""`--json` gives one object on standard output, however the command ends; other packages' warnings are notes."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from upweight.cli import label_errors, session

from .conftest import Planted, Run

COMMANDS = {
    "demo": (),
    "label-errors": ("x.csv",),
    "domain-mismatch": ("x.csv", "--group", "x < 1"),
    "explain": ("x.csv",),
    "verify": ("x.csv",),
    "attack": ("x.py",),
    "unlearn": ("x.py", "--class", "1"),
    "correct-labels": ("x.py", "--labels", "x.csv"),
    "select": ("x.py", "-k", "3"),
    "compare": ("x.py", "y.py"),
    "attribute": ("x.py", "--out", "scores"),
    "resume": ("scores",),
    "info": ("scores",),
    "query": ("scores",),
    "data list": (),
    "data fetch": ("digits",),
}


def told(result: Any) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(result.stdout)["error"]
    assert {"kind", "message"} <= error.keys()
    assert error["message"]
    return error


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_an_object(command: str, run: Run) -> None:
    result = run(*command.split(), *COMMANDS[command], "--no-such-option", "--json")
    assert result.exit_code == 2
    assert told(result)["kind"] == "UsageError"
    assert "--no-such-option" in told(result)["message"]
    assert result.stderr == ""


@pytest.mark.parametrize("command", [name for name, row in COMMANDS.items() if row])
def test_a_missing_argument_is_an_object(command: str, run: Run) -> None:
    result = run(*command.split(), "--json")
    assert result.exit_code == 2
    assert told(result)["kind"] == "UsageError"


@pytest.mark.parametrize("command", [name for name, row in COMMANDS.items() if row[:1] in (("x.csv",), ("x.py",))])
def test_a_missing_file_is_an_object(command: str, run: Run) -> None:
    options = ("-t", "y") if "x.csv" in COMMANDS[command][:1] else ()
    result = run(*command.split(), *COMMANDS[command], *options, "--json")
    assert result.exit_code == 1
    assert "no such file" in told(result)["message"].lower()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope"], 2, "No such command 'nope'"),
        (["explain", "x.csv"], 2, "say which column holds the class"),
        (["explain", "x.csv", "-t", "y", "--row", "-1"], 2, "'--row'"),
        (["explain", "x.csv", "-t", "y", "--top", "many"], 2, "'--top'"),
        (["data", "fetch", "mnits"], 2, "did you mean 'mnist'"),
        (["data", "fetch", "digits", "--csv", "x.csv"], 1, "digits is no table; support2 and adult are"),
    ],
)
def test_wrong_usage_is_an_object(arguments: list[str], code: int, message: str, run: Run) -> None:
    result = run(*arguments, "--json")
    assert result.exit_code == code
    assert message in told(result)["message"]


def test_what_nobody_foresaw_is_an_object_with_its_traceback_elsewhere(
    iris: Planted, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("nobody foresaw it")

    monkeypatch.setattr(label_errors, "ranked", broken)
    result = run("label-errors", iris.path, "-t", "target", "--json")
    assert result.exit_code == 1
    assert told(result) == {"kind": "RuntimeError", "message": "nobody foresaw it"}
    assert "Traceback" in result.stderr


def test_the_installed_command_does_so(tmp_path: Path) -> None:
    """And not only the one that tests run."""
    command = [sys.executable, "-c", "from upweight.cli import main; main()", "explain", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 2
    assert told(result)["kind"] == "UsageError"
    assert result.stderr == ""


def test_other_packages_warnings_are_notes(
    iris: Planted, answer: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    study = tmp_path / "study.py"
    study.write_text(
        "import warnings, torch, upweight as uw\n"
        "def study():\n"
        "    warnings.warn('of the\\n   user', RuntimeWarning)\n"
        "    warnings.warn('of no interest', FutureWarning)\n"
        "    x, y = torch.randn(20, 2), torch.arange(20) % 2\n"
        "    objective = uw.Objective(torch.nn.Linear(2, 2), uw.losses.CrossEntropy(), (x, y), l2=1.0)\n"
        "    return uw.retraining.fit(objective), (x[:3], y[:3])\n"
    )
    found = answer("explain", study)
    assert "RuntimeWarning: of the user" in found["warnings"]
    assert not any("no interest" in words for words in found["warnings"])


def test_a_table_s_commands_warn_of_nothing_raw(iris: Planted, run: Run) -> None:
    for command in ("label-errors", "explain"):
        result = run(command, iris.path, "-t", "target")
        assert "site-packages" not in result.output + result.stderr
        assert "Warning" not in result.stderr


def test_warnings_of_a_session_end_with_it() -> None:
    before = warnings.showwarning
    with session.session(as_json=False, quiet=True):
        assert warnings.showwarning is not before
    assert warnings.showwarning is before
