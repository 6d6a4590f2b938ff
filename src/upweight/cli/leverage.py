"""Rows of a CSV that the model leans on: without them it is followed to its new optimum, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upweight.cli.source import Source

AFFORDABLE = 2e12
"""Multiplications of the solves for all rows (minutes) up to which leverage is divided out."""
NEWTON_STEPS = 10
"""Steps at most: a table's model is there after two or three, and after six without a row that kept classes apart."""


def correction(opened: Source) -> dict[str, Any]:
    """How scores of this source are corrected: those of a CSV's convex model, if the solves take minutes at most.

    A warning says so where they would take longer.
    """
    from upweight.errors import UpweightWarning, warn

    if opened.model is None or not opened.model.is_linear:
        return {}
    objective, classes = opened.objective, len(opened.class_names or ())
    work = float(objective.n) * (classes if classes > 2 else 1) * objective.p**2
    if work <= AFFORDABLE:
        return {"leverage_corrected": True, "newton_steps": NEWTON_STEPS}
    warn(
        f"leverage: dividing it out would take {work:.0e} multiplications (up to {AFFORDABLE:.0e} are spent), so rows "
        "that the model leans on move it further than their scores say",
        UpweightWarning,
    )
    return {}
