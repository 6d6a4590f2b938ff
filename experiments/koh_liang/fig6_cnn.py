"""Figure 6 on a network: mislabelled images of Fashion-MNIST, 10 % of the labels flipped to a random other class.

A small CNN, trained by SGD with momentum and weight decay λ: once for so short that it has hardly fitted a wrong label,
and once until it has memorised most of them. The same scores as for e-mails, by the inverse that label_errors chooses;
new images, flips and initialisation for every seed.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

import upweight as uw
from experiments.koh_liang.fig6_mislabels import FRACTIONS, draw_found, mean, told_of
from experiments.results import Result, Stopwatch, save
from experiments.resume import over_seeds
from experiments.running import run
from upweight import datasets
from upweight.tasks import label_scores

QUICK = bool(os.environ.get("QUICK"))
FLIPPED = 0.1
TRAIN, TEST = (800, 500) if QUICK else (3_000, 2_000)
REGIMES = {"stopped early": (15, 1e-3), "memorised": (40, 2e-4)}
"""Epochs and λ."""
BATCH, RATE, MOMENTUM = 64, 0.1, 0.9
SEEDS = range(2 if QUICK else 8)
METHODS = tuple(method for method in label_scores.METHODS if method != "relative")
"""A network's relative self-influence takes a solve of the length of θ for every example."""
ORDERS = ("out-of-sample", "margin", "self-influence", "loss")
RETRAINED = ("out-of-sample", "self-influence", "loss")
FIXED_AT = 0.2
SETTINGS = {
    **{"flipped": FLIPPED, "train": TRAIN, "test": TEST, "regimes": REGIMES, "batch": BATCH, "rate": RATE},
    **{"momentum": MOMENTUM, "retrained": RETRAINED, "fixed_at": FIXED_AT, "fractions": FRACTIONS},
}


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all seeds"):
        found = over_seeds("fig6-cnn", one_seed, SEEDS, settings=SETTINGS)
    watch.seconds["processor time of all seeds"] = round(sum(seed["cpu_seconds"] for seed in found), 1)
    numbers = {regime: summary([seed[regime] for seed in found]) for regime in REGIMES}
    save(
        Result(
            id="fig6_cnn",
            title="Fig 6 on a network: Fashion-MNIST",
            paper="not in the paper",
            ours=". ".join(f"{regime[:1].upper()}{regime[1:]}: {told(numbers[regime])}" for regime in REGIMES)
            + f" (95 % intervals over {len(found)} seeds)",
            why=". ".join(reason(regime, numbers[regime], [seed[regime] for seed in found]) for regime in REGIMES)
            + f". Inverse: {found[0]['memorised']['rows']}. No score is ahead everywhere: while wrong labels are not "
            "fitted their loss tells them as well as any; once most are memorised the margin's fall finds the "
            "later ones.",
            numbers={**numbers, "settings": SETTINGS, "per_seed": found},
            quick=QUICK,
            seconds=watch.seconds["processor time of all seeds"],
            peak_memory_gib=max(seed["peak_memory_gib"] for seed in found),
        ),
        {
            f"fig6_cnn_{regime.split()[0]}": draw_found(
                numbers[regime]["found"], f"Fashion-MNIST, a small CNN, {regime}: 10 % of labels flipped", "images"
            )
            for regime in REGIMES
        },
        watch,
    )


def summary(runs: list[dict]) -> dict:
    """Means over seeds with intervals."""
    return {
        key: {name: mean([run[key][name] for run in runs]) for name in runs[0][key]}
        for key in ("found", "auc", "average_precision", "accuracy")
    }


def told(numbers: dict) -> str:
    at = [FRACTIONS.index(share) for share in (0.1, 0.2, 0.3)]
    shares = "; ".join(f"{name} " + "/".join(told_of(numbers["found"][name], i) for i in at) for name in ORDERS)
    auc = ", ".join(f"{name} {numbers['auc'][name]['mean']:.3f}" for name in METHODS)
    fixed = ", ".join(f"{name} {value['mean']:.3f}" for name, value in numbers["accuracy"].items())
    return f"flips found by checking 10/20/30 %: {shares}; AUC {auc}; test accuracy {fixed}"


def reason(regime: str, numbers: dict, runs: list[dict]) -> str:
    shares = {name: numbers["found"][name]["mean"] for name in METHODS}
    first = ", ".join(
        f"{max(shares, key=lambda name: shares[name][i])} ({share:.0%})" for i, share in enumerate(FRACTIONS)
    )
    fitted = np.mean([run["flips_fitted"] for run in runs])
    epochs, l2 = REGIMES[regime]
    return (
        f"{regime[:1].upper()}{regime[1:]} ({epochs} epochs, λ = {l2:g}) the network has fitted {fitted:.0%} of the "
        f"flipped labels; finding most, by share checked: {first}"
    )


def one_seed(seed: int) -> dict:
    return {regime: one_run(seed, *how) for regime, how in REGIMES.items()}


def one_run(seed: int, epochs: int, l2: float) -> dict:
    """Flip labels, train, rank by every method, fix and train again."""
    (images, truth), test = data(seed)
    generator = np.random.default_rng(seed)
    flipped = np.zeros(TRAIN, dtype=bool)
    flipped[generator.choice(TRAIN, round(FLIPPED * TRAIN), replace=False)] = True
    shifts = torch.from_numpy(generator.integers(1, 10, TRAIN))
    labels = torch.where(torch.from_numpy(flipped), (truth + shifts) % 10, truth)
    net = trained(images, labels, seed, epochs, l2)
    objective = uw.Objective(net, uw.losses.CrossEntropy(), (images, labels), l2=l2)
    effects = uw.tasks.label_effects(objective)
    errors = {method: uw.tasks.label_errors(effects, method=method) for method in METHODS}
    orders = {name: found.order for name, found in errors.items()} | {"random": generator.permutation(TRAIN)}
    fixed = uw.tasks.fix_and_retrain(
        objective,
        {name: orders[name] for name in RETRAINED},
        truth,
        test,
        fractions=[FIXED_AT],
        train=lambda other: other.replace(model=trained(*other.data.take(range(TRAIN)), seed, epochs, l2)),
    )
    scores = {name: found.attribution.scores.double().numpy() for name, found in errors.items()}
    counts = [round(share * TRAIN) for share in FRACTIONS]
    solver = effects.influence.solver
    after = {f"{name}, first {FIXED_AT:.0%} fixed": float(values[0]) for name, values in fixed.accuracy.items()}
    return {
        "p": objective.p,
        "rows": getattr(solver, "name", type(solver).__name__),
        "damping": solver.damping,
        "gradient_over_noise": effects.influence.stationarity.ratio,
        "largest_leverage": float(effects.leverages.max()),
        "flips_fitted": float((~uw.tasks.predictions(objective).wrong)[torch.from_numpy(flipped)].double().mean()),
        "accuracy": {"flipped": fixed.accuracy_before, "clean": fixed.accuracy_clean, **after},
        "found": {
            name: [float(flipped[order[:k]].sum() / flipped.sum()) for k in counts] for name, order in orders.items()
        },
        "auc": {name: float(roc_auc_score(flipped, values)) for name, values in scores.items()},
        "average_precision": {name: float(average_precision_score(flipped, values)) for name, values in scores.items()},
    }


def data(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training images drawn by the seed, and the first test images; pixels in 0 … 1, ``[n, 1, 28, 28]``."""
    arrays = datasets.load("fashion-mnist").arrays
    chosen = np.sort(np.random.default_rng(1_000 + seed).choice(60_000, TRAIN, replace=False))
    return tuple(  # type: ignore[return-value]
        (
            torch.tensor(arrays[f"{part}_images"][rows, None] / 255).float(),
            torch.tensor(arrays[f"{part}_labels"][rows]).long(),
        )
        for part, rows in (("train", chosen), ("test", np.arange(TEST)))
    )


def network() -> nn.Sequential:
    """Two convolutions with stride 2 and two linear layers; p = 26,826."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10)),
    )


def trained(images: Tensor, labels: Tensor, seed: int, epochs: int, l2: float) -> nn.Module:
    """SGD on the mean loss with weight decay λ, its rate falling to 0 as a cosine."""
    torch.manual_seed(seed)
    net = network()
    steps = epochs * -(-len(labels) // BATCH)
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, weight_decay=l2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


if __name__ == "__main__":
    run(main)
