"""Which measurements there are, and in which order they are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

OURS = "upweight"
SPEED_SYSTEMS = (OURS, "pydvl")
"""Those that solve convex tasks; other peers' environments aren't made for them."""
DUALS = ("dual-2500", "dual-5000")
DEEP = ("cifar-cnn", "char-gpt")
BY_LAYERS = ("later layers", "later layers, tempered", "last layer, ekfac", "last layer, kfac")
"""Variants of ours that attribute to some layers only, for the deep networks."""

HINDSIGHT = {
    OURS: ("auto", "ekfac"),
    "kronfluence": ("EK-FAC",),
    "pydvl": ("EK-FAC", "Nyström 50"),
    "dattri": ("EK-FAC",),
}
"""Variants that are measured at the best damping of a grid too: known only after retraining, so for comparison."""


@dataclass(frozen=True)
class Measurement:
    """One system's variant on a task; ``damping`` is "default", "best" (of a grid, by LDS) or a number."""

    task: str
    system: str
    variant: str
    damping: str = "default"

    @property
    def name(self) -> str:
        """What it is called in results and tables."""
        suffix = {"default": "", "best": ", best damping"}.get(self.damping, f", δ={self.damping}")
        return f"{self.system}: {self.variant}{suffix}"


def measurements(tasks: Sequence[str], variants: Mapping[str, Sequence[str]]) -> list[Measurement]:
    """Round after round: one variant of each system on each task, so that a change of the machine meets all alike.

    Every system's variants keep their order, in which those that matter most come first.
    """
    queues = [
        [Measurement(task, system, name, damping) for name in names for damping in dampings(task, system, name)]
        for task in tasks
        for system, given in variants.items()
        for names in [[name for name in given if task in DEEP or name not in BY_LAYERS]]
    ]
    return [measurement for one in zip_longest(*queues) for measurement in one if measurement is not None]


def dampings(task: str, system: str, variant: str) -> list[str]:
    """The dampings at which a variant is measured."""
    found = ["default"]
    dual = system == OURS and variant in DUALS
    if variant in HINDSIGHT.get(system, ()) or (dual and task in ("digits", "mnist-mlp")):
        found.append("best")
    if dual and task == "mnist-mlp":
        found.append("0.03")
    return found
