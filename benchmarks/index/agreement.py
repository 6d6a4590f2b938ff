"""LDS of indexes on *mnist-mlp* against their bytes: ``python -m benchmarks.index.agreement NUMBER``, one JSON line."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import upweight as uw
from benchmarks.fidelity import models, stored
from benchmarks.fidelity.problems import made
from upweight.curvature import GGN, EmpiricalFisher
from upweight.index import Factored, Leading, LowRank, Projection, Sparse
from upweight.store.backend import Memory

TASK = "mnist-mlp"
DAMPINGS = (0.005, 0.01, 0.02, 0.03, 0.05)
"""Beside the automatic one: what the best of a grid reaches."""


@dataclass(frozen=True)
class Case:
    """An index and its settings; None: the exact method, whose rows of curvature are given."""

    projection: Projection | None
    dtype: str = "int8"
    fisher: bool = False


CASES = (
    Case(None),
    Case(None, fisher=True),
    *(Case(Leading(k)) for k in (128, 256, 512, 1024, 2048, 4096)),
    *(Case(Leading(1024), dtype) for dtype in ("bfloat16", "float32")),
    *(Case(Leading(k), "int8", fisher=True) for k in (512, 1024, 2048)),
    *(Case(Factored(size)) for size in (8, 16, 32, 64)),
    *(Case(Factored(size, "random")) for size in (8, 16, 32)),
    *(Case(Sparse(k)) for k in (512, 1024, 2048, 4096)),
    *(Case(LowRank(size=size, coefficients=False)) for size in (16, 32, 64, 128, None)),
    *(Case(LowRank(size=size)) for size in (64, 128, None)),
    *(Case(LowRank(), dtype) for dtype in ("bfloat16", "float32")),
)


def objective(arrays: dict[str, Any]) -> uw.Objective:
    """The model explained, with its training data."""
    model = models.build(TASK)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.from_numpy(arrays[f"param_{number}"]))
    data = torch.from_numpy(arrays["x_train"]), torch.from_numpy(arrays["y_train"])
    return uw.Objective(model, uw.losses.CrossEntropy(), data, l2=float(arrays["l2"]))


def measured(case: Case) -> dict[str, Any]:
    """LDS at the automatic damping and at the best of a grid, bytes, and process seconds."""
    arrays = stored.read(stored.path(TASK))
    given = objective(arrays)
    queries = torch.from_numpy(arrays["x_test"]), torch.from_numpy(arrays["y_test"])
    curvature = EmpiricalFisher() if case.fisher else GGN()
    _ = given.engine.function

    def lds(scores: Any) -> float:
        metric = uw.evaluation.LDS(list(arrays["subsets"]), resamples=2)
        metric.update(scores, arrays["losses"])
        return metric.compute().lds

    start = time.process_time()
    scores: Callable[[Any], uw.Attribution]
    if case.projection is None:
        solver = uw.inverse.Dual(curvature, damping=0.01, rows=given.n).fit(given)
        built = time.process_time()

        def scores(damping: Any) -> uw.Attribution:
            return uw.Influence(given, solver.with_damping(damping)).attribute(queries)

        facts = {"row_bytes": 4.0 * given.p, "fixed_bytes": 0, "numbers": given.p}
    else:
        index = uw.index.build(given, Memory(), case.projection, dtype=case.dtype, curvature=curvature)
        built = time.process_time()
        projected = index.project(given, queries)

        def scores(damping: Any) -> uw.Attribution:
            return index.scores(projected, damping=damping)

    first = scores("auto")
    end = time.process_time()
    if case.projection is not None:
        facts = {
            "row_bytes": index.row_bytes,
            "fixed_bytes": index.fixed_bytes,
            "numbers": index.description.width,
        }
    grid = {str(damping): lds(scores(damping)) for damping in DAMPINGS}
    return {
        **facts,
        "share": facts["row_bytes"] / (4 * given.p),
        "lds": lds(first),
        "damping": first.damping,
        "grid": grid,
        "build": built - start,
        "scores": end - built,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int)
    made(TASK)
    print(json.dumps(measured(CASES[parser.parse_args().number])))


if __name__ == "__main__":
    main()
