"""A small job, and a folder for its store that waits, is full, or kills who writes at a chosen write or deletion."""

from __future__ import annotations

import os
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import upweight as uw
from processes import wait_for
from upweight.files import NotWrittenError
from upweight.jobs.run import LOG
from upweight.store import Local

N, WIDTH, QUERIES = 15, 5, 4
SHARDS = N // WIDTH


@dataclass(frozen=True)
class Disturbed(Local):
    """A folder; writes and deletions of all processes together are counted by notes beside it.

    Attributes
    ----------
    notes
        Where they are; a new folder for each time.
    what
        ``full``: this write and all after it can't be done; ``kill``: SIGKILL before it; ``killed``: after it;
        ``wait``: until there is a file ``go`` among the notes.
    at
        Which, from 0.
    of
        Only writes of keys that hold this count.
    deletions
        Whether they count too; a driver deletes what its workers wrote, at whichever moment.
    """

    notes: Path = Path()
    what: str = "nothing"
    at: int = 0
    of: str = ""
    deletions: bool = True

    def __str__(self) -> str:
        return str(self.path)

    def write(self, key: str, content: bytes) -> None:
        """See `Backend`."""
        number = self._begun(key)
        if self.what == "full" and number >= self.at:
            raise NotWrittenError(f"{self.path / key}: can't be written (No space left on device)")
        super().write(key, content)
        if number == self.at and self.what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)

    def delete(self, key: str) -> None:
        """See `Backend`."""
        number = self._begun(key) if self.deletions else -1
        super().delete(key)
        if number == self.at and self.what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)

    def _begun(self, key: str) -> int:
        """The number of a write or a deletion, -1 where it doesn't count."""
        number = self._count() if self.of in key else -1
        if number == self.at and self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.at and self.what == "wait":
            (self.notes / "waits").write_text(str(os.getpid()))
            wait_for((self.notes / "go").exists)
        return number

    def _count(self) -> int:
        self.notes.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            try:
                (self.notes / str(number)).touch(exist_ok=False)
            except FileExistsError:
                number += 1
            else:
                return number

    @property
    def steps(self) -> int:
        """How many were counted."""
        return len(list(self.notes.iterdir()))


def influence() -> uw.Influence:
    """Of a network as it is drawn, by factors that are fitted beforehand: fits have tests of their own."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(N, 4, generator=generator), torch.randint(3, (N,), generator=generator)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, y), l2=0.01)
    return uw.Influence(objective, uw.inverse.EKFAC().fit(objective))


def queries() -> tuple[torch.Tensor, torch.Tensor]:
    """Its queries."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(QUERIES, 4, generator=generator), torch.randint(3, (QUERIES,), generator=generator)


def job(place: Any, top_k: int | None = None, executor: Any = None, shard_size: int = WIDTH) -> uw.Stored:
    """All of it, by one thread."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", uw.NotStationaryWarning)
        return influence().attribute(queries(), store=place, top_k=top_k, shard_size=shard_size, executor=executor)


def contents(place: Path) -> dict[str, bytes]:
    """All files of the result, drafts that were left among them."""
    files = [file for file in place.rglob("*") if file.is_file() and file.name not in ("lock", LOG)]
    return {str(file.relative_to(place)): file.read_bytes() for file in files}
