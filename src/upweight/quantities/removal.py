"""Removal of examples: the choices that go together, and what a step of θ does to a measurement."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.data import Data
from upweight.errors import InputError
from upweight.measurements import Measurement
from upweight.objective import Objective
from upweight.quantities.moved import Moved, linear_outputs
from upweight.quantities.queries import check_query_targets, query_gradients


def refuse_corrections(objective: Objective, renormalize: bool, leverage_corrected: bool = False) -> None:
    """Refuse corrections of a removal that don't go together.

    Raises
    ------
    InputError
        If one is no flag, both are asked for, or a mean over no example would be left.
    """
    scalars.flag("renormalize", renormalize)
    scalars.flag("leverage_corrected", leverage_corrected)
    if renormalize and leverage_corrected:
        raise InputError("leverage_corrected: holds where weights stay 1/n; leave renormalize=False")
    if renormalize and objective.n == 1:
        raise InputError("renormalize: without the only training example (n=1) there is no mean; give more data")


def score_of_steps(
    objective: Objective, data: Data, kind: Measurement, is_newton: bool = True
) -> tuple[Callable[[Tensor], Float[Tensor, "queries k"]], bool]:
    """What steps of θ do to the measurement of each query, and whether it is evaluated there or linearised."""
    if is_newton and linear_outputs(objective):
        check_query_targets(objective, data, kind)
        return Moved(objective, data, kind).changes, True
    gradients = query_gradients(objective, data, kind)
    return lambda steps: gradients @ steps.T, False
