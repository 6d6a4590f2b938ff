"""Further Newton steps on the objective without one example, where the first doesn't reach its minimum.

The first step (`upweight.quantities.leverage`) takes the others' curvature as it is at θ. An example that moves outputs
far, be it by its leverage or by a loss that is large where the curvature is small, changes that curvature on the way:
of a logistic model by a factor of up to e^|move|. A step more costs nd² multiplications an example, d features, and
few examples need one. Risks stay convex in θ where outputs are linear in it and the loss is convex in them, so that
steps that are halved until the risk falls lead to the refit.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch

from upweight import scalars
from upweight.errors import InputError, NotConvergedWarning, warn
from upweight.gradients.workspace import rows_at_once
from upweight.objective import Objective
from upweight.quantities.leverage import LeftOut
from upweight.quantities.walk import Walk

SMALLEST_MOVE = 0.03
"""Change of an example's own outputs by its first step below which another would change little."""
DOUBTFUL_MOVE = 0.1
"""The same from which one step alone is told of: about half of this share of a score is missing then."""
USUAL = 3
"""Steps that most examples take."""
SETTLED = 1e-3
"""Size of a step beside the whole way, in the norm of the curvature, from which on it would change nothing."""
AFFORDABLE = 3e9
"""Multiplications for the further steps of all examples: half a minute, as each passes over all data."""
NAMED = 5


def check(objective: Objective, steps: int, leverage_corrected: bool) -> None:
    """Refuse numbers of steps that are none, and further steps where there is no first or no linear layer."""
    scalars.whole("newton_steps", steps)
    if steps > 1 and not leverage_corrected:
        raise InputError(f"newton_steps: got {steps}; they go with leverage_corrected=True, else leave newton_steps=1")
    if steps > 1 and objective.engine.function.linear is None:
        raise InputError(
            f"newton_steps: got {steps}; more than one takes a model whose one trained layer is a Linear at its end, "
            "and a loss of its outputs; leave newton_steps=1"
        )


class Further:
    """Up to ``limit`` steps more of each example that needs them; `warn` names those of which they weren't enough."""

    def __init__(self, objective: Objective, limit: int, damping: float):
        self.objective, self.limit, self.damping = objective, limit, damping
        self.spent = 0.0
        self.unsettled: list[tuple[float, int]] = []
        self.left_alone: list[tuple[float, int]] = []

    @cached_property
    def wide(self) -> Objective:
        """The objective in float64."""
        return self.objective if self.objective.dtype == torch.float64 else self.objective.to(torch.float64)

    def __call__(self, block: LeftOut) -> LeftOut:
        """The same examples, with steps that lead on."""
        if not self.limit:
            return block
        objective, function = self.wide, self.wide.engine.function.linear
        assert function is not None
        size = block.moved.abs().amax(1)
        order = size.argsort(descending=True, stable=True)
        rows = order[(size[order] > SMALLEST_MOVE) & torch.isfinite(size[order])]
        work = min(self.limit, USUAL) * objective.n * (objective.p**2 / 2 + objective.p)
        count = min(len(rows), max(int((AFFORDABLE - self.spent) // work), 0))
        self.spent += count * work
        left_alone = [(float(size[row]), int(block.index[row])) for row in rows[count:].tolist()]
        self.left_alone += [(move, at) for move, at in left_alone if move >= DOUBTFUL_MOVE]
        steps = block.steps.clone()
        together = rows_at_once(objective.n * function.outputs_count, objective.device)
        for chosen in rows[:count].split(together) if count else ():
            walk = Walk(objective, function, block.index[chosen.cpu()], self.damping)
            found, left = walk.down(steps[chosen].to(torch.float64), self.limit, SETTLED)
            steps[chosen] = found.to(steps)
            self.unsettled += [
                (share, int(block.index[row]))
                for row, share in zip(chosen.tolist(), left.tolist(), strict=True)
                if share > SETTLED
            ]
        return replace(block, steps=steps)

    def warn(self) -> None:
        """Name the examples of which the steps were not enough, with their figures."""
        if self.unsettled:
            warn(
                f"leverage: after {self.limit + 1} Newton steps without an example, θ has these shares of its way "
                f"still to go: {self._named(self.unsettled, '.0%')}. Those scores may be off; retrain without them",
                NotConvergedWarning,
            )
        if self.left_alone:
            warn(
                f"leverage: {len(self.left_alone)} scores are one Newton step, as more would take over "
                f"{AFFORDABLE:.0e} multiplications. Their own outputs move by up to "
                f"{self._named(self.left_alone, '.2g')}; from {DOUBTFUL_MOVE} on a score may be off by a tenth",
                NotConvergedWarning,
            )

    def _named(self, found: list[tuple[float, int]], form: str) -> str:
        listed = sorted(found, reverse=True)[:NAMED]
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        return ", ".join(f"{value:{form}} (example {self.objective.ids[at]})" for value, at in listed) + more
