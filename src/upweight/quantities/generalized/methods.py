"""Generalised influence: how a chosen part θ_J answers to a change of the data (Lyu et al. 2023).

With H = H′ + δI of the changed risk, g = −∇R′ (`changes`), H_J its columns of J and H_JJ the block:

- *GIF* argmin ‖H_J Δ − g‖: all gradient coordinates count, those of frozen entries are nullified as well as J can;
- *FIF* H_JJ⁻¹ g_J: the others are frozen; the derivative of retraining J alone;
- *PIF* (H⁻¹g)_J: all answer, then only J is kept;
- *IF* H⁻¹g: J is everything;
- *SIF* I + H₀⁻¹(H₀ − H)I with I = H₀⁻¹g and H₀ before the change: second order in the change (Basu et al. 2020), of
  all entries, then cut to J.

GIF is solved by LSMR on H_J as an operator, at the rate of its condition κ; the form that the paper gives for it, a
Neumann series on H_JᵀH_J/ν², goes at the rate κ² and is here for comparison (`Neumann`). The others have symmetric
matrices: conjugate gradients, at the rate √κ, where those are positive by construction, else LSMR.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast, get_args

from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.arrays import dense
from upweight.errors import InputError, NegativeCurvatureWarning, NotConvergedWarning, warn
from upweight.inverse.interface import default_tolerance
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.quantities.generalized.changes import changed, curvature_after
from upweight.quantities.generalized.equations import Equations
from upweight.quantities.generalized.response import Method, Response
from upweight.quantities.generalized.system import System
from upweight.select import Rule, Subset, by_name, everything, masked


@random_states_kept()
def generalized(
    objective: Objective,
    change: Any,
    parameters: Any = None,
    *,
    method: str = "GIF",
    equations: Equations = Equations(),
    renormalize: bool = False,
    further: Float[Tensor, " p"] | None = None,
    seed: int = 0,
) -> Response:
    """The answer of chosen parameters to a change of the training data.

    Parameters
    ----------
    change
        `Removal`, `Relabelling` or `Substitution` of training examples.
    parameters
        J: a `select.Subset`, a rule such as ``select.highest_output(0.05)`` (which then looks at the examples that
        change), names or patterns, or a mask; default everything.
    method
        ``GIF``, ``FIF``, ``PIF``, ``IF`` or ``SIF``.
    equations
        Curvature, damping and how to solve; what isn't to be had of this objective is refused before any pass over it.
    renormalize
        For a removal: the mean is taken over the examples left (default: weights stay 1/n).
    further
        A vector added to g: where θ has left the optimum θ̂ of R, −(∇R(θ) − ∇R(θ̂)) makes it −∇R′ again.
    seed
        Of the examples that the curvature is estimated from.

    Raises
    ------
    InputError
        For an empty or impossible change or selection, an unknown method, equations that don't fit the objective.

    Warns
    -----
    NotConvergedWarning
        If the tolerance was not reached.
    NegativeCurvatureWarning
        If H_JJ has directions of negative curvature: then the step may lead uphill there.

    Source: Lyu et al. 2023, sections 3 and 4; for SIF, Basu et al. 2020.
    """
    kinds.check(generalized, locals())
    scalars.seed("seed", seed)
    chosen = asked(objective, parameters, method, equations)
    posed = changed(objective, change, renormalize=renormalize, further=further)
    equations.refuse_more_examples(posed.count)
    _ = posed.gradient  # the loss says what it thinks of new targets before units are ranked
    subset = chosen.of(objective, posed.positions) if isinstance(chosen, Rule) else chosen
    _refuse_a_part(method, subset)
    operator = curvature_after(
        posed, equations.curvature_of(objective), float(equations.damping), equations.examples, seed
    )
    start = time.perf_counter()
    system = System(
        operator, posed, subset, equations.preconditioner, equations.tolerance or default_tolerance(objective.dtype)
    )
    found = replace(
        system.response(cast("Method", method), equations.solver, equations.max_iterations),
        seconds=time.perf_counter() - start,
    )
    _say(found)
    return found


def asked(objective: Objective, parameters: Any, method: str, equations: Equations) -> Subset | Rule:
    """The subset that the argument means, or the rule for one, with method and equations that fit it and the objective.

    Raises
    ------
    InputError
        If one of them doesn't; before any pass over the model.
    """
    scalars.one_of("method", method, get_args(Method))
    equations.refuse_unfit(objective, method)
    chosen = _read(objective, parameters)
    if isinstance(chosen, Subset):
        _refuse_a_part(method, chosen)
    return chosen


def _read(objective: Objective, parameters: Any) -> Subset | Rule:
    if parameters is None:
        return everything(objective.layout)
    if isinstance(parameters, Rule):
        return parameters
    if isinstance(parameters, Subset):
        if parameters.layout != objective.layout:
            raise InputError("parameters: the subset is of another θ than this objective's")
        return parameters
    if isinstance(parameters, Tensor):
        dense(parameters, "parameters")
    if isinstance(parameters, Tensor | dict):
        return masked(objective.layout, parameters)
    if not isinstance(parameters, str | list | tuple):
        raise InputError(
            "parameters: give names or patterns, a mask over θ, or a rule or subset of upweight.select; got "
            f"{scalars.shown(parameters)}"
        )
    return by_name(objective, parameters)


def _refuse_a_part(method: str, subset: Subset) -> None:
    if method == "IF" and subset.size < subset.layout.p:
        raise InputError(
            f"method: IF answers with all {subset.layout.p:,} entries of θ, of which {subset.size:,} are chosen; PIF "
            "is IF cut to those, or give no parameters"
        )


def _say(found: Response) -> None:
    if not found.converged:
        warn(
            f"{found.method}: relative residual {found.solved:.1e} after {found.iterations} iterations, "
            f"{found.tolerance:.0e} was asked for; raise max_iterations or damping, or give a preconditioner",
            NotConvergedWarning,
        )
    if found.smallest_curvature < 0:
        warn(
            f"{found.method}: the curvature of the chosen entries is negative in some direction, "
            f"{found.smallest_curvature:.2g} or less at δ = {found.damping:g}; least squares were solved with it as it "
            f"is, and the step may lead uphill there. Take damping > {-found.smallest_curvature:.2g}, or the GGN",
            NegativeCurvatureWarning,
        )
