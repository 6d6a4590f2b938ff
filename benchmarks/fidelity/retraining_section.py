"""Agreement with retraining: its part of the page, and of what the terminal shows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from benchmarks.fidelity.models import RETRAINED
from benchmarks.fidelity.plan import OURS
from benchmarks.fidelity.record import Found, Row, total
from benchmarks.fidelity.tables import grid, machines, table
from benchmarks.fidelity.targets import BASE, REFERENCE, automatic_rows, finished, targets
from upweight.evaluation import Protocol

HEAD = ["system", "LDS", "interval", "fit", "score", "total", "× floor", "time / kronfluence", "MiB"]
NARROW = ["system", "LDS", "±", *HEAD[3:7], "/ kronfl.", "MiB"]
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
        done = finished(found, task)
        lines = [
            [name, lds, f"{(done[name]['high'] - done[name]['low']) / 2:.3f}", *others]
            for name, (lds, _, *others) in rows(found, task).items()
        ]
        grid(task, NARROW, lines, console)
        for name, reason in failures(found, task).items():
            console.print(f"  {name}: {reason}", highlight=False)
    grid("Targets", ["what", "measured", "met"], [target.cells for target in targets(found)], console, right=False)


def section(found: Found, drawn: Sequence[str]) -> str:
    """The part of the page."""
    tasks = [task for task in RETRAINED if task in found["tasks"]]
    if not tasks:
        return ""
    sections = "\n".join(one(found, task, figure=task in drawn) for task in tasks)
    gains = [line for task in tasks for line in differences(found, task)]
    return f"""## Agreement with retraining

Renewed by `make benchmark-fidelity`. All ran in turn on the same machine ({machines(found, tasks)}), in float32, by the
same clock: from model and data in memory to scores of all queries and training examples.

LDS, the linear datamodelling score: mean over queries of Spearman's ρ, over models retrained on random halves of the
training data, between the sum of the half's scores and the query's loss; with a 95% interval over queries and halves.
*best damping*: the highest LDS of a grid, known only once one has retrained, where other rows are what a system chooses
by itself; its seconds are those of one damping. Figures show peers at both, {OURS} at its own choice. *fit*: whatever
is done once, queries unseen; in it the training of further models that a row of {OURS} needs (checkpoint, ensembles).
TRAK's and TracIn's models count as given, for peers as for {OURS}. × floor: multiples of one plain forward and backward
over training data and queries. MiB: peak growth over model and data. What {OURS} does includes its checks (finite data,
losses, optimum).

The protocol is *averaged seeds*: every model its own first θ and order of batches, outcomes averaged over seeds; scores
are expanded at weight 1 unless a row says more. Figures in other protocols (the same run, few examples left out) are
not comparable.

*tempered*: outputs divided by 1.4, `CrossEntropy(temperature=1.4)`; *later layers*: the last residual or attention
block and what follows it, `Objective(parameters=…)`; *last layer*: that alone. The temperature, which layers, and the
constants of the automatic choice were set with these tasks in view; they are the same for all tasks, but other tasks
may ask for others. On char-gpt the temperature costs a hundredth.

### Targets

{table(["what", "measured", "met"], [target.cells for target in targets(found)])}

{iterations(found)}
{sections}
### What raised LDS further, and what did not

Beside the automatic choice of `uw.Influence(objective)`: difference of LDS, and multiples of its time. The intervals
above are those of single figures; differences between rows of one task, on the same halves and queries, are steadier.

{table(["task", "variant", "LDS", "× time", "LDS was"], gains)}
"""


def one(found: Found, task: str, *, figure: bool) -> str:
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
    return f"""### {task}

n={facts["n"]:,}, p={facts["p"]:,}, λ = {facts["l2"]:g}, {facts["queries"]} queries; {facts["subsets"]} halves × \
{facts["seeds"]} seeds, protocol {Protocol("averaged seeds", 0.5, facts["seeds"])}: {ceiling}.{floor}

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
