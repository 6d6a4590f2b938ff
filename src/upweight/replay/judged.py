"""What is known of the worth of replayed derivatives: metasmoothness, and finite differences of the same training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.attribution import Magnitude
from upweight.errors import InputError, warn
from upweight.evaluation.agreement import Agreement
from upweight.replay.smoothness import Metasmoothness, RoughTrainingWarning

FEWEST = 3
"""Queries from which predicted changes are compared with actual ones."""


@dataclass(frozen=True)
class Replayed:
    """Derivatives with their worth.

    Attributes
    ----------
    derivatives
        w_i ∂m/∂w_i, ``[queries, train]``.
    metasmoothness
        Of the first seed's training; None: not measured.
    compared
        What the derivatives predict of the queries at w+hv, beside what that training gave; None: too few queries.
    """

    derivatives: Float[Tensor, "queries train"]
    metasmoothness: Metasmoothness | None = None
    compared: Agreement | None = None

    @property
    def facts(self) -> dict[str, float]:
        """Figures for an attribution."""
        found = {} if self.metasmoothness is None else {"metasmoothness": self.metasmoothness.value}
        if self.compared is not None:
            found |= {"finite difference r": self.compared.pearson, "finite difference slope": self.compared.slope}
        return found

    @property
    def magnitude(self) -> Magnitude:
        """Whether sizes can be believed."""
        if self.metasmoothness is None:
            return Magnitude(False, "metasmoothness not measured (smoothness=False)")
        return Magnitude(self.metasmoothness.smooth, str(self.metasmoothness))


def warn_if_rough(found: Metasmoothness) -> None:
    """Say that a training is rough, with the figure, the kinks and the mend."""
    if not found.smooth:
        warn(
            f"Replay: {found}. The training is not smooth in its examples' weights, so its derivative need not say "
            f"what leaving examples out does; {found.mend}",
            RoughTrainingWarning,
        )


def read_seeds(seeds: Any) -> tuple[int, ...]:
    """Seeds to average over.

    Raises
    ------
    InputError
        If they are no list, none, or one stands twice.
    """
    if isinstance(seeds, str) or not isinstance(seeds, Sequence) or not len(seeds):
        raise InputError(f"seeds: give a list of one or more, such as (0, 1); got {scalars.shown(seeds)}")
    found = tuple(scalars.seed("seeds", seed) for seed in seeds)
    if len(set(found)) < len(found):
        raise InputError(f"seeds: one stands twice, and would count twice; got {list(found)}")
    return found
