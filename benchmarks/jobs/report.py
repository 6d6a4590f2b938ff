"""results.json as RESULTS.md: ``python -m benchmarks.jobs.report``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fidelity.tables import table
from benchmarks.jobs import record
from benchmarks.throughput.record import load

MIB = 2**20
Part = dict[str, Any]


def write(results: Path = record.FILE) -> None:
    """The page beside the results."""
    (results.parent / "RESULTS.md").write_text(markdown(load(results)), encoding="utf-8")


def markdown(found: dict[str, Part]) -> str:
    """The page."""
    sections = "\n".join(SECTIONS[name](found[name]) for name in record.PARTS if name in found)
    return f"""# Long jobs at their full size

Made by `python -m benchmarks.jobs.run` from `results.json`; run it to renew this page. A network of 49,896 parameters
as it is drawn, examples of 100 features, scores by EK-FAC into a store. Every process has one thread. **Seconds of the
processor** count only what a process itself does, so that they hardly change where others work on the same machine;
seconds by the clock do. The load is the machine's before the part began: others' work, if it is above 0.

{sections}"""


def _large(part: Part) -> str:
    one, slice_, top, dense = part["found"], part["found"]["in_memory"], part["found"]["top"], part["found"]["dense"]
    memory = {
        "examples": slice_[0]["examples"],
        **{name: statistics.mean(run[name] for run in slice_) for name in ("seconds", "busy", "beyond")},
    }
    rows = [
        _timed("in memory, a slice, mean of before and after", memory, memory),
        _timed(f"store, the {one['k']} largest and smallest", top, memory),
        _timed("store, all scores, a slice", dense, memory),
    ]
    head = ["what", "examples", "seconds", "of the processor", "examples/s", "examples/s in memory", "MiB beyond"]
    return f"""## One job beside the engine in memory

{table([*head[:5], "of in memory, by the clock", "of in memory, by the processor", head[6]], rows)}

{one["queries"]:,} queries; {one["shards"]} shards. MiB beyond: the largest that the process held, beyond what it held
before with model and data ({one["data"] / MIB:,.0f} MiB of data). Disk: {top["disk"]:,} bytes for
{top["kept"]:,} bytes of values and positions that are kept ({top["disk"] / top["kept"]:.3f} times as many); of all
scores {dense["disk"] / dense["scores"]:.2f} bytes a score. {_machine(part)}
"""


def _timed(name: str, one: Part, beside: Part) -> list[str]:
    ratios = [beside[kind] / beside["examples"] / (one[kind] / one["examples"]) for kind in ("seconds", "busy")]
    figures = f"{one['examples']:,}", f"{one['seconds']:.1f}", f"{one['busy']:.1f}"
    return [
        name, *figures, f"{one['examples'] / one['seconds']:,.0f}", *(f"{ratio:.0%}" for ratio in ratios),
        f"{one['beyond'] / MIB:,.0f}",
    ]  # fmt: skip


def _workers(part: Part) -> str:
    one = part["found"]
    systems = {
        name: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "steady", "to_first", "workers")}
        for name, runs in one["systems"].items()
    }
    first = next(iter(systems.values()))
    rows = [
        [
            name, f"{row['workers']:.0f}", f"{row['seconds']:.1f}", f"{first['seconds'] / row['seconds']:.2f}",
            f"{row['steady']:,.0f}", f"{row['steady'] / first['steady']:.2f}", f"{row['to_first']:.1f}",
        ]
        for name, row in systems.items()
    ]  # fmt: skip
    head = ["executor", "workers", "seconds", "times as fast", "examples/s after the first shard", "times as fast"]
    same = len({run["sha256"] for runs in one["systems"].values() for run in runs}) == 1
    words = "The same bytes by all." if same else "**The bytes differ.**"
    return f"""## Workers

{table([*head, "seconds to the first shard"], rows)}

{one["examples"]:,} examples × {one["queries"]:,} queries, shards of {one["width"]:,}. {words} {_machine(part)}
"""


def _open(part: Part) -> str:
    rows = [
        [
            name, f"{one['disk'] / MIB:,.1f}", f"{statistics.median(run['seconds'] for run in one['runs']):.2f}",
            f"{max(run['beyond'] for run in one['runs']) / MIB:,.0f}",
        ]
        for name, one in part["found"].items()
    ]  # fmt: skip
    queries, examples = part["found"]["dense"]["runs"][0]["shape"]
    return f"""## Opening a store, and one query's top 10

{table(["store", "MiB on disk", "seconds after the import", "MiB beyond"], rows)}

{examples:,} examples × {queries:,} queries; medians, and the largest memory, of {len(part["found"]["dense"]["runs"])}
processes that were started anew. {_machine(part)}
"""


def _kills(part: Part) -> str:
    one = part["found"]
    rows = [
        [
            name, str(row["kills"]), str(row["in_time"]),
            f"{row['done']['least']}–{row['done']['median']}–{row['done']['most']}", *map(str, row["faults"].values()),
        ]
        for name, row in one["executors"].items()
    ]  # fmt: skip
    faults: Sequence[str] = list(next(iter(one["executors"].values()))["faults"])
    head = ["executor", "kills", "before its end", "shards done by then (least–median–most)", *faults]
    return f"""## SIGKILL at random moments, then the same call again

{table(head, rows)}

Jobs of {one["shards"]} shards, all scores kept and few, by turns; *processes*: two workers. Compared byte by byte with
a job that nobody disturbed; *twice*: a shard that was written down as done was done again. {_machine(part)}
"""


def _machine(part: Part) -> str:
    one = part["machine"]
    words = f"{one['processor']}, {one['cores']} cores; Python {one['python']}, torch {one['torch']}"
    return f"Machine: {words}; load {part['load']:.1f}."


SECTIONS: dict[str, Callable[[Part], str]] = {
    "large": _large,
    "workers": _workers,
    "open": _open,
    "kills": _kills,
}

if __name__ == "__main__":
    write()
