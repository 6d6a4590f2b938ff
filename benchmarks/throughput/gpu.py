"""All that is to be measured on a GPU, in one script of less than five minutes.

    python -m benchmarks.throughput.gpu                                 # writes gpu.json beside this file
    python -m benchmarks.throughput.gpu --device cpu --small            # the whole script at a size that takes no time
    python -m benchmarks.throughput.gpu --problems gpu-mlp --minutes 2

Needs torch, rich and upweight; kronfluence is measured too where it can be imported. First come small scores of the
device in float32 beside those of the CPU in float64, and the lines of code at which the host waits for the device; then
seconds and memory of every problem in float32 and in TF32, ours before the peer's; an LSTM in evaluation mode is ours
alone. What the time doesn't suffice for is skipped, and says so; a further run with --problems or --systems adds it.
Every result is written at once; `benchmarks.throughput.report` then puts them on the page.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.fidelity.environments import PEERS
from benchmarks.fidelity.measure import limited
from benchmarks.fidelity.plan import OURS
from benchmarks.fidelity.tables import grid
from benchmarks.processes import machine
from benchmarks.throughput import ours, record
from benchmarks.throughput.agreement import agreement, between
from benchmarks.throughput.facts import facts
from benchmarks.throughput.problems import GPU, SMALL, Problem, problem
from benchmarks.throughput.record import Row, derived
from benchmarks.throughput.script import Clock, Score, measured, tf32
from benchmarks.throughput.tables import STAGES, WIDTH, show
from upweight.errors import UpweightWarning

PRECISIONS = ("float32", "tf32")
FURTHEST = 0.05
"""Relative distance of small float32 scores from float64 ones from which something is wrong; rounding, which turns the
eigenvectors of near eigenvalues, is 0.006 on a CPU."""
PEER = "kronfluence"
UP = "skipped, the time is up"
PLACES = 8
"""Lines of code that are shown of those at which the host waits."""


def main() -> None:
    options = arguments().parse_args()
    device = ready(options.device)
    warnings.simplefilter("ignore", UpweightWarning)  # that random networks are at no optimum, and work is long
    for noise in (FutureWarning, UserWarning):  # torch's and the peer's
        warnings.simplefilter("ignore", noise)
    console = Console(width=WIDTH)
    usual = None if options.small else record.FILE.with_name(record.GPU)
    until = time.monotonic() + 60 * options.minutes
    run = Run(device, options.small, until, options.results or usual, console)
    run.compare(options.problems)
    run.look_for_waits(options.problems)
    known = {OURS: lambda: ours.score, PEER: peer}
    run.measure(options.problems, {system: known[system]() for system in options.systems})
    run.show()
    if far := run.far():
        raise SystemExit(f"scores on {device} differ from float64 ones: {', '.join(far)}")


def ready(name: str) -> torch.device:
    """The device.

    Raises
    ------
    SystemExit
        If there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here; --device cpu --small runs the whole script at a small size")
    return torch.device(name)


class Run:
    """What was found so far, written at once, and the time that is left."""

    def __init__(self, device: torch.device, small: bool, until: float, file: Path | None, console: Console):
        self.device, self.small, self.console = device, small, console
        self._until, self._file = until, file
        self._scores: dict[str, dict[tuple[str, str], Tensor]] = {}
        self.found: dict[str, Any] = {"machine": described(device), "float64": {}, "cases": {}, "waits": {}}
        before = record.load(file) if file is not None else {}
        if before.get("machine") == self.found["machine"]:
            self.found = before

    def compare(self, names: list[str]) -> None:
        """Small scores of the device in float32 beside those of the CPU in float64."""
        for name in names:
            self._keep("float64", name, self._tried(lambda name=name: beside_float64(SMALL[name], self.device)))

    def measure(self, names: list[str], systems: dict[str, Score | str]) -> None:
        """Every problem in both precisions: ours first, since what comes last may find no time."""
        for system, score in systems.items():
            if not isinstance(score, str):  # what a process does once, is done before
                self._tried(lambda score=score: measured(score, SMALL["gpu-mlp"], self.device, "float32")[0])
            for precision in PRECISIONS:
                for name in names:
                    if system == OURS or problem(name).hookable:
                        self._measure(name, precision, system, score)

    def _measure(self, name: str, precision: str, system: str, score: Score | str) -> None:
        case = self._case(name, precision)
        if isinstance(score, str):
            row: Row = {"failed": score}
        else:
            row = self._tried(lambda: self._row(name, precision, system, score))
            row = derived(row, case["facts"])
        if row.get("failed") != UP or system not in case["rows"]:
            case["rows"][system] = row
        case.update(between(self._scores.get(name, {}), precision, (OURS, PEER)))
        self._save()
        said = row.get("failed") or f"{row['total']:.2f} s, {row['times_floor']:.1f} × floor"
        self.console.print(f"{name}, {precision} · {system}: {said}", highlight=False)

    def _row(self, name: str, precision: str, system: str, score: Score) -> Row:
        found, scores = measured(score, problem(name, small=self.small), self.device, precision)
        self._scores.setdefault(name, {})[precision, system] = scores
        return found | {"repeats": 1}

    def _case(self, name: str, precision: str) -> record.Case:
        by_precision = self.found["cases"].setdefault(name, {})
        if precision not in by_precision:
            known = facts(problem(name, small=self.small), self.device, precision, 256 if self.small else None)
            by_precision[precision] = {"facts": known, "machine": self.found["machine"], "rows": {}}
        return by_precision[precision]

    def look_for_waits(self, names: list[str]) -> None:
        """The lines of code at which the host waits for the device."""
        if self.device.type != "cuda":
            self.console.print("waits: none to look for, the device is the CPU")
            return
        for name in names:
            self._keep("waits", name, self._tried(lambda name=name: waits(SMALL[name], self.device)))

    def _tried(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What the work finds, or ``failed`` with the reason: one failure isn't to end the whole run."""
        left = self._until - time.monotonic()
        if left <= 0:
            return {"failed": UP}
        try:
            with limited(left):
                return work()
        except TimeoutError:
            return {"failed": "not finished when the time was up"}
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}"[:240]}
        finally:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _keep(self, kind: str, name: str, found: dict[str, Any]) -> None:
        self.found[kind][name] = found
        self._save()

    def _save(self) -> None:
        if self._file is not None:
            record.save(self.found, self._file)

    def far(self) -> list[str]:
        """Problems whose small scores are further from float64 than rounding explains, or weren't found."""
        return [
            f"{name} ({one.get('failed') or format(one['distance'], '.1e')})"
            for name, one in self.found["float64"].items()
            if not one.get("distance", torch.inf) <= FURTHEST
        ]

    def show(self) -> None:
        """All tables."""
        compared = [[name, *words(one)] for name, one in self.found["float64"].items()]
        grid("Small scores beside float64 on the CPU", ["problem", *AGREED], compared, self.console)
        show(self.found["cases"], self.console)
        grid("Memory in MiB", MEMORY, memory(self.found["cases"]), self.console)
        beside = [
            [f"{name}, {system}", *words(one)]
            for name, cases in self.found["cases"].items()
            for case in cases.values()
            for system, one in case.get("beside_float32", {}).items()
        ]
        grid("TF32 beside float32", ["measurement", *AGREED], beside, self.console)
        if self.device.type == "cuda":
            grid(
                "Seconds the host waited at a stage's end",
                ["measurement", *STAGES],
                waited(self.found["cases"]),
                self.console,
            )
            lines = [[name, *map(str, place)] for name, one in self.found["waits"].items() for place in one.items()]
            grid("Where the host waits, small sizes", ["problem", "line", "times"], lines, self.console, right=False)


AGREED = ["Pearson", "Spearman", "relative distance"]
MEMORY = ["measurement", "held before", "peak", "beyond", "model", "planned"]


def words(found: dict[str, Any]) -> list[str]:
    """An agreement in figures."""
    if "failed" in found:
        return [found["failed"], "", ""]
    return [f"{found['pearson']:.6f}", f"{found['spearman']:.6f}", f"{found['distance']:.1e}"]


def rows(cases: record.Found) -> list[tuple[str, Row, dict[str, Any]]]:
    """The name of every measurement, what it found, and the facts of its problem."""
    return [
        (f"{name}, {precision}, {system}", row, case["facts"])
        for name, precisions in cases.items()
        for precision, case in precisions.items()
        for system, row in case["rows"].items()
        if "failed" not in row
    ]


def memory(cases: record.Found) -> list[list[str]]:
    """Peaks, and beside them what ``influence.plan()`` foretold beyond the model and the data."""
    return [
        [name]
        + [
            "" if size is None else f"{size / 2**20:,.0f}"
            for size in (row["held"], row["peak"], row["beyond"], 4 * known["parameters"], row.get("planned"))
        ]
        for name, row, known in rows(cases)
    ]


def waited(cases: record.Found) -> list[list[str]]:
    """Seconds of every stage at whose end the host waited: near 0, the device was idle before."""
    return [[name, *(f"{row['waits'].get(stage, 0.0):.2f}" for stage in STAGES)] for name, row, _ in rows(cases)]


def beside_float64(small: Problem, device: torch.device) -> dict[str, float]:
    """Agreement of float32 scores on the device with float64 ones on the CPU."""
    found = []
    for place, dtype in ((device, torch.float32), (torch.device("cpu"), torch.float64)):
        model, train, queries = (in_precision(part, dtype) for part in small.made())
        with tf32(False):
            found.append(ours.influence_on(small, model.to(place), train).attribute(queries).scores.cpu())
    return agreement(*found)


def in_precision(given: Any, dtype: torch.dtype) -> Any:
    """A model, or a pair of inputs and targets; whole numbers stay what they are."""
    if isinstance(given, torch.nn.Module):
        return given.to(dtype)
    return tuple(part.to(dtype) if part.is_floating_point() else part for part in given)


def waits(small: Problem, device: torch.device) -> dict[str, int]:
    """How often the host waits for the device at which line, those of the most waits first."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            ours.score(small, Clock(device), device, "float32", Path())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    lines = Counter(
        f"{Path(one.filename).parent.name}/{Path(one.filename).name}:{one.lineno}"
        for one in said
        if "synchroniz" in str(one.message)
    )
    return {"all": lines.total(), **dict(lines.most_common(PLACES))}


def peer() -> Score | str:
    """The peer's script, or why there is none."""
    try:
        return importlib.import_module("benchmarks.throughput.kronfluence").score
    except ImportError as error:
        return f"skipped, it can't be imported: {error}"


def described(device: torch.device) -> dict[str, Any]:
    """The machine, and the versions on it."""
    named = {"device": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return machine(torch.get_num_threads()) | named | {"peer": PEERS[PEER].pins[-1]}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="the same forms at a size that takes no time")
    parser.add_argument("--problems", nargs="+", choices=list(GPU), default=list(GPU), metavar="problem")
    parser.add_argument("--systems", nargs="+", choices=[OURS, PEER], default=[OURS, PEER], metavar="system")
    parser.add_argument(
        "--minutes", type=float, default=4.75, help="after which what is left is skipped (default 4.75)"
    )
    parser.add_argument("--results", type=Path, help="default gpu.json beside this file; none of --small")
    return parser


if __name__ == "__main__":
    main()
