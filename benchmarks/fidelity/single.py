"""The command line of a measurement of ours that is no row of scores; it prints one line of JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from benchmarks.fidelity import models
from benchmarks.fidelity.peers.problem import read


def main(measure: Callable[..., dict[str, Any]], queries: int | None = None, **options: type) -> None:
    """What is found on the problem, with its first queries; further options by name and type, passed on if given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--problem", required=True)
    parser.add_argument("--task", choices=models.TASKS, required=True)
    for name, kind in options.items():
        parser.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    problem = read(given.pop("problem"), given.pop("task"), queries)
    print(json.dumps(measure(problem, **given)))
