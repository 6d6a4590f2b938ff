"""upweight on the fidelity tasks, by the clock, limits and answer of the peers (`benchmarks.fidelity.peers.script`).

    python -m benchmarks.fidelity.ours --problem FILE.npz --task mnist-mlp --variant auto --answer OUT.npz
    python -m benchmarks.fidelity.ours … --variant dual-2500 --answer OUT.npz --damping best   # or a number

Where a variant needs more models than the one explained, it trains them here: their seconds are part of ``fit``, and
stand as ``training`` in the settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import upweight as uw
from benchmarks.fidelity import tasks
from benchmarks.fidelity.ground_truth import CHECKPOINTS, FURTHER_SEEDS
from benchmarks.fidelity.peers.fitted import Fitted, Variant
from benchmarks.fidelity.peers.problem import Problem, Refused
from benchmarks.fidelity.peers.script import run
from benchmarks.fidelity.peers.solved import Solved, Solver
from upweight.curvature import EmpiricalFisher, Fisher
from upweight.influence import Influence  # here, so that the clock sees no import, as with the peers
from upweight.inverse import CG, EKFAC, KFAC, Arnoldi, DataInf, Diagonal, Dual, Nystrom
from upweight.objective import Objective

MULTIPLES = tuple(2.0**k for k in range(-4, 6))
"""The grid: l2 + δ in multiples of what it is at the automatic δ, which may be 0."""

RANK = 200


TEMPERATURE = 1.4
LATER = {"cifar-cnn": ["body.7*", "head*"], "char-gpt": ["blocks.1*", "norm*", "head*"]}
"""The last residual block, or the last block of attention, and what comes after it."""
SMALL_BATCH = 100
LAST = {"cifar-cnn": ["head*"], "char-gpt": ["head*"]}


def objective(
    problem: Problem,
    l2: float | None = None,
    temperature: float = 1.0,
    parameters: Mapping[str, list[str]] | None = None,
    batch_size: int | None = None,
) -> Objective:
    """What the task minimised; another λ, temperature, choice of parameters by task or batch size, if given."""
    penalty, chosen = problem.l2 if l2 is None else l2, None
    if parameters is not None:
        if problem.task not in parameters:
            raise Refused(f"{problem.task} has no block of layers to choose")
        chosen = parameters[problem.task]
    binary = problem.train[1].is_floating_point()
    loss = uw.losses.BinaryLogistic() if binary else uw.losses.CrossEntropy(temperature=temperature)
    return Objective(problem.model, loss, problem.train, l2=penalty, parameters=chosen, batch_size=batch_size)


def influence(problem: Problem, folder: Path, *, inverse: Any = None, **changed: Any) -> Fitted:
    """One inverse; another damping costs no fit."""
    fitted = Influence(objective(problem, **changed), inverse)
    solver, penalty = fitted.solver, changed.get("l2", problem.l2)
    if not getattr(fitted.inverse, "penalized", True):
        penalty = 0.0

    def score(damping: float | None) -> Tensor:
        used = fitted if damping is None else Influence(fitted.objective, solver.with_damping(damping))
        return used.attribute(problem.queries).scores

    settings = {"unit": "nats", "automatic damping": solver.damping}
    settings |= {"inverse": repr(fitted.inverse), "choice": fitted.choice}
    grid = (multiple * (penalty + solver.damping) - penalty for multiple in MULTIPLES)
    return Fitted(score, tuple(damping for damping in grid if damping >= 0), settings)


def plain(problem: Problem, folder: Path, *, attribute: Callable[[Problem], uw.Attribution]) -> Fitted:
    """A method without a damping to choose; its fit is part of its scores."""

    def score(damping: float | None) -> Tensor:
        found = attribute(problem)
        return found.quantity.helpful_sign * found.scores

    return Fitted(score)


def tracin(problem: Problem) -> uw.Attribution:
    """All checkpoints, at their mean learning rates."""
    states = [problem.with_parameters(each).state_dict() for each in problem.checkpoints]
    return uw.TracIn(objective(problem), states, problem.rates).attribute(problem.queries)


def trak(problem: Problem, *, several: bool) -> uw.Attribution:
    """Margins where each example has one label; the further models are those of the problem, as for the peers."""
    measurement = "loss" if problem.sequences else "margin"
    return uw.TRAK(objective(problem), problem.states(several=several), measurement=measurement).attribute(
        problem.queries
    )


def gradient_dot(problem: Problem) -> uw.Attribution:
    """Influence with H = I."""
    return uw.similarity.gradient_dot(objective(problem), problem.queries)


def seeds(problem: Problem) -> list[tasks.State]:
    """The model explained, and models of further seeds, trained now."""
    further = [tasks.train(problem.task, range(len(problem.train[0])), seed) for seed in range(1, 1 + FURTHER_SEEDS)]
    return [problem.model.state_dict(), *further]


def early(problem: Problem, *, fifths: tuple[int, ...], seeds: tuple[int, ...] = (0,)) -> list[tasks.State]:
    """Models after some fifths of their training, which is done anew up to there; seed 0 is the model explained."""
    total = tasks.RECIPES[problem.task].epochs
    ends = [-(-fifth * total // CHECKPOINTS) for fifth in fifths]
    states = []
    for seed in seeds:
        epochs = tasks.epochs(problem.task, range(len(problem.train[0])), seed)
        for done, epoch in enumerate(islice(epochs, ends[-1]), start=1):
            if done in ends:
                states.append({name: value.detach().clone() for name, value in epoch.model.state_dict().items()})
    return states


def ensemble(problem: Problem, folder: Path, *, models: Callable[[Problem], Any], inverse: Any = None) -> Fitted:
    """The mean over models that are trained first."""
    start = time.perf_counter()
    averaged = uw.Ensemble(objective(problem), models(problem), inverse)
    training = time.perf_counter() - start

    def score(damping: float | None) -> Tensor:
        return averaged.attribute(problem.queries).scores

    return Fitted(score, (), {"unit": "nats", "models": len(averaged.members), "training": training})


def expanded(problem: Problem, folder: Path, *, weight: float, seeds: int = 0) -> Fitted:
    """At another mean weight of the data: by models of some seeds trained there, or by moving the one explained."""

    def train(weights: Tensor, seed: int) -> nn.Module:
        model = problem.with_parameters(list(problem.model.parameters()))
        model.load_state_dict(tasks.train_weighted(problem.task, weights, seed))
        return model

    at = uw.expansion(weight=weight)
    if seeds:
        at = uw.expansion(train, weight=weight, seeds=range(seeds), check=False)
    return ensemble(problem, folder, models=lambda _: at)


def solve(problem: Problem, tolerance: float, *, inverse: Callable[[float], Any] | None = None) -> Solved:
    """A convex task by an inverse of that tolerance (default: the automatic choice)."""
    fitted = Influence(objective(problem), inverse and inverse(tolerance))
    _ = fitted.solver
    settings: dict[str, Any] = {}

    def factors() -> Tensor:
        solution, _ = fitted.query_solution(problem.queries)
        settings["report"] = solution.report
        return solution.x

    return Solved(factors, fitted.objective.inner, settings)


SOLVERS = {"CG": Solver(partial(solve, inverse=lambda tolerance: CG(tolerance=tolerance))), "auto": Solver(solve)}
ALL_SEEDS = tuple(range(1 + FURTHER_SEEDS))
VARIANTS: dict[str, Variant] = {
    "auto": influence,
    "ekfac": partial(influence, inverse=EKFAC(damping="auto")),
    "tempered": partial(influence, temperature=TEMPERATURE),
    "moved to weight ½": partial(expanded, weight=0.5),
    "trained at weight ½": partial(expanded, weight=0.5, seeds=1),
    "trained at weight ½, 3 seeds": partial(expanded, weight=0.5, seeds=3),
    "later layers": partial(influence, parameters=LATER),
    "later layers, tempered": partial(influence, parameters=LATER, temperature=TEMPERATURE),
    "last layer, ekfac": partial(influence, inverse=EKFAC(damping="auto"), parameters=LAST),
    "last layer, kfac": partial(influence, inverse=KFAC(damping="auto"), parameters=LAST, batch_size=SMALL_BATCH),
    "checkpoint": partial(ensemble, models=partial(early, fifths=(2,))),
    "dual-5000": partial(influence, inverse=Dual(rows=5000)),
    "ensemble of early checkpoints": partial(ensemble, models=partial(early, fifths=(1, 2, 3))),
    "trak-1": partial(plain, attribute=partial(trak, several=False)),
    "trak-5": partial(plain, attribute=partial(trak, several=True)),
    "kfac": partial(influence, inverse=KFAC(damping="auto")),
    "gradient dot": partial(plain, attribute=gradient_dot),
    "tracin": partial(plain, attribute=tracin),
    "dual-2500": partial(influence, inverse=Dual(rows=2500)),
    "dual-empirical": partial(influence, inverse=Dual(EmpiricalFisher(), rows=None)),
    "dual-fisher": partial(influence, inverse=Dual(Fisher(samples=1), rows=None)),
    # Without l2, so that all damping is δ, and with true labels, so that nothing in it is random.
    "ekfac-empirical": partial(influence, inverse=EKFAC(EmpiricalFisher(), damping="auto"), l2=0.0),
    "nystrom": partial(influence, inverse=Nystrom(RANK, damping="auto", residuals=False)),
    "arnoldi": partial(influence, inverse=Arnoldi(RANK, damping="auto", residuals=False)),
    "diagonal": partial(influence, inverse=Diagonal(damping="auto")),
    "datainf": partial(influence, inverse=DataInf()),
    "ensemble of early seeds": partial(ensemble, models=partial(early, fifths=(2,), seeds=ALL_SEEDS)),
    "ensemble": partial(ensemble, models=seeds),
}

if __name__ == "__main__":
    run("upweight", VARIANTS, SOLVERS)
