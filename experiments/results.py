"""What an experiment leaves behind: a JSON of numbers, PNG figures, and their line in RESULTS.md."""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from experiments.provenance import code, mixture, of_other_code, provenance, said
from upweight import files

HERE = Path(__file__).parent
GIB = 2**20  # ru_maxrss counts KiB


@dataclass
class Result:
    """One figure or table of a paper, with ours beside it.

    Attributes
    ----------
    paper, ours
        The published figures and ours, in words with numbers.
    why
        Where they differ, and why.
    numbers
        Everything measured, for the JSON.
    """

    id: str
    title: str
    paper: str
    ours: str
    why: str
    numbers: dict[str, Any]
    quick: bool
    seconds: float = 0.0
    peak_memory_gib: float = 0.0
    figures: list[str] = field(default_factory=list)
    machine: str = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    provenance: dict[str, Any] = field(default_factory=provenance)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, with empty lines about it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n"


class Stopwatch:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 2)
        print(f"  {name}: {self.seconds[name]:.1f} s", flush=True)

    def total(self) -> float:
        """Seconds since the stopwatch was made."""
        return round(time.perf_counter() - self._started, 1)


def legend_below(figure: Figure) -> None:
    """One legend under all axes, of what the first ones show."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.08, 1, 1))


def save(result: Result, figures: dict[str, Figure], watch: Stopwatch, folder: str = "koh_liang") -> None:
    """Write figures and numbers under ``folder/results`` (``folder/quick`` for quick runs)."""
    target = HERE / folder / ("quick" if result.quick else "results")
    target.mkdir(parents=True, exist_ok=True)
    contents: dict[Path, files.Content] = {}
    for name, figure in figures.items():
        contents[target / f"{name}.png"] = partial(figure.savefig, dpi=110, bbox_inches="tight", format="png")
        result.figures.append(f"{folder}/{target.name}/{name}.png")
    result.seconds = result.seconds or watch.total()  # of a run that was resumed the experiment knows better
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    result.peak_memory_gib = round(max(own_peak, result.peak_memory_gib), 2)
    result.numbers["seconds_by_stage"] = watch.seconds
    if parts := of_other_code(result.numbers, code()):
        result.provenance["parts"] = parts
    path = target / f"{result.id}.json"
    contents[path] = json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n"
    files.write_all(contents)  # all or none: numbers beside another run's figure would mislead
    print(f"{result.id}: {result.ours} ({result.seconds:.0f} s, {result.peak_memory_gib:.1f} GiB) -> {path}")


def _not_made(found: list[dict[str, Any]], why: Mapping[str, str]) -> str:
    """Which rows an earlier run left, which there are none of, and why this run didn't make them."""
    there = {each["id"] for each in found}
    words = {True: "of an earlier run", False: "without a result"}
    return (
        "Not made by the latest run: "
        + "; ".join(f"{row}, {words[row in there]} ({reason})" for row, reason in why.items())
        + "."
    )


def gather(folders: list[str], quick: bool, not_run: Mapping[str, str] | None = None) -> Path:
    """Write RESULTS.md from the JSON files of the latest runs; ``not_run`` says of rows why they weren't made anew."""
    name = "quick" if quick else "results"
    found = [
        json.loads(path.read_text()) for folder in folders for path in sorted((HERE / folder / name).glob("*.json"))
    ]
    lines = [
        "# Results",
        "",
        "Written by `make reproduce` from the JSON file beside each figure; every number was measured in the latest "
        "run of that experiment. Where an experiment resumed, seconds are those of that run, unless it says more.",
        "",
        *[line for line in (mixture(found), "") if mixture(found)],
        *[line for line in (_not_made(found, not_run or {}), "") if not_run],
        "| figure | paper | ours | seconds | memory |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| [{r['title']}](#{r['id']}) | {r['paper']} | {r['ours']} | {r['seconds']:.0f} | "
        f"{r['peak_memory_gib']:.1f} GiB |"
        for r in found
    ]
    for r in found:
        lines += ["", f'<a id="{r["id"]}"></a>', f"## {r['title']}", "", f"**Paper:** {r['paper']}", ""]
        lines += [f"**Ours:** {r['ours']}", "", r["why"], ""]
        lines += [f"![{r['title']}]({figure})" for figure in r["figures"]]
        stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in r["numbers"]["seconds_by_stage"].items())
        lines += ["", f"Stages: {stages}. Machine: {r['machine']}; {said(r.get('provenance'))}."]
    target = HERE / ("RESULTS-quick.md" if quick else "RESULTS.md")
    files.write(target, "\n".join(lines) + "\n")
    return target
