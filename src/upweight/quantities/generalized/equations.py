"""How the equations of generalised influence are posed and solved."""

from __future__ import annotations

from dataclasses import dataclass

from upweight import kinds, scalars
from upweight.curvature import GGN, Hessian
from upweight.errors import InputError
from upweight.inverse.interface import Solver
from upweight.inverse.neumann import Neumann
from upweight.objective import Objective


@dataclass(frozen=True, kw_only=True)
class Equations:
    """Which curvature the equations have, of which examples, and how they are solved.

    Parameters
    ----------
    curvature
        ``Hessian()`` or ``GGN()``, of the risk after the change (default: the GGN where the loss has one).
    damping
        δ, added to its diagonal.
    examples
        How many of the examples after the change the curvature is estimated from (default: all).
    preconditioner
        A fitted inverse over all of θ, symmetric and positive definite, e.g. ``EKFAC().fit(objective)``.
    solver
        ``Neumann()`` for the paper's own series, with GIF only; default LSMR.
    tolerance
        Of the method's own equations, relative (default 1e-10 in float64, 1e-5 in float32).
    max_iterations
        Of the solver, before it gives up.

    Raises
    ------
    InputError
        If one is of another kind or out of its bounds.
    """

    curvature: Hessian | GGN | None = None
    damping: float = 0.0
    examples: int | None = None
    preconditioner: Solver | None = None
    solver: Neumann | None = None
    tolerance: float | None = None
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.number("damping", self.damping, least=0)
        if self.examples is not None:
            scalars.whole("examples", self.examples)
        if self.tolerance is not None:
            scalars.number("tolerance", self.tolerance, above=0, below=1)
        scalars.whole("max_iterations", self.max_iterations)

    def curvature_of(self, objective: Objective) -> Hessian | GGN:
        """The matrix that was chosen, or the GGN where the loss has one.

        Raises
        ------
        InputError
            If the loss has none.
        """
        if self.curvature is None:
            return GGN() if objective.engine.function.split else Hessian()
        self.curvature.of(objective)
        return self.curvature

    def refuse_unfit(self, objective: Objective, method: str) -> None:
        """Refuse what the method, or this objective, doesn't have; without a pass over the model.

        Raises
        ------
        InputError
            For a solver of another method, a curvature that the loss doesn't have, a preconditioner of another θ.
        """
        if self.solver is not None and method != "GIF":
            raise InputError(f"solver: the Neumann series is GIF's; {method} goes by LSMR")
        self.curvature_of(objective)
        size = objective.p if self.preconditioner is None else self.preconditioner.operator.size
        if size != objective.p:
            raise InputError(
                f"preconditioner: give an inverse fitted to this objective, of {objective.p:,} parameters; got one of "
                f"{size:,}"
            )

    def refuse_more_examples(self, left: int) -> None:
        """Refuse more examples than there are after the change."""
        if self.examples is not None:
            scalars.whole("examples", self.examples, 1, left)
