"""Speed on convex tasks: its part of the page, and of what the terminal shows."""

from __future__ import annotations

from rich.console import Console

from benchmarks.fidelity import environments
from benchmarks.fidelity.models import CONVEX
from benchmarks.fidelity.plan import OURS
from benchmarks.fidelity.record import Found, total
from benchmarks.fidelity.speed import COMPARED
from benchmarks.fidelity.speed_targets import PEER, repeated, shown, targets, trials
from benchmarks.fidelity.tables import grid, machines, table

HEAD = ["system", "fit", "factors", "values", "total", "MiB", "× CG", "× floor"]


def rows(found: Found) -> list[list[str]]:
    """The comparison, ours first."""
    timed, floor = repeated(found), found["tasks"][COMPARED].get("floor")
    base = timed.get(f"{OURS}: CG")
    lines = []
    for name in sorted(timed, key=lambda name: (timed[name]["system"] != OURS, -total(timed[name]))):
        row = timed[name]
        lines.append(
            [
                name,
                *(f"{row['stages'][stage]:.3f}" for stage in ("fit", "factors", "values", "total")),
                f"{row['memory']:.0f}",
                "" if base is None else f"{total(row) / total(base):.1f}",
                "" if floor is None else f"{total(row) / floor:.0f}",
            ]
        )
    return lines


def failures(found: Found) -> list[str]:
    """Those that were not timed, and why."""
    every = found["rows"].get(COMPARED, {})
    return [f"{name}: {row['failed']}" for name, row in sorted(every.items()) if "failed" in row]


def show(found: Found, console: Console) -> None:
    """The tables on a terminal."""
    if COMPARED in found["tasks"]:
        grid(f"{COMPARED}: seconds", HEAD, rows(found), console)
        for line in failures(found):
            console.print(f"  {line}", highlight=False)
    grid("Targets", ["what", "measured", "met"], [target.cells for target in targets(found)], console, right=False)


def section(found: Found) -> str:
    """The part of the page."""
    tasks = [task for task in CONVEX if task in found["tasks"]]
    if not tasks:
        return ""
    pins = ", ".join(environments.PEERS[PEER].pins)
    return f"""## Speed

Convex problems, of which every system finds the same answer: MNIST pixels, linear models without bias at their optimum,
one λ for all weights, {found["tasks"][tasks[0]]["queries"]} queries. Renewed by `make benchmark`. Ratios count: all ran
in turn on the same machine ({machines(found, tasks)}; {pins} for the peer), in float32.

{compared(found)}
### Targets of speed

{table(["what", "measured", "met"], [target.cells for target in targets(found)])}

{alone(found)}
"""


def compared(found: Found) -> str:
    """Ours beside the peers' best, and the settings among which it is the best."""
    timed = repeated(found)
    if COMPARED not in found["tasks"] or not timed:
        return ""
    facts, first = found["tasks"][COMPARED], next(iter(timed.values()))
    processor = ", ".join(f"{name} {row['stages']['processor']:.2f}" for name, row in timed.items())
    differences = "; ".join(
        f"{name} beside {peer}: " + ", ".join(f"{part} {value:.1e}" for part, value in parts.items())
        for name, row in timed.items()
        for peer, parts in row.get("differences", {}).items()
    )
    reports = ", ".join(
        f"{name} ({row['settings']['report']})" for name, row in timed.items() if "report" in row["settings"]
    )
    settings = "\n".join(f"- {name}: {seconds:.2f} s" for name, seconds in trials(found).items())
    floor = f" ({facts['floor']:.3f} s)" if "floor" in facts else ""
    lost = "".join(f"- {line}\n" for line in failures(found))
    return f"""### {COMPARED}: factors of {facts["queries"]} queries, and their values on all training data

n={facts["n"]:,}, p={facts["p"]:,}, λ = {facts["l2"]:g}. Seconds, medians of {first["repeats"]} runs; relative residual
{first["settings"]["tolerance"]:.0e} for all. × CG: multiples of {OURS}'s CG; × floor: of one plain forward and backward
over the training data{floor}. MiB: peak growth over data and model. {OURS}'s time includes its checks
(finite data, losses, optimum); the peer makes none. {OURS}'s solvers: {reports}.

{table(HEAD, rows(found))}

Processor seconds of the whole: {processor}. Largest differences of the answers: {differences}.

The peers' settings, each tried once, of which the fastest stands above (one by one: extrapolated from five queries):

{settings}
{lost}"""


def alone(found: Found) -> str:
    """What was measured of ours on each task."""
    lines = [
        f"- {task}: one query {one['one']:.2f} s in {one['iterations_one'][0]} iterations, {one['queries']} queries "
        f"{one['all']:.2f} s in {one['iterations_all']} (all residuals ≤ {one['residual_all']:.0e}); "
        f"one forward and backward {one['floor']:.3f} s"
        for task, one in found.get("cg", {}).items()
        if "ratio" in one
    ]
    lines += [
        f"- {task}: perturbation of a pair with its solve: {shown(one['with_solve_over_full_gradient'])} full gradients"
        for task, one in found.get("perturbation", {}).items()
        if "pair" in one
    ]
    return "\n".join(lines)
