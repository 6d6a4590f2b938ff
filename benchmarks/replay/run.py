"""Replay measured against trainings with the same seed and batches; one thread.

    python -m benchmarks.replay.run                      # all; goes on where it was stopped
    python -m benchmarks.replay.run "digits, GELU"       # some cases

Losses of the retrained models and scores are kept in benchmarks/.made/replay; each figure goes to results.json at once,
and RESULTS.md is made of all that is there.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vmap

import upweight as uw
from benchmarks.fidelity import stored
from benchmarks.processes import machine
from benchmarks.replay import report
from benchmarks.replay.cases import CASES, SEED, WEIGHTS, Case
from benchmarks.throughput import record
from upweight.gradients.denormals import flushed

FOLDER = stored.FOLDER.parent / "replay"
TOGETHER = 25
"""Trainings in one, and between writes."""
COUNTED, TURNS, STEPS_EACH = 100, 8, 20
"""Queries of a step in reverse, turns, and steps of torch in each."""
STEPS = (0.01, 0.05, 0.2)
"""h of metasmoothness."""


def losses(model: nn.Module, queries: tuple[Tensor, Tensor]) -> np.ndarray:
    """Of each query."""
    with torch.no_grad():
        return F.cross_entropy(model(queries[0]), queries[1], reduction="none").double().numpy()


def truth(case: Case, replay: uw.Replay, share: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What subsets lack, and the queries' losses after training on them, ``[subsets, queries]``."""
    removed, file = case.removed(share, count), place(case, f"truth-{share:g}")
    done = stored.read(file)["losses"] if file.exists() else np.zeros((0, case.count))
    while len(done) < count:
        rows = removed[len(done) : len(done) + TOGETHER]
        done = np.concatenate([done, losses_without(replay, rows, case.queries())])
        stored.store(file, {"losses": done})
    return removed, done


def losses_without(replay: uw.Replay, removed: np.ndarray, queries: tuple[Tensor, Tensor]) -> np.ndarray:
    """The queries' losses after trainings with some examples at weight 0, many trainings in one: their steps are alike.

    Each is that of ``replay.train(weights)``, to rounding.
    """
    run = replay._work.trained(SEED, None).run
    weights = 1 - torch.from_numpy(removed).float()

    def loss(theta: Tensor, batch: Any, own: Tensor) -> Tensor:
        return (own * run.evaluate(run.layout.unflatten(theta), batch)).sum() / len(own)

    slopes = vmap(grad(loss), in_dims=(0, None, 0))
    state = tuple(part.expand(len(removed), -1).clone() for part in run.begin())
    with flushed():
        for number, index in enumerate(run.batches):
            slope = slopes(state[0], run.data.take(index), weights[:, index])
            state = run.rule.step(state, slope, run.rates[number], run.decay)
    with torch.no_grad():
        found = [run.evaluate(run.layout.unflatten(theta), queries) for theta in state[0]]
    return torch.stack(found).double().numpy()


def place(case: Case, name: str) -> Path:
    """Where something of a case is kept."""
    return FOLDER / f"{case.task}-{case.activation}-{name}.npz"


def scores(case: Case, name: str, make: Callable[[], uw.Attribution]) -> dict[str, Any]:
    """Scores of an attribution, with its facts and process seconds, made once."""
    file = place(case, name)
    if not file.exists():
        started = time.process_time()
        found = make()
        seconds = time.process_time() - started
        facts = {key: np.array(value) for key, value in found.facts.items()}
        stored.store(file, {"scores": found.scores.numpy(), "seconds": np.array(seconds), **facts})
    return stored.read(file)


def cost(case: Case, replay: uw.Replay) -> dict[str, float]:
    """Process seconds of a step of a plain loop of torch, and of a step in reverse for all queries; medians.

    They take turns, since a busy machine is slower for both; ``ratio`` is the median of the turns' own, by query.
    """
    run = replay._work.trained(SEED, None).run
    train, sizes = case.loop(), replay._work.sizes(run, COUNTED)
    state, turns = run.begin(), []
    noise = torch.randn(COUNTED, replay.untrained.p, generator=torch.Generator().manual_seed(0))
    for _ in range(TURNS):
        cotangents = [(part, part.clone()) for part in noise.clone().split(sizes.chunk)]
        started = time.process_time()
        train(STEPS_EACH)
        between = time.process_time()
        with flushed():
            run.pull_(state, 0, cotangents)
        turns.append(((between - started) / STEPS_EACH, time.process_time() - between))
    steps, backs = np.array(turns[1:]).T
    return {
        "step": float(np.median(steps)),
        "reverse": float(np.median(backs)),
        "ratio": float(np.median(backs / steps)) / COUNTED,
        "queries": COUNTED,
    }


def measured(case: Case, found: dict[str, Any]) -> None:
    """All figures of a case that are missing."""
    replay, queries = case.replay(), case.queries()
    found.setdefault("parameters", replay.untrained.p)
    found.setdefault("examples", replay.untrained.n)
    found["queries"] = case.count
    if "smoothness" not in found:
        found["smoothness"] = {f"{h:g}": replay.metasmoothness(step=h).value for h in STEPS}
        yield_to_disk()
    if "cost" not in found:
        found["cost"] = cost(case, replay)
        yield_to_disk()
    for weight in WEIGHTS if case.truth else ():
        name = f"{weight:g}"
        kept = scores(case, f"replay-{name}", lambda: replay.attribute(queries, weight=weight, smoothness=False))  # noqa: B023
        found["steps"] = int(kept["steps"])
        yield_to_disk()
        scores(case, f"influence-{name}", lambda: uw.Influence(replay.objective(weight)).attribute(queries))  # noqa: B023
    for share, count in case.truth:
        rows = found.setdefault("lds", {}).setdefault(f"{share:g}", {})
        removed, outcomes = truth(case, replay, share, count)
        for method in ("replay", "influence"):
            for weight in WEIGHTS:
                metric = uw.evaluation.LDS(~removed)
                metric.update(stored.read(place(case, f"{method}-{weight:g}"))["scores"], outcomes)
                result = metric.compute()
                interval = [result.interval.low, result.interval.high]
                rows[f"{method} {weight:g}"] = {"lds": result.lds, "interval": interval, "subsets": count}
        rows["slope"] = slope(
            stored.read(place(case, "replay-1"))["scores"], removed, outcomes, losses_of(case, replay)
        )
        print(case, share, rows)
        yield_to_disk()


def losses_of(case: Case, replay: uw.Replay) -> np.ndarray:
    """The queries' losses of the model given."""
    return losses(replay.train(), case.queries())


def slope(found: np.ndarray, removed: np.ndarray, outcomes: np.ndarray, before: np.ndarray) -> float:
    """Of actual changes on predicted ones, all subsets and queries, through the origin."""
    predicted, actual = removed @ found.T.astype(float), outcomes - before
    return float((predicted * actual).sum() / (predicted**2).sum())


RESULTS: dict[str, Any] = {}


def yield_to_disk() -> None:
    """Write what there is."""
    record.save(RESULTS, report.FILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=", ".join(map(str, CASES)))
    chosen = parser.parse_args().cases
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", uw.UpweightWarning)
    RESULTS.update(record.load(report.FILE))
    RESULTS["machine"] = machine(1)
    for case in CASES:
        if not chosen or str(case) in chosen:
            measured(case, RESULTS.setdefault("cases", {}).setdefault(str(case), {}))
    yield_to_disk()
    report.write()


if __name__ == "__main__":
    main()
