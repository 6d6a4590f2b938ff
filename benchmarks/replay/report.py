"""results.json as RESULTS.md: ``python -m benchmarks.replay.report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.fidelity.tables import table
from benchmarks.throughput import record

FILE = Path(__file__).parent / "results.json"
PAGE = """# Replay

Made by `python -m benchmarks.replay.run` from `results.json`; run it to renew this page. Machine: {machine}.

The networks of two [fidelity](../fidelity/RESULTS.md) tasks by their recipes (SGD with momentum, weight decay,
mini-batches), with smooth activations (GELU) or with ReLU, in float32. A case that a table lacks was not run so far.

## Protocol: *same run*

Truth: the same seed and the same batches with the examples that a subset lacks at weight 0, means over as many examples
as before; one training a subset, so that there is no noise of seeds and a perfect predictor reaches 1. LDS is the mean
over queries of Spearman's ρ, over subsets, of summed scores with the queries' losses; intervals are bootstraps over
queries and subsets. *w̄* is the expansion point: the model is trained, and scores are taken, with every weight times w̄.
*Influence* is `uw.Influence` by its automatic choice at the same models: it answers for a minimum, not for this run.
*Slope*: of actual changes on those that replay at w̄ = 1 predicts, through the origin. This is another truth than that
of halves averaged over seeds on the fidelity page; figures of the two don't compare.

{lds}

## Cost

Process seconds of one thread, medians over turns in which steps of a plain loop of torch and one step in reverse for
100 queries follow each other, on a machine that others use too. *Trainings a query*: a query's share of the reverse
step over a step of torch. One training more a pass where states are taken again, two for the metasmoothness.

{cost}

## Metasmoothness

Of the declared training at w̄ = 1, by three trainings, weights moved by ±h.

{smoothness}
"""


def write(file: Path = FILE) -> None:
    """RESULTS.md beside the results."""
    (file.parent / "RESULTS.md").write_text(markdown(record.load(file)), encoding="utf-8")


def markdown(found: dict[str, Any]) -> str:
    """The page."""
    one, cases = found["machine"], found.get("cases", {})
    machine = f"{one['processor']}, {one['cores']} cores, one thread; Python {one['python']}, torch {one['torch']}"
    return PAGE.format(machine=machine, lds=_lds(cases), cost=_cost(cases), smoothness=_smoothness(cases))


def _lds(cases: dict[str, Any]) -> str:
    head = ["task", "left out", "subsets", "queries", "replay, w̄ = 1", "w̄ = ½", "influence, w̄ = 1", "w̄ = ½", "slope"]
    lines = []
    for name, case in cases.items():
        for share, rows in case.get("lds", {}).items():
            values = [_interval(rows[key]) for key in ("replay 1", "replay 0.5", "influence 1", "influence 0.5")]
            subsets = str(rows["replay 1"]["subsets"])
            lines.append([name, f"{float(share):.0%}", subsets, str(case["queries"]), *values, f"{rows['slope']:.2f}"])
    return table(head, lines)


def _interval(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['lds']:.3f} ({low:.3f} – {high:.3f})"


def _cost(cases: dict[str, Any]) -> str:
    lines = [
        [name, f"{case['parameters']:,}", *_milliseconds(case["cost"]), f"{case['cost']['ratio']:.2f}"]
        for name, case in cases.items()
        if "cost" in case
    ]
    return table(["task", "p", "a step of torch, ms", "in reverse, 100 queries, ms", "trainings a query"], lines)


def _milliseconds(cost: dict[str, float]) -> list[str]:
    return [f"{1000 * cost[key]:.3g}" for key in ("step", "reverse")]


def _smoothness(cases: dict[str, Any]) -> str:
    steps = sorted({step for case in cases.values() for step in case.get("smoothness", {})}, key=float)
    lines = [
        [name, *(f"{case['smoothness'][step]:.4f}" for step in steps)]
        for name, case in cases.items()
        if "smoothness" in case
    ]
    return table(["task", *(f"h = {step}" for step in steps)], lines)


if __name__ == "__main__":
    write()
