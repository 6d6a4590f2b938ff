"""What a replay will cost, before it runs: a step and a reverse step are timed, the rest is counted."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from upweight.engine.budget import installed
from upweight.errors import InputError, UpweightWarning, warn
from upweight.planning.long import LONG, duration
from upweight.replay.run import Run
from upweight.store.backend import Backend, Local

MIB = 2**20


@dataclass(frozen=True)
class Sizes:
    """How a replay is cut to fit memory.

    Attributes
    ----------
    every
        Steps between kept states.
    block
        Queries of one reverse pass, whose cotangents are held together.
    chunk
        Queries that are differentiated together within a step.
    """

    every: int
    block: int
    chunk: int

    @property
    def words(self) -> str:
        """How often a state is kept."""
        return "every state kept" if self.every == 1 else f"a state kept every {self.every:,} steps"


@dataclass(frozen=True)
class ReplayPlan:
    """What would be done.

    Attributes
    ----------
    steps, parameters, queries, seeds
        T, p, and how many queries and trainings.
    sizes
        How it is cut.
    memory, disk
        Bytes held beside model and data, and bytes in the store (0 where there is none).
    step_seconds, reverse_seconds
        Of one step of training, and of one step in reverse for one query.
    trainings
        Trainings in all: one a seed, one more for each block of queries where states are taken again, and those of the
        metasmoothness.
    """

    steps: int
    parameters: int
    queries: int
    seeds: int
    sizes: Sizes
    memory: int
    disk: int
    step_seconds: float
    reverse_seconds: float
    trainings: int

    @property
    def training_seconds(self) -> float:
        """Of one training."""
        return self.steps * self.step_seconds

    @property
    def seconds(self) -> float:
        """Of all."""
        return self.trainings * self.training_seconds + self.seeds * self.queries * self.steps * self.reverse_seconds

    @property
    def trainings_per_query(self) -> float:
        """The reverse pass of a query, in trainings."""
        return self.reverse_seconds / self.step_seconds

    def table(self) -> Table:
        """The stages as a table."""
        caption = f"a query's reverse pass is {self.trainings_per_query:.2g} trainings; {self.sizes.words}"
        table = Table(title="Replay", title_justify="left", min_width=60, caption=caption, caption_justify="left")
        for name in ("stage", "times", "MiB", "seconds"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        back = self.seeds * self.queries
        rows = [
            ("training", self.trainings, self.trainings * self.training_seconds),
            ("reverse passes of queries", back, back * self.steps * self.reverse_seconds),
        ]
        for name, times, seconds in rows:
            table.add_row(name, f"{times:,}", "", f"{seconds:,.2f}", end_section=name != "training")
        table.add_row("all", "", f"{self.memory / MIB:,.0f}", f"{self.seconds:,.2f}")
        if self.disk:
            table.add_row("on disk", "", f"{self.disk / MIB:,.0f}", "")
        return table

    def __str__(self) -> str:
        console = Console(width=100, record=True, file=StringIO())
        console.print(self.table())
        return console.export_text()

    __repr__ = __str__

    def say_if_long(self) -> None:
        """Warn of work of over a minute."""
        if self.seconds >= LONG:
            warn(
                f"Replay: about {duration(self.seconds)} of work ahead ({self.trainings} trainings of "
                f"{duration(self.training_seconds)}, and {self.queries} queries at "
                f"{self.trainings_per_query:.2g} trainings each). replay.plan() lists it; fewer queries take less",
                UpweightWarning,
            )


def timed(run: Run, chunk: int) -> tuple[float, float]:
    """Seconds of a step of training, and of one in reverse, for one of ``chunk`` queries."""
    state = run.begin()
    generator = torch.Generator(device=run.start.device).manual_seed(0)
    noise = torch.randn(chunk, len(run.start), generator=generator, device=run.start.device).to(run.start)
    cotangents = tuple(noise.clone() for _ in state)
    steps, back = [], []
    for _ in range(5):
        started = time.perf_counter()
        float(run.step(state, 0)[0][0])  # waits for a device to finish
        steps.append(time.perf_counter() - started)
    for _ in range(2):
        started = time.perf_counter()
        float(run.pull_(state, 0, [cotangents])[0, 0])
        back.append(time.perf_counter() - started)
    return min(steps), min(back) / chunk


def refuse_no_room(plan: ReplayPlan, backend: Backend | None, device: torch.device) -> None:
    """Refuse a trajectory for which there is no room, before work.

    Raises
    ------
    InputError
        With what √T states need, and what there is.
    """
    held = installed() if device.type != "cuda" else torch.cuda.mem_get_info(device)[1]
    if plan.memory > held:
        raise InputError(
            f"budget: replaying {plan.steps:,} steps of p={plan.parameters:,} with a state every {plan.sizes.every:,} "
            f"holds {plan.memory / MIB:,.0f} MiB, and this machine has {held / MIB:,.0f}; give "
            "Budget(queries=…) of fewer bytes, or fewer parameters"
        )
    if isinstance(backend, Local):
        place = next(path for path in (backend.path, *backend.path.parents) if Path(path).exists())
        free = shutil.disk_usage(place).free
        if plan.disk > free:
            raise InputError(
                f"store: a state every √T of {plan.steps:,} steps needs {plan.disk / MIB:,.0f} MiB, and {place} has "
                f"{free / MIB:,.0f} MiB left; make room, or give another place"
            )
