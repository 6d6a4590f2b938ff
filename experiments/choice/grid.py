"""LDS of every setting of the grid on a task, with what a rule may look at: each number is kept as it comes."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.fidelity import stored
from torch import Tensor

import upweight as uw
from experiments.choice.tasks import FINDING, KEPT, QUICK, given, query_losses, study, truth
from experiments.expansion.studies import Study
from upweight import files
from upweight.errors import UpweightWarning
from upweight.inverse import EKFAC, Dual, Solver
from upweight.quantities.leverage import output_changes

TEMPERATURES = (1.0, 2.0, 4.0)
MULTIPLES = (0.25, 1.0, 4.0, 16.0)
"""Of λ + δ at the automatic δ."""
ROWS = 600
INVERSES: dict[str, Callable[[], Any]] = {"dual": lambda: Dual(rows=ROWS), "EK-FAC": EKFAC}
LOOKED_AT = 40
"""Training examples whose leave-one-out losses are computed."""
LEFT_OUT_AT = (1.0,)
SEVERAL = ("digits-mlp", "mnist-short", "mnist-wrong-labels", "support2-batchnorm")
"""Tasks that were trained with three seeds at weight ½, too."""
WITHOUT_GRID = ("digits-transformer",)
"""Where the automatic choice, tempering and moving are measured, and no more."""
Numbers = dict[str, Any]


def lds(name: str, scores: Tensor) -> float:
    """Without the bootstrap."""
    found = truth(name)
    metric = found.metric(resamples=1)
    metric.update(scores, found.outcomes)
    return metric.compute().lds


def automatic(name: str, temperature: float = 1.0) -> Numbers:
    """Today's choice of inverse and δ."""
    one = study(name)
    influence = uw.Influence(one.objective(given(name), temperature))
    began = time.process_time()
    scores = influence.attribute(one.queries).scores
    spent = time.process_time() - began
    return {
        "lds": lds(name, scores),
        "choice": influence.choice,
        "damping": influence.solver.damping,
        "cpu_seconds": spent,
    }


def setting(name: str, kind: str, temperature: float) -> Numbers:
    """LDS by multiple of λ + δ, of one inverse at one temperature."""
    one = study(name)
    objective = one.objective(given(name), temperature)
    began = time.process_time()
    solver = INVERSES[kind]().fit(objective)
    fit = time.process_time() - began
    found: Numbers = {"damping": solver.damping, "lds": {}, "fit cpu_seconds": fit}
    if kind == "dual" and temperature in LEFT_OUT_AT:
        found["left out"] = {}
    for multiple in MULTIPLES:
        damping = multiple * (one.recipe.l2 + solver.damping) - one.recipe.l2
        if damping < 0 or (damping == 0 and one.recipe.l2 == 0):
            continue
        other = solver.with_damping(damping)
        found["lds"][str(multiple)] = lds(name, uw.Influence(objective, other).attribute(one.queries).scores)
        if "left out" in found:
            found["left out"][str(multiple)] = left_out_loss(one, objective, other, temperature)
    return found


def left_out_loss(one: Study, objective: uw.Objective, solver: Solver, temperature: float) -> float:
    """Mean loss of some training examples, each under the linearised model without it."""
    chosen = torch.randperm(one.n, generator=torch.Generator().manual_seed(0))[:LOOKED_AT]
    x, y = one.examples[0][chosen], one.examples[1][chosen]
    with torch.no_grad():
        outputs = objective.model(x) / temperature
    changed = outputs + output_changes(objective, solver.solve, chosen)
    return float(torch.nn.functional.cross_entropy(changed, y))


def losses(name: str) -> Numbers:
    """Of training data and queries by temperature, and of all training data under models of three halves."""
    one = study(name)
    x, y, query_x, query_y = one.examples
    model = given(name)
    with torch.no_grad():
        outputs, query_outputs = model(x), model(query_x)
    by = torch.nn.functional.cross_entropy
    halves = [one.on(half, 1) for half in truth(name).subsets[:3]]
    return {
        "training": {str(t): float(by(outputs / t, y)) for t in TEMPERATURES},
        "queries": {str(t): float(by(query_outputs / t, query_y)) for t in TEMPERATURES},
        "halves": sum(float(query_losses(model, x, y).mean()) for model in halves) / len(halves),
    }


def expanded(name: str, seeds: int) -> Numbers:
    """At mean weight ½, by today's choice of inverse: moved there (0 seeds), or trained there and averaged."""
    one = study(name)
    objective = one.objective(given(name))
    at = uw.expansion(weight=0.5)
    if seeds:
        at = uw.expansion(one.train, weight=0.5, seeds=range(seeds), check=False)
    return {"lds": lds(name, uw.Ensemble(objective, at).attribute(one.queries).scores)}


def moved(name: str) -> Numbers:
    """The mean training loss of the model moved to weight ½, which trains nothing."""
    there = uw.expansion(weight=0.5).one(study(name).objective(given(name)))
    return {"loss": float(there.losses().mean())}


def work(name: str) -> dict[str, Callable[[], Numbers]]:
    """What is measured of a task, by name."""
    made: dict[str, Callable[[], Numbers]] = {"automatic": lambda: automatic(name), "losses": lambda: losses(name)}
    made["moved"] = lambda: moved(name)
    made["automatic 2.0"] = lambda: automatic(name, 2.0)
    made["expanded 0"] = lambda: expanded(name, 0)
    if name in WITHOUT_GRID:
        return made
    for kind in INVERSES:
        for temperature in TEMPERATURES[:2] if QUICK else TEMPERATURES:
            made[f"{kind} {temperature}"] = lambda kind=kind, t=temperature: setting(name, kind, t)  # type: ignore[misc]
    for seeds in (1, 3) if name in SEVERAL and not QUICK else (1,):
        made[f"expanded {seeds}"] = lambda seeds=seeds: expanded(name, seeds)  # type: ignore[misc]
    return made


def measured(name: str) -> Numbers:
    """All numbers of a task; those that are kept are not measured again."""
    warnings.simplefilter("ignore", UpweightWarning)  # of models that are at no optimum, and are not meant to be
    place = stored.FOLDER / "choice" / f"{name}{'-quick' if QUICK else ''}.json"
    found = _kept(place)
    for what, measure in work(name).items():
        if what not in found:
            found[what] = measure()
            print(f"  {name}, {what}: {found[what]}", flush=True)
            files.write(place, json.dumps(found))
    return {what: found[what] for what in work(name)}


def _kept(place: Path) -> Numbers:
    return json.loads(place.read_text()) if place.exists() else {}


if __name__ == "__main__":
    for each in sys.argv[1:] or (*FINDING, *KEPT):
        measured(each)
