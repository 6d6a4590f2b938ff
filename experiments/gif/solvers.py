"""Solving GIF's equations on the CNN of the experiments: LSMR beside the Neumann series, and memory beside training.

One system, min ‖H_J Δ − g‖ of the removal of a class, the same residual ‖H_Jᵀ(H_JΔ − g)‖/‖H_Jᵀg‖ of both, counted in
products with H. The series' ν is the best there is: 1.01 · ‖H_J‖/√2, found by the power method and not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import upweight as uw
from experiments.gif import problems
from experiments.gif.comparison import SETTINGS
from experiments.gif.figures import lines
from experiments.gif.networks import vgg11
from experiments.gif.problems import BATCH, FORGOTTEN, QUICK, SCALE, STUDIES, objective
from experiments.results import Result, Stopwatch, save
from upweight import select
from upweight.curvature import GGN
from upweight.influence.changes import changed, curvature_after
from upweight.inverse.lsmr import lsmr
from upweight.inverse.neumann import Neumann
from upweight.tasks.unlearning.problem import Problem, sampled

SAMPLE, DAMPINGS = (16 if QUICK else 32), (0.1, 0.01)
LIMITS = (1, 2, 4, 8, 16, 32, 64) if not QUICK else (1, 2, 4, 8)
NEUMANN = 60 if QUICK else 600
RATIO, SEED, WIDE = 0.1, 0, 8 if QUICK else 32


def main() -> None:
    watch = Stopwatch()
    study = STUDIES["cifar10"]
    train, _ = study.images(SEED)
    base, _ = study.trained(train, SEED)
    whole = objective(base, train)
    positions = (train[1] == FORGOTTEN).nonzero().flatten().cpu()
    drawn = sampled(Problem(whole, positions, None), SAMPLE, SEED)
    subset = select.highest_output(RATIO).of(drawn.objective, drawn.positions)
    curves: dict[str, Any] = {}
    found = {}
    for damping in DAMPINGS:
        with watch.stage(f"both solvers, δ = {damping:g}"):
            ours, theirs = both(drawn, subset, damping)
        for name, residuals in ((f"LSMR, δ = {damping:g}", ours), (f"Neumann, δ = {damping:g}", theirs)):
            curves[name] = (list(residuals), list(residuals.values()), [0.0] * len(residuals))
        found[f"{damping:g}"] = compared(ours, theirs) | {"lsmr": ours, "neumann": theirs}
    with watch.stage("memory"):
        memory = peaks(train)
    first = found[f"{DAMPINGS[0]:g}"]
    said = "; ".join(
        f"δ = {damping}: {each['lsmr_products']} products by LSMR and {each['neumann_products']} by the series to a "
        f"residual of {each['residual']:.1e}, 1/{each['times']:.0f}"
        for damping, each in found.items()
    )
    save(
        Result(
            id="gif_solvers",
            title="GIF's equations: LSMR beside the Neumann series",
            paper="solves by the series, ν raised until it stops diverging",
            ours=f"1/{first['times']:.0f} of the series' products with H for the same residual at δ = {DAMPINGS[0]:g}; "
            f"memory {memory['unlearning'] / memory['training']:.2f} × a training step's",
            why=f"Scale: {SCALE}, {study.words}, p = {whole.p:,}, {subset.size:,} entries in J, H the GGN of "
            f"{drawn.objective.n} images. {said}. The series had {NEUMANN:,} steps and the best ν, which costs a power "
            f"method; LSMR goes at the rate of H_J's condition, the series at its square. Peak memory of the "
            f"tensors made, of a VGG11 of {WIDE} channels and up: one training step (batch of {BATCH}) "
            f"{memory['training']:.2f} GiB, unlearning (batches of {BATCH // 2}) {memory['unlearning']:.2f} GiB.",
            numbers={"by_damping": found, "memory_gib": memory},
            quick=QUICK,
        ),
        {
            "gif_solvers": lines(
                curves, "products with H", "‖H_Jᵀr‖ / ‖H_Jᵀg‖", "Residual of GIF's equations", logarithmic="xy"
            )
        },
        watch,
        folder="gif",
    )


def both(drawn: Problem, subset: select.Subset, damping: float) -> tuple[dict[int, float], dict[int, float]]:
    """Normal residual by products with H, of LSMR and of the series."""
    posed = changed(drawn.objective, drawn.change)
    operator = curvature_after(posed, GGN(), damping, None, SEED)
    g = posed.gradient[None]

    def apply(x: Tensor) -> Tensor:
        return operator.apply(subset.embed(x))

    def transpose(u: Tensor) -> Tensor:
        return subset.cut(operator.apply(u))

    start = transpose(g)
    ours = {}
    for limit in LIMITS:
        operator.products[0] = 0
        x, _ = lsmr(apply, transpose, g, 1e-12, limit)
        used = operator.products[0]
        ours[used] = float(transpose(g - apply(x)).norm() / start.norm())
    v = start / start.norm()
    for _ in range(30):
        image = transpose(apply(v))
        largest = float(image.norm())
        v = image / image.norm()
    theirs: dict[int, float] = {}

    def recorded(u: Tensor) -> Tensor:
        slope = transpose(u)
        theirs[operator.products[0]] = float(slope.norm() / start.norm())
        return slope

    operator.products[0] = 0
    Neumann(nu=1.01 * (largest / 2) ** 0.5, max_doublings=1).solve(apply, recorded, g, 1e-12, NEUMANN)
    return ours, theirs


def compared(ours: dict[int, float], theirs: dict[int, float]) -> dict[str, Any]:
    """Products that either needs for the smallest residual the series came to."""
    reached = min(theirs.values())
    needed = next(products for products, residual in theirs.items() if residual <= reached)
    ours_needed = next(products for products, residual in ours.items() if residual <= reached)
    return {
        "residual": reached,
        "neumann_products": needed,
        "lsmr_products": ours_needed,
        "times": needed / ours_needed,
    }


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
        settings = {**SETTINGS, "steps": 1, "max_iterations": 2}
        uw.tasks.unlearn(whole, classes=[FORGOTTEN], parameters=rule, method="FIF", **settings)

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
    main()
