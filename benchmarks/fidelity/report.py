"""results.json as RESULTS.md with figures, and on the terminal: ``python -m benchmarks.fidelity.report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.fidelity import environments, figures, record
from benchmarks.fidelity.plan import OURS, TASKS
from benchmarks.fidelity.record import Found
from benchmarks.fidelity.targets import BASE, REFERENCE, Row, automatic_rows, finished, targets, total

PAGE = Path(__file__).parent / "RESULTS.md"
HEAD = ["system", "LDS", "interval", "fit", "score", "total", "× floor", "time / kronfluence", "MiB"]
NARROW = ["system", "LDS", "±", *HEAD[3:7], "/ kronfl.", "MiB"]
WIDTH = 100
"""Columns of the terminal."""
NOTABLE = 0.005
"""LDS from which a difference to the automatic choice counts as one."""


def rows(found: Found, task: str) -> dict[str, list[str]]:
    """The figures of the task's rows, highest LDS first."""
    done = finished(found, task)
    peer, floor = done.get(REFERENCE), found["tasks"][task].get("floor")
    return {name: cells(done[name], peer, floor) for name in sorted(done, key=lambda name: -done[name]["lds"])}


def failures(found: Found, task: str) -> dict[str, str]:
    """The reasons of those that have none."""
    every = found["rows"].get(task, {})
    return {name: every[name]["failed"] for name in sorted(every) if "failed" in every[name]}


def cells(row: Row, peer: Row | None, floor: float | None) -> list[str]:
    """A row's figures."""
    stages = row["stages"]
    return [
        f"{row['lds']:.3f}",
        f"{row['low']:.3f} … {row['high']:.3f}",
        *(f"{stages[stage]:.2f}" for stage in ("fit", "score", "total")),
        "" if floor is None else f"{stages['total'] / floor:.0f}",
        "" if peer is None else f"{stages['total'] / total(peer):.3g}",
        f"{row['memory']:.0f}",
    ]


def differences(found: Found, task: str) -> list[list[str]]:
    """Ours beside the automatic choice: LDS gained and time taken, largest gain first."""
    ours = automatic_rows(found, task)
    if BASE not in ours:
        return []
    base = ours.pop(BASE)
    lines = []
    for row in sorted(ours.values(), key=lambda each: -each["lds"]):
        gain, times = row["lds"] - base["lds"], total(row) / total(base)
        verdict = "raised" if gain > NOTABLE else "lowered" if gain < -NOTABLE else "neither"
        lines.append([task, row["variant"], f"{gain:+.3f}".replace("-", "−"), f"{times:.2g}", verdict])
    return lines


def show(found: Found, tasks: Sequence[str], console: Console) -> None:
    """The tables on a terminal."""
    for task in tasks:
        table = Table(title=task, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
        for number, name in enumerate(NARROW):
            table.add_column(name, justify="right" if number else "left", max_width=None if number else 40)
        done = finished(found, task)
        for name, (lds, _, *others) in rows(found, task).items():
            table.add_row(name, lds, f"{(done[name]['high'] - done[name]['low']) / 2:.3f}", *others)
        console.print(table)
        for name, reason in failures(found, task).items():
            console.print(f"  {name}: {reason}", highlight=False)
    table = Table(title="Targets", box=box.SIMPLE_HEAD)
    for name in ("what", "measured", "met"):
        table.add_column(name)
    for target in targets(found):
        table.add_row(*target.cells)
    console.print(table)


def write(found: Found) -> None:
    """RESULTS.md and a figure per task."""
    drawn = figures.write(found)
    PAGE.write_text(markdown(found, drawn))


def markdown(found: Found, drawn: Sequence[str]) -> str:
    """The page."""
    machine = found["machine"]
    tasks = [task for task in TASKS if task in found["tasks"]]
    sections = "\n".join(section(found, task, figure=task in drawn) for task in tasks)
    gains = [line for task in tasks for line in differences(found, task)]
    left_out = "\n".join(f"- {name}: {reason}" for name, reason in environments.NOT_RUN.items())
    pins = ", ".join(pin for each in environments.PEERS.values() for pin in each.pins if "torch==" not in pin)
    return f"""# Fidelity beside peers

Made by `python -m benchmarks.fidelity.run` from `results.json`; run it to renew this page. Every measurement has a
process and an environment of its own, one after the other, the systems in turn, on the same machine
({machine["processor"]}, {machine["cores"]} cores, {machine["threads"]} threads for each; Python {machine["python"]},
torch {machine["torch"]}), in float32, by the same clock: from model and data in memory to scores of all queries and
training examples. Peers: {pins}.

LDS, the linear datamodelling score: mean over queries of Spearman's ρ, over models retrained on random halves of the
training data, between the sum of the half's scores and the query's loss; with a 95% interval over queries and halves.
*best damping*: the highest LDS of a grid, known only once one has retrained, where other rows are what a system chooses
by itself; its seconds are those of one damping. Figures show peers at both, {OURS} at its own choice. *fit*: whatever
is done once, queries unseen; in it the training of further models that a row of {OURS} needs (checkpoint, ensembles).
TRAK's and TracIn's models count as given, for peers as for {OURS}. × floor: multiples of one plain forward and backward
over training data and queries. MiB: peak growth over model and data. What {OURS} does includes its checks (finite data,
losses, optimum).

*tempered*: outputs divided by 1.4, `CrossEntropy(temperature=1.4)`; *later layers*: the last residual or attention
block and what follows it, `Objective(parameters=…)`; *last layer*: that alone. The temperature, which layers, and the
constants of the automatic choice were set with these tasks in view; they are the same for all tasks, but other tasks
may ask for others. On char-gpt the temperature costs a hundredth.

## Targets

{table(["what", "measured", "met"], [target.cells for target in targets(found)])}

{iterations(found)}
{sections}
## What raised LDS further, and what did not

Beside the automatic choice of `uw.Influence(objective)`: difference of LDS, and multiples of its time. The intervals
above are those of single figures; differences between rows of one task, on the same halves and queries, are steadier.

{table(["task", "variant", "LDS", "× time", "LDS was"], gains)}

## Peers that were not run

{left_out}
"""


def section(found: Found, task: str, *, figure: bool) -> str:
    """One task: its sizes, its figure and its table."""
    facts = found["tasks"][task]
    ceiling = (
        f"the seeds agree to {facts['seed agreement']:.3f}, so a perfect predictor reaches about {facts['ceiling']:.2f}"
        if "ceiling" in facts
        else "with one seed the ceiling is not known"
    )
    floor = f" Floor: {facts['floor']:.3f} s." if "floor" in facts else ""
    lines = [[name, *each] for name, each in rows(found, task).items()]
    lines += [[name, "–", reason, *[""] * 6] for name, reason in failures(found, task).items()]
    picture = f"![LDS against seconds on {task}]({task}.png)\n\n" if figure else ""
    return f"""## {task}

n={facts["n"]:,}, p={facts["p"]:,}, λ = {facts["l2"]:g}, {facts["queries"]} queries; {facts["subsets"]} halves × \
{facts["seeds"]} seeds: {ceiling}.{floor}

{picture}{table(HEAD, lines)}
"""


def iterations(found: Found) -> str:
    """CG's iterations in words."""
    one = found.get("iterations", {})
    if "solvers" not in one:
        return ""
    lines = []
    for name, each in one["solvers"].items():
        counts = ", ".join(map(str, each["single"]))
        line = f"- {name}: {counts} iterations for single queries ({each['seconds']:.2f} s each)"
        if "block" in each:
            line += f", {each['block']} for a block of {one['block']} ({each['block seconds']:.2f} s)"
        lines.append(line)
    return (
        f"CG on the exact GGN of {one['task']} at δ = {one['damping']:.3g} to a relative residual of "
        f"{one['tolerance']:.0e}, by preconditioner:\n\n" + "\n".join(lines) + "\n"
    )


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *escaped))


if __name__ == "__main__":
    everything = record.load()
    write(everything)
    show(everything, [task for task in TASKS if task in everything["tasks"]], Console(width=WIDTH))
