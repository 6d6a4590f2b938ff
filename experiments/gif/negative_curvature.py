"""Share of the Hessian's eigenvalues that are negative, against weight decay: a small fully connected net on digits.

All of them, from the dense Hessian in float64 (the digits of scikit-learn, 64–16–10, p = 1,210), of the risk with its
penalty and of the data's part alone; and what is left of them in the GGN.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

import upweight as uw
from experiments.gif.comparison import spread
from experiments.results import Result, Stopwatch, save
from experiments.resume import over_seeds
from experiments.running import run
from upweight import plots
from upweight.curvature import GGN, Hessian

QUICK = bool(os.environ.get("QUICK"))
DECAYS = (0.0, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2)
STEPS, RATE = (200 if QUICK else 1_000), 0.01
SEEDS = range(2 if QUICK else 5)
LEFTMOST = 1e-6
"""Where λ = 0 is drawn."""
NOTHING = 1e-9
"""Share of the largest eigenvalue within which one is none, by rounding."""


def one_seed(seed: int) -> dict[str, Any]:
    """Shares of negative eigenvalues for every weight decay."""
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float64) / 16
    y = torch.tensor(digits.target).long()
    found: dict[str, Any] = {name: [] for name in ("risk", "data", "ggn", "smallest", "gradient_norm", "accuracy")}
    for decay in DECAYS:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).double()
        optimiser = torch.optim.Adam(model.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for _ in range(STEPS):
            optimiser.zero_grad()
            penalty = sum((values**2).sum() for values in model.parameters())
            (nn.functional.cross_entropy(model(x), y) + 0.5 * decay * penalty).backward()
            optimiser.step()
            schedule.step()
        objective = uw.Objective(model.eval(), uw.losses.CrossEntropy(), (x, y), l2=decay)
        values = torch.linalg.eigvalsh(Hessian().of(objective).dense())
        ggn = torch.linalg.eigvalsh(GGN().of(objective).dense())
        rounding = NOTHING * float(values[-1])
        found["risk"].append(float((values < -rounding).double().mean()))
        found["data"].append(float((values - decay < -rounding).double().mean()))
        found["ggn"].append(float((ggn < -rounding).double().mean()))
        found["smallest"].append(float(values[0]))
        found["gradient_norm"].append(float(objective.gradient().norm()))
        with torch.no_grad():
            found["accuracy"].append(float((model(x).argmax(1) == y).double().mean()))
    return found


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all seeds"):
        runs = over_seeds("gif-negative", one_seed, SEEDS, settings=[DECAYS, STEPS, RATE], jobs=1)
    means = {name: spread([run[name] for run in runs]) for name in runs[0] if isinstance(runs[0][name], list)}

    def each(name: str, form: str, factor: float = 1.0) -> str:
        return ", ".join(format(factor * value, form) for value in means[name]["mean"])

    save(
        Result(
            id="gif_negative",
            title="Negative eigenvalues against weight decay",
            paper="a figure: the share of negative eigenvalues falls with weight decay",
            ours=f"{100 * means['risk']['mean'][0]:.0f} % of the eigenvalues are negative without weight decay, "
            f"{100 * means['risk']['mean'][-1]:.1f} % at λ = {DECAYS[-1]:g}; of the GGN none at any",
            why=f"p = 1,210, {len(runs)} seeds, λ = {', '.join(f'{decay:g}' for decay in DECAYS)}: negative in the "
            f"risk's Hessian {each('risk', '.1f', 100)} %, in its data part {each('data', '.1f', 100)} %; smallest "
            f"eigenvalue {each('smallest', '.1e')}; ‖∇R‖ {each('gradient_norm', '.0e')}; training accuracy "
            f"{each('accuracy', '.1f', 100)} %. The penalty lifts every eigenvalue by λ; where ReLU makes R flat, "
            "eigenvalues of 0 count as none.",
            numbers={"decays": DECAYS, "means": means, "per_seed": runs},
            quick=QUICK,
            seconds=sum(run["cpu_seconds"] for run in runs),
            peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
        ),
        {"gif_negative": drawn(means, len(runs))},
        watch,
        folder="gif",
    )


def drawn(means: dict[str, dict[str, list[float]]], seeds: int) -> Figure:
    """Shares of negative eigenvalues over weight decay."""
    curves, bands = {}, {}
    for name, words in (("risk", "Hessian of the risk"), ("data", "its data part"), ("ggn", "GGN")):
        middle, deviation = (100 * np.asarray(means[name][part]) for part in ("mean", "deviation"))
        curves[words], bands[words] = middle, (middle - deviation, middle + deviation)
    return plots.curves_with_bands(
        [max(decay, LEFTMOST) for decay in DECAYS],
        curves,
        bands,
        xlabel="weight decay λ (leftmost: 0)",
        ylabel="negative eigenvalues (%)",
        log_x=True,
        note=f"means and standard deviations of {seeds} seeds",
        title="A fully connected net on digits, p = 1,210",
    )


if __name__ == "__main__":
    run(main)
