"""How much of what is known to be wrong a ranking finds: one method of label errors and of target errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.evaluation.detection import FRACTIONS, recovered
from upweight.plots import checks


@runtime_checkable
class Ranked(Protocol):
    """Training examples with scores, the most suspicious first."""

    @property
    def attribution(self) -> Attribution:
        """Scores ``[train]``."""
        ...


def recovery(
    self: Ranked, wrong: np.ndarray, fractions: Sequence[float] = FRACTIONS
) -> Float[np.ndarray, " fractions"]:
    """Share of the examples known to be wrong that is found by checking from the top.

    Parameters
    ----------
    wrong
        Booleans ``[train]``, True for what is known to be wrong.
    fractions
        Shares of the training data checked, in 0 … 1.

    Returns
    -------
    Share of the wrong ones found by then, in 0 … 1, ``[fractions]``.

    Raises
    ------
    InputError
        If ``wrong`` isn't a boolean for each training example, or none is True.
    """
    scores = self.attribution.scores.double().cpu().numpy()
    truth = checks.mask("wrong", wrong)
    if truth.size != scores.size:
        raise InputError(f"wrong: got {truth.size}; give one for each of the {scores.size} training examples")
    return recovered(scores, truth, np.asarray(fractions, dtype=float))
