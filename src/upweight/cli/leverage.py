"""Rows of a CSV that the model leans on: their leverage is divided out, and told where one step isn't enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upweight.cli.sources import Source
    from upweight.influence import Influence

AFFORDABLE = 2e12
"""Multiplications of the solves for all rows (minutes) up to which leverage is divided out."""
DOUBTFUL = 0.2
"""Leverage from which one Newton step was off by more than a tenth in some tables of 60 to 300 rows."""
NAMED = 5


def is_divided_out(opened: Source) -> bool:
    """Whether scores of this source are corrected: those of a CSV's convex model, if the solves take minutes at most.

    A warning says so where they would take longer.
    """
    from upweight.messages import UpweightWarning, warn

    if opened.model is None:
        return False
    objective, classes = opened.objective, len(opened.class_names or ())
    work = float(objective.n) * (classes if classes > 2 else 1) * objective.p**2
    if work <= AFFORDABLE:
        return True
    warn(
        f"leverage: dividing it out would take {work:.0e} multiplications (up to {AFFORDABLE:.0e} are spent), so rows "
        "that the model leans on move it further than their scores say",
        UpweightWarning,
    )
    return False


def warn_if_high(influence: Influence, positions: Sequence[int], noun: str) -> None:
    """Name the rows among these whose leverage is so high that one Newton step may be far from retraining."""
    import torch

    from upweight.influence.leverage import leverages
    from upweight.messages import UpweightWarning, warn

    objective = influence.objective
    places = torch.as_tensor(sorted(set(positions)))
    found = leverages(objective, influence.solve, places)
    high = [(float(found[i]), objective.ids[int(places[i])]) for i in found.argsort(descending=True).tolist()]
    high = [(value, name) for value, name in high if value >= DOUBTFUL]
    if high:
        named = ", ".join(f"{noun} {name} {value:.2f}" for value, name in high[:NAMED])
        more = f" and {len(high) - NAMED} more" if len(high) > NAMED else ""
        warn(
            f"leverage (share of the curvature that one {noun} holds): {named}{more}. From {DOUBTFUL:g} on, a score is "
            "one Newton step and may be off by a third; `upweight verify` retrains without them",
            UpweightWarning,
        )
