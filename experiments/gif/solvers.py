"""Solving GIF's equations on the CNN of the experiments: LSMR beside the Neumann series, and memory beside training.

One system, min ‖H_J Δ − g‖ of the removal of a class, the same residual ‖H_Jᵀ(H_JΔ − g)‖/‖H_Jᵀg‖ of both, counted in
products with H. The series' ν is the best there is: 1.01 · ‖H_J‖/√2, found by the power method and not counted.
"""

from __future__ import annotations

import resource
from typing import Any

import torch
from torch import Tensor

import upweight as uw
from experiments.gif import problems
from experiments.gif.comparison import SETTINGS
from experiments.gif.figures import lines
from experiments.gif.problems import BATCH, FORGOTTEN, QUICK, SCALE, STUDIES, objective
from experiments.results import GIB, Result, Stopwatch, save
from upweight import select
from upweight.curvature import GGN
from upweight.influence.changes import changed, curvature_after
from upweight.inverse.lsmr import lsmr
from upweight.inverse.neumann import Neumann
from upweight.tasks.unlearning.problem import Problem, sampled

SAMPLE, DAMPINGS = (16 if QUICK else 32), (0.1, 0.01)
LIMITS = (1, 2, 4, 8, 16, 32, 64) if not QUICK else (1, 2, 4, 8)
NEUMANN = 60 if QUICK else 600
RATIO, SEED = 0.1, 0


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
        memory = peaks(whole, train)
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
            f"memory above the resident data {memory['unlearning'] / memory['training']:.2f} × a training step's",
            why=f"Scale: {SCALE}, {study.words}, p = {whole.p:,}, {subset.size:,} entries in J, H the GGN of "
            f"{drawn.objective.n} images. {said}. The series had {NEUMANN:,} steps and the best ν, which costs a power "
            f"method; LSMR goes at the rate of H_J's condition, the series at its square. Peak memory above what was "
            f"held before: one training step (batch of {BATCH}) {memory['training']:.3f} GiB, unlearning "
            f"{memory['unlearning']:.3f} GiB.",
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


def peaks(whole: uw.Objective, train: problems.Split) -> dict[str, float]:
    """Peak resident memory, in GiB, above what was resident before: of a training step, and of unlearning."""
    x, y = train
    model = STUDIES["cifar10"].network()
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x[:BATCH]), y[:BATCH]).backward()
        optimiser.step()

    def forget() -> None:
        rule = select.highest_output(0.05, per="global")
        uw.tasks.unlearn(whole, classes=[FORGOTTEN], parameters=rule, method="FIF", **SETTINGS)

    return {"training": _peak(step), "unlearning": _peak(forget)}


def _peak(work: Any) -> float:
    """Of this process's high-water mark, set anew first where the system lets it be."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = _status("VmRSS")
        work()
        return (_status("VmHWM") - before) / GIB
    except OSError:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / GIB


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


if __name__ == "__main__":
    main()
