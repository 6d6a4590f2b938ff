"""What an attack aims at, through which training images, how it climbs, and what it takes of memory and disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from upweight import kinds, scalars
from upweight.errors import InputError
from upweight.places import place
from upweight.tasks.attacks.box import Box


@dataclass(frozen=True, kw_only=True, eq=False)
class Aim:
    """The queries that attacks try to flip.

    Parameters
    ----------
    targets
        Positions of the queries to attack (default: all that are predicted rightly).
    together
        One attack on all targets in place of one on each; every target that is still right counts alike.
    query_ids
        Names of all the queries (default: positions).

    Raises
    ------
    InputError
        If targets are no whole numbers from 0, or ``together`` no flag; `attack` compares them with the queries.
    """

    targets: Any = None
    together: bool = False
    query_ids: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        if self.targets is None:
            return
        given = kinds.numbers("targets", self.targets)
        whole = not (given.is_floating_point() or given.dtype == torch.bool)
        if given.numel() and not (whole and bool((given >= 0).all())):
            raise InputError(
                f"targets: give positions of queries, whole numbers from 0; got {scalars.shown(self.targets)}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class LeverChoice:
    """Which training images each attack changes.

    Parameters
    ----------
    count
        How many: those of largest ‖∇ₓ I_pert‖₁ (Koh & Liang 2017, section 5.2).
    candidates
        Levers whose ‖∇ₓ I_pert‖₁ is computed, chosen by the same norm at the features; at least ``count`` are.
    positions
        The training images to change, ``[attacks, count]`` (default: the strongest levers).

    Raises
    ------
    InputError
        If a number is none of at least 1; the shape of positions is compared with the targets by `attack`.
    """

    count: int = 1
    candidates: int = 24
    positions: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.whole("count", self.count)
        scalars.whole("candidates", self.candidates)


@dataclass(frozen=True, kw_only=True)
class Climb:
    """How an attack climbs: signed gradient steps within a box (Koh & Liang 2017, section 5.2).

    Parameters
    ----------
    step
        α of each step, in levels of 0 … 255. The paper's is .02.
    iterations
        Steps at most; an attack ends as soon as all of its targets err.
    box
        What keeps the stored bytes as they are: the largest change of a level.

    Raises
    ------
    InputError
        If the step isn't above 0 and at most 255, or the steps aren't at least 1.
    """

    step: float = 0.02
    iterations: int = 100
    box: Box = field(default_factory=Box)

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.number("step (in levels of 0 … 255)", self.step, above=0, most=255)
        scalars.whole("iterations", self.iterations)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What attacks may take of memory and disk.

    Parameters
    ----------
    batch_size
        Images that go through the network together; bounds the memory.
    keep
        Attacks whose changed images are in the result.
    folder
        Where finished batches of attacks are kept, each whole or not at all; the same call resumes from there.

    Raises
    ------
    InputError
        If the batch isn't at least 1, ``keep`` at least 0, or the folder a path.
    """

    batch_size: int = 16
    keep: int = 8
    folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        if self.folder is not None:
            place("folder", self.folder)
        scalars.whole("batch_size", self.batch_size)
        scalars.whole("keep", self.keep, 0)
