"""Rules that choose temperature, damping and method without retraining, held against the best of the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.choice.grid import INVERSES, MULTIPLES, measured
from experiments.choice.tasks import FINDING, KEPT, NAMES, QUICK, truth
from experiments.results import Result, Stopwatch, save, table
from experiments.running import run
from upweight.evaluation.lds import noise_ceiling

Numbers = dict[str, Any]
Setting = tuple[str, float, float]
"""Inverse, temperature, multiple of λ + δ."""
LOOKED = (
    "Rules were looked for on the first four. On the others, looked at once, it was seen that a model moved to weight "
    "½ does well where moving raises the training loss; that rule was made after all of them but digits-transformer. "
    "nan: not measured."
)


def grid(found: Numbers) -> dict[Setting, float]:
    """LDS of every setting of a task."""
    return {
        (kind, float(key.split()[-1]), float(multiple)): value
        for kind in INVERSES
        for key, one in found.items()
        if key.startswith(f"{kind} ")
        for multiple, value in one["lds"].items()
    }


def fixed(kind: str, temperature: float) -> Callable[[Numbers], float]:
    """One temperature for all, automatic δ."""
    return lambda found: grid(found)[kind, temperature, 1.0]


def calibrated(kind: str) -> Callable[[Numbers], float]:
    """The temperature of the lowest loss on the queries (Guo et al. 2017), automatic δ."""

    def rule(found: Numbers) -> float:
        losses = {float(key): value for key, value in found["losses"]["queries"].items()}
        known = {t for _, t, _ in grid(found)}
        return grid(found)[kind, min(known, key=losses.__getitem__), 1.0]

    return rule


def left_out(found: Numbers) -> float:
    """The dual at temperature 1, δ where leave-one-out losses of the linearised model are the queries'."""
    losses, wanted = found["dual 1.0"]["left out"], found["losses"]["queries"]["1.0"]
    best = min(losses, key=lambda multiple: abs(math.log(losses[multiple] / wanted)))
    return grid(found)["dual", 1.0, float(best)]


def as_halves(kind: str) -> Callable[[Numbers], float]:
    """The temperature at which the training loss is that of models of halves, automatic δ: asks for a retraining."""

    def rule(found: Numbers) -> float:
        losses, wanted = found["losses"]["training"], found["losses"]["halves"]
        known = {t for _, t, _ in grid(found)}
        return grid(found)[kind, min(known, key=lambda t: abs(math.log(losses[str(t)] / wanted))), 1.0]

    return rule


def moved_or_tempered(found: Numbers) -> float:
    """Moved to weight ½ where that fits the data less closely than the model handed in, else tempered by 2."""
    if found["moved"]["loss"] > found["losses"]["training"]["1.0"]:
        return found["expanded 0"]["lds"]
    return found["automatic 2.0"]["lds"]


RULES: dict[str, Callable[[Numbers], float]] = {
    "today's choice": lambda found: found["automatic"]["lds"],
    "today's choice, tempered by 2": lambda found: found["automatic 2.0"]["lds"],
    "EK-FAC": fixed("EK-FAC", 1.0),
    "dual, tempered by 2": fixed("dual", 2.0),
    "EK-FAC, tempered by 2": fixed("EK-FAC", 2.0),
    "dual, tempered by 4": fixed("dual", 4.0),
    "EK-FAC, tempered by 4": fixed("EK-FAC", 4.0),
    "dual, temperature by the queries' loss": calibrated("dual"),
    "EK-FAC, temperature by the queries' loss": calibrated("EK-FAC"),
    "dual, δ by leave-one-out losses": left_out,
    "dual, temperature by the loss of halves": as_halves("dual"),
    "EK-FAC, temperature by the loss of halves": as_halves("EK-FAC"),
    "moved to weight ½": lambda found: found["expanded 0"]["lds"],
    "moved, or tempered by 2 where moving fits more closely": moved_or_tempered,
    "trained at weight ½": lambda found: found["expanded 1"]["lds"],
    "trained at weight ½, 3 seeds": lambda found: found.get("expanded 3", {"lds": math.nan})["lds"],
}


def gaps(found: dict[str, Numbers], rule: Callable[[Numbers], float]) -> dict[str, float]:
    """LDS of the best of the grid less that of the rule, by task; nan where there is no grid."""
    return {name: max(grid(one).values(), default=math.nan) - value(rule, one) for name, one in found.items()}


def value(rule: Callable[[Numbers], float], found: Numbers) -> float:
    """LDS of a rule; nan where what it looks at wasn't measured."""
    try:
        return rule(found)
    except (KeyError, ValueError):
        return math.nan


def best(found: Numbers) -> str:
    """The best of the grid in words."""
    values = grid(found)
    if not values:
        return "nan"
    kind, temperature, multiple = max(values, key=values.__getitem__)
    return f"{max(values.values()):.3f} ({kind}, T {temperature:g}, ×{multiple:g})"


def summary(values: list[float]) -> str:
    """Mean and worst of those that were measured."""
    values = [value for value in values if not math.isnan(value)]
    return f"{sum(values) / len(values):+.3f} / {max(values):+.3f}" if values else "–"


def _of(each: dict[str, float], names: Iterable[str]) -> list[float]:
    return [each[name] for name in names]


def figure(found: dict[str, Numbers]) -> Figure:
    """LDS over the temperature, at the automatic δ and at the best of the grid."""
    drawn, axes = plt.subplots(2, -(-len(found) // 2), figsize=(3.2 * -(-len(found) // 2), 5.6), squeeze=False)
    found = {name: one for name, one in found.items() if grid(one)}
    for axis in axes.flatten()[len(found) :]:
        axis.axis("off")
    for axis, (name, one) in zip(axes.flatten(), found.items(), strict=False):
        values = grid(one)
        for kind, colour in zip(INVERSES, ("C0", "C1"), strict=True):
            temperatures = sorted({t for _, t, _ in values})
            best = [max(v for (k, u, _), v in values.items() if (k, u) == (kind, t)) for t in temperatures]
            automatic = [values[kind, t, 1.0] for t in temperatures]
            axis.plot(temperatures, automatic, "o-", color=colour, label=f"{kind}, automatic δ")
            axis.plot(temperatures, best, "o:", color=colour, mfc="white", label=f"{kind}, best δ")
        axis.axhline(one["automatic"]["lds"], color="grey", lw=1, ls="--", label="today's choice")
        axis.set(title=f"{name}{'' if name in FINDING else ' (kept back)'}", xlabel="temperature")
        axis.title.set_fontsize(9)
    axes[0, 0].set_ylabel("LDS (averaged seeds, halves)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="lower center", ncols=5, frameon=False, fontsize=8)
    drawn.tight_layout(rect=(0, 0.06, 1, 1))
    return drawn


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all settings"):
        found = {name: measured(name) for name in NAMES}
    finding, kept = ({n: one for n, one in found.items() if n in group} for group in (FINDING, KEPT))
    by_rule = {name: gaps(found, rule) for name, rule in RULES.items()}
    rows = [
        [
            name,
            *(f"{value(RULES[name], one):.3f}" for one in found.values()),
            *(summary(_of(each, n)) for n in (finding, kept)),
        ]
        for name, each in by_rule.items()
    ]
    rows.append(["best of the grid", *map(best, found.values()), "0", "0"])
    ceilings = {n: noise_ceiling(truth(n).outcomes.permute(2, 1, 0).numpy())[1] for n in found}
    facts = "; ".join(
        f"{n}: loss of training {one['losses']['training']['1.0']:.3f}, of queries "
        f"{one['losses']['queries']['1.0']:.3f}, ceiling {ceilings[n]:.2f}"
        for n, one in found.items()
    )
    today = by_rule["today's choice"]
    heads = ["rule", *found, "gap, finding (mean / worst)", "gap, kept back (mean / worst)"]
    save(
        Result(
            id="choice_rules",
            title="An automatic choice where nobody tuned it",
            paper="none",
            ours=f"gap of today's choice to the best of the grid, mean / worst: {summary(_of(today, finding))} on "
            f"{len(finding)} tasks, {summary(_of(today, kept))} on {len(kept)} kept back",
            why=f"Grid: temperature × {{dual of 600 rows, EK-FAC}} × {MULTIPLES} of λ + δ. {facts}."
            + table(heads, rows)
            + LOOKED,
            numbers={"tasks": found, "ceilings": ceilings},
            quick=QUICK,
        ),
        {"choice_rules": figure(found)},
        watch,
        "choice",
    )


if __name__ == "__main__":
    run(main)
