"""Which parameters to move: five criteria and ratios of 2 to 100 %, GIF and FIF, a class of CIFAR-10 removed."""

from __future__ import annotations

import warnings
from typing import Any

from matplotlib.figure import Figure

from experiments.gif.comparison import ROUNDS, SETTINGS, SOLVES, both, percent, spread
from experiments.gif.problems import FORGOTTEN, QUICK, SCALE, STUDIES, objective
from experiments.results import Result, Stopwatch, save, table
from experiments.resume import over_seeds
from experiments.running import run
from upweight import plots, select
from upweight.errors import NotConvergedWarning
from upweight.tasks import Equations, Rounds, unlearn

RATIOS = (0.1, 1.0) if QUICK else (0.02, 0.05, 0.1, 0.3, 1.0)
CRITERIA = {
    "highest output": select.highest_output,
    "lowest output": select.lowest_output,
    "highest gradient": select.highest_gradient,
    "lowest gradient": select.lowest_gradient,
    "random": select.random,
}
SEEDS = range(2 if QUICK else 5)
METHOD = "FIF"
ONCE = {**SETTINGS, "steps": 1}


def one_seed(seed: int) -> dict[str, Any]:
    """Accuracy on other classes and the removed one, by criterion and ratio."""
    warnings.simplefilter("ignore", NotConvergedWarning)  # a residual of a tenth is what was asked for
    study = STUDIES["cifar10"]
    train, test = study.images(seed)
    base, _ = study.trained(train, seed)
    whole = objective(base, train)
    found: dict[str, Any] = {"base": both(base, test)}
    everything = None
    for name, rule in CRITERIA.items():
        rows = []
        for ratio in RATIOS:
            if ratio == 1 and everything is not None:
                rows.append(everything)
                continue
            chosen = rule(ratio, per="global", seed=seed) if rule is select.random else rule(ratio, per="global")
            made = unlearn(
                whole,
                classes=[FORGOTTEN],
                parameters=chosen,
                method=METHOD,
                rounds=Rounds(**ROUNDS),
                equations=Equations(**SOLVES),
                seed=seed,
            )
            rows.append([*both(made.model, test), made.subset.share, made.seconds])
            if ratio == 1:
                everything = rows[-1]
        found[name] = rows
    return found


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all seeds"):
        runs = over_seeds("gif-selection", one_seed, SEEDS, settings=[ONCE, SCALE, RATIOS, METHOD], jobs=1)
    means = {name: [spread([run[name][place] for run in runs]) for place in range(len(RATIOS))] for name in CRITERIA}
    base = spread([run["base"] for run in runs])

    at = RATIOS.index(0.05) if 0.05 in RATIOS else 0
    save(
        Result(
            id="gif_selection",
            title="Which parameters to move: CIFAR-10",
            paper="at 5 %, accuracy on the other classes: highest output 90.90, highest gradient 90.73, random 84.87, "
            "lowest output 40.46, lowest gradient 48.27 (base 91.50); all parameters 78.78",
            ours=f"at {RATIOS[at]:.0%} by {METHOD}, other classes and removed one: "
            + ", ".join(f"{name} {percent(rows[at])} and {percent(rows[at], 1)}" for name, rows in means.items())
            + f" (base {percent(base)} and {percent(base, 1)})",
            why=f"Scale: {SCALE}, {STUDIES['cifar10'].words}; {len(runs)} seeds, units ranked over all layers, one "
            "step whose length was judged on held-out training images. By share of the units that may move, accuracy "
            "in % on the other classes / on the removed one:"
            + table(
                ["", *(f"{ratio:.0%}".replace("%", " %") for ratio in RATIOS)],
                [[name, *(f"{percent(each)} / {percent(each, 1)}" for each in rows)] for name, rows in means.items()],
            ),
            numbers={"ratios": RATIOS, "means": means, "base": base, "per_seed": runs, "settings": ONCE},
            quick=QUICK,
            seconds=sum(run["cpu_seconds"] for run in runs),
            peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
        ),
        {"gif_selection": drawn(means, base, len(runs))},
        watch,
        folder="gif",
    )


def drawn(means: dict[str, list[dict]], base: dict[str, list[float]], seeds: int) -> Figure:
    """Accuracies by ratio, a curve for each criterion."""

    def both_of(part: str) -> dict[str, list[list[float]]]:
        return {name: [each[part][:2] for each in rows] for name, rows in means.items()}

    return plots.accuracy_by_ratio(
        RATIOS,
        both_of("mean"),
        both_of("deviation"),
        before=base["mean"],
        note=f"means and standard deviations of {seeds} seeds",
        title=f"Removing a class of CIFAR-10 by {METHOD}, by which units move",
    )


if __name__ == "__main__":
    run(main)
