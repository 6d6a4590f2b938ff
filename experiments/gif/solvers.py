"""Solving GIF's equations on the CNN of the experiments: LSMR beside the Neumann series, and memory beside training.

One system, min ‖H_J Δ − g‖ of the removal of a class, the same residual ‖H_Jᵀ(H_JΔ − g)‖/‖H_Jᵀg‖ of all; an iteration
of each takes two products with H. The series has ν = 0.75 ‖H_J‖ (it converges from .71 ‖H_J‖ on), or one doubled from 1
until it converges, as in the released code; what it takes to find ν is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import upweight as uw
from experiments.gif import problems
from experiments.gif.comparison import ROUNDS, SOLVES
from experiments.gif.networks import vgg11
from experiments.gif.problems import BATCH, FORGOTTEN, QUICK, SCALE, STUDIES, objective
from experiments.results import Result, Stopwatch, save, table
from experiments.running import run
from upweight import plots, select

SAMPLE, DAMPINGS = (32 if QUICK else 64), (0.1,)
LIMITS = {"LSMR": 64, "series": 40} if QUICK else {"LSMR": 128, "series": 300}
LEVELS = (0.1, 0.03)
RATIO, SEED, WIDE = 0.1, 0, 8 if QUICK else 32
OURS, NEAR, DOUBLED = "LSMR", "series, ν = .75 ‖H_J‖", "series, ν doubled"
WAYS = {
    OURS: (None, LIMITS["LSMR"]),
    NEAR: (uw.inverse.Neumann(nu=None), LIMITS["series"]),
    DOUBLED: (uw.inverse.Neumann(), LIMITS["series"]),
}


def main() -> None:
    watch = Stopwatch()
    study = STUDIES["cifar10"]
    train, _ = study.images(SEED)
    base, _ = study.trained(train, SEED)
    whole = objective(base, train)
    positions = (train[1] == FORGOTTEN).nonzero().flatten().cpu()
    subset = select.highest_output(RATIO).of(whole, positions)
    histories = {}
    for damping in DAMPINGS:
        with watch.stage(f"every solver, δ = {damping:g}"):
            histories[damping] = solved(whole, positions, subset, damping)
    with watch.stage("memory"):
        memory = peaks(train)
    rows = [[damping, *row] for damping, found in histories.items() for row in compared(found)]
    last = rows[-1]
    save(
        Result(
            id="gif_solvers",
            title="GIF's equations: LSMR beside the Neumann series",
            paper="solves by the series, ν raised until it stops diverging",
            ours=f"{last[2]} products with H to a residual of {last[1]:.1e} at δ = {last[0]:g}, the series {last[3]}, "
            f"1/{last[3] / last[2]:.0f}; memory {memory['unlearning'] / memory['training']:.2f} × a training step's",
            why=f"Scale: {SCALE}, {study.words}, p = {whole.p:,}, {subset.size:,} entries in J, H the GGN of "
            f"{SAMPLE} images. Products with H to the same residual, of {LIMITS['series']} iterations of the series:"
            + table(["δ", "residual", *WAYS], [[f"{row[0]:g}", f"{row[1]:.1e}", *map(_cell, row[2:])] for row in rows])
            + "LSMR goes at the rate of H_J's condition, the series at its square: the smaller the residual, the more "
            f"it gains. Peak memory of the tensors made, of a VGG11 of {WIDE} channels and up: one training step "
            f"(batch of {BATCH}) {memory['training']:.2f} GiB, unlearning (batches of {BATCH // 2}) "
            f"{memory['unlearning']:.2f} GiB.",
            numbers={"histories": histories, "products": rows, "memory_gib": memory},
            quick=QUICK,
        ),
        {"gif_solvers": drawn(histories, f"{study.words}; |J| = {subset.size:,}")},
        watch,
        folder="gif",
    )


def _cell(products: int | None) -> str:
    return "–" if products is None else str(products)


def drawn(histories: dict[float, dict[str, Sequence[float]]], words: str) -> Figure:
    """Residuals over iterations."""
    return plots.residual_curves(
        {f"{way}, δ = {damping:g}": history for damping, found in histories.items() for way, history in found.items()},
        log_x=True,
        ylabel="‖H_Jᵀr‖ / ‖H_Jᵀg‖",
        title="Residual of GIF's equations",
        note=f"{words}; two products with H in each iteration",
    )


def solved(
    whole: uw.Objective, positions: Tensor, subset: select.Subset, damping: float
) -> dict[str, tuple[float, ...]]:
    """By each way, the normal residual before the first iteration and after each."""
    influence = uw.Influence(whole, uw.inverse.Identity())
    return {
        way: influence.generalized(
            uw.Removal(positions),
            subset,
            method="GIF",
            equations=uw.tasks.Equations(
                curvature=uw.curvature.GGN(),
                damping=damping,
                examples=SAMPLE,
                tolerance=1e-12,
                max_iterations=limit,
                solver=solver,
            ),
            seed=SEED,
        ).history
        for way, (solver, limit) in WAYS.items()
    }


def compared(histories: dict[str, Sequence[float]]) -> list[list[float | int | None]]:
    """Rows of a residual and the products that each way needs for it; the last is the smallest the series came to."""
    levels = [*LEVELS, min(histories[NEAR])]
    return [[level, *(products(history, level) for history in histories.values())] for level in levels]


def products(history: Sequence[float], residual: float) -> int | None:
    """Products up to the first iteration that is as near as this, two in each; None: never."""
    return next((2 * number for number, each in enumerate(history) if each <= residual), None)


def peaks(train: problems.Split) -> dict[str, float]:
    """Peak memory of the tensors made by a training step, and by unlearning, in GiB; of an untrained VGG11."""
    x, y = train
    model = vgg11(WIDE).to(x.device)
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    whole = objective(vgg11(WIDE).to(x.device).eval(), train)

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x[:BATCH]), y[:BATCH]).backward()
        optimiser.step()

    def forget() -> None:
        rule = select.highest_output(0.05, per="global")
        equations = uw.tasks.Equations(**{**SOLVES, "max_iterations": 2})
        uw.tasks.unlearn(
            whole,
            classes=[FORGOTTEN],
            parameters=rule,
            method="FIF",
            rounds=uw.tasks.Rounds(**ROUNDS),
            equations=equations,
        )

    return {"training": _peak(step), "unlearning": _peak(forget)}


def _peak(work: Callable[[], Any]) -> float:
    """Most bytes of tensors alive at once that were made in the meantime, in GiB, by the profiler's record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=False) as record:
        work()
    found = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = most = 0
    for event in sorted(found, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most / 2**30


if __name__ == "__main__":
    run(main)
