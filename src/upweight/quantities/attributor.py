"""What a judge of predictions needs to know of what made them; `upweight.Influence` is one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float
from torch import Tensor

from upweight.attribution import Attribution
from upweight.engine.stationarity import Stationarity
from upweight.inverse import Inverse, Solution, Solver
from upweight.objective import Objective
from upweight.quantities.scoring import AskedOptions


class Attributor(ABC):
    """An objective with an inverse of its curvature, and the scores that follow from them.

    Rooms below `upweight.Influence` are written for this, so that they need not import it.
    """

    objective: Objective

    @property
    @abstractmethod
    def inverse(self) -> Inverse | Solver:
        """The inverse that was given or chosen."""

    @property
    @abstractmethod
    def solver(self) -> Solver:
        """The inverse fitted to the objective's curvature."""

    @property
    @abstractmethod
    def stationarity(self) -> Stationarity:
        """How near θ is to an optimum."""

    @abstractmethod
    def with_inverse(self, inverse: Inverse | Solver) -> Attributor:
        """The same objective with another inverse."""

    @abstractmethod
    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """(H+δI)⁻¹ of k vectors as rows."""

    @abstractmethod
    def query_solution(
        self, queries: Any, measurement: Any = None, query_ids: Sequence[Any] | None = None
    ) -> tuple[Solution, np.ndarray]:
        """(H+δI)⁻¹∇L_q of each query ``[queries, p]``, and the queries' names."""

    @abstractmethod
    def attribute(self, queries: Any, **asked: Unpack[AskedOptions]) -> Attribution:
        """Scores ``[queries, train]``."""
