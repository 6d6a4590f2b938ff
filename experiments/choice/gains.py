"""What each way of scoring gains over one model by the automatic choice: the rules of `uw.recommend`, from results.

``python -m experiments.choice.gains`` prints them, of the numbers that stand beside RESULTS; nothing is trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from upweight.planning.ways import MOVED, ONE, TEMPERED, TRAINED, Measured

ROOT = Path(__file__).parent.parent
KEYS = {
    (TRAINED, 1): "expanded 1",
    (TEMPERED, 0): "automatic 2.0",
    (MOVED, 0): "expanded 0",
    (TRAINED, 3): "expanded 3",
}
POINTS = {(TRAINED, 1): "weight ½", (MOVED, 0): "moved to weight ½, 5 iterations"}
HANDED_IN = "as handed in"

Numbers = dict[str, Any]


def by_way() -> dict[tuple[str, int], Measured]:
    """Mean and least gain, and on how many tasks: of `rules` and of `experiments.expansion.points`."""
    choice, points = (_numbers(*names) for names in (("choice", "choice_rules"), ("expansion", "expansion_points")))
    tasks = len(choice["tasks"]) + len({row["study"] for row in points["rows"]})
    return {(ONE, 0): Measured(0.0, 0.0, tasks)} | {
        way: measured([*of_choice(choice, way), *of_expansion(points, way)]) for way in KEYS
    }


def of_choice(numbers: Numbers, way: tuple[str, int]) -> list[float]:
    """Gains on the tasks of `rules`; of moving, where it is offered: it raises the training loss."""
    return [
        one[KEYS[way]]["lds"] - one["automatic"]["lds"]
        for one in numbers["tasks"].values()
        if KEYS[way] in one and (way[0] != MOVED or one["moved"]["loss"] > one["losses"]["training"]["1.0"])
    ]


def of_expansion(numbers: Numbers, way: tuple[str, int]) -> list[float]:
    """The same on those of `experiments.expansion.points`."""
    if way not in POINTS:
        return []
    rows = {(row["study"], row["point"]): row for row in numbers["rows"]}
    pairs = [(rows[study, POINTS[way]], row) for (study, point), row in rows.items() if point == HANDED_IN]
    return [
        there["automatic"] - here["automatic"]
        for there, here in pairs
        if way[0] != MOVED or there["loss"] > here["loss"]
    ]


def measured(gains: list[float]) -> Measured:
    """To three digits behind the point."""
    return Measured(round(sum(gains) / len(gains), 3), round(min(gains), 3), len(gains))


def _numbers(folder: str, name: str) -> Numbers:
    found: Numbers = json.loads((ROOT / folder / "results" / f"{name}.json").read_text(encoding="utf-8"))["numbers"]
    return found


if __name__ == "__main__":
    for way, found in by_way().items():
        print(*way, found)
