"""A table and the commands that read it, for the tests of what they take its columns for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .conftest import Run

Ask = Callable[..., dict[str, Any]]

COMMANDS: dict[str, list[object]] = {
    "label-errors": [],
    "explain": [],
    "verify": ["-k", 2],
    "domain-mismatch": ["-g", "place == 'north'", "--row", 0],
}
N = 60
COUNT = np.arange(N)


def ordinary(seed: int = 0) -> pd.DataFrame:
    """Rows sorted by their target: a counter beside them would tell it."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, N)).round(3)
    y = np.where(a + random.normal(size=N) > 0, "yes", "no")
    frame = pd.DataFrame({"a": a, "b": b, "place": random.choice(["north", "south"], N), "y": y})
    return frame.sort_values("y", ignore_index=True)


def with_cell(value: object, column: str = "a", row: int = 17) -> pd.DataFrame:
    frame = ordinary()
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


def refusal(run: Run, command: str, path: Path | str, *options: object) -> str:
    """The message of the one error a command ends with."""
    result = run(command, path, *COMMANDS[command], *options, "--json")
    assert result.exit_code == 1, result.output
    assert result.stderr == ""
    error = json.loads(result.stdout)["error"]
    assert error["kind"] == "InputError"
    return str(error["message"])


def taken(found: dict[str, Any]) -> dict[str, str]:
    return {name: column["taken_for"] for name, column in found["columns"].items()}
