"""What is to be unlearnt or labelled otherwise, with some examples held out, or a sample standing for all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from upweight import scalars
from upweight.errors import InputError
from upweight.objective import Objective
from upweight.quantities.generalized.changes import Relabelling, Removal
from upweight.tasks.unlearning.judgement import Judgement


@dataclass(frozen=True, eq=False)
class Problem:
    """An objective and which of its examples change.

    Attributes
    ----------
    positions
        Those that change, ``[u]``.
    targets
        Their new labels, ``[u]``; None: they are removed.
    among
        The examples that may be computed from, in increasing order (default: all).
    """

    objective: Objective
    positions: Int[Tensor, " u"]
    targets: Tensor | None
    among: Int[Tensor, " among"] | None = None

    @property
    def change(self) -> Removal | Relabelling:
        """The same for `quantities.generalized`."""
        return Removal(self.positions) if self.targets is None else Relabelling(self.positions, self.targets)

    @property
    def changes(self) -> Bool[Tensor, " train"]:
        """Whether each example changes."""
        changes = torch.zeros(self.objective.n, dtype=torch.bool)
        changes[self.positions] = True
        return changes

    def only(self, kept: Int[Tensor, " kept"], weights: Tensor) -> Problem:
        """The problem of some of the examples, in increasing order, with these weights."""
        whole = self.objective
        place = torch.full((whole.n,), -1)
        place[kept] = torch.arange(len(kept))
        inside = place[self.positions] >= 0
        return Problem(
            whole.replace(data=whole.data.take(kept), weights=weights, ids=whole.ids[kept.numpy()]),
            place[self.positions[inside]],
            None if self.targets is None else self.targets[inside],
        )


def posed(objective: Objective, positions: Int[Tensor, " u"], targets: Tensor | None) -> Problem:
    """The problem.

    Raises
    ------
    InputError
        If targets aren't one for each position.
    """
    if targets is not None and len(targets) != len(positions):
        raise InputError(f"targets: need one for each of the {len(positions)} indices; got {len(targets)}")
    return Problem(objective, positions, targets)


def left(problem: Problem, sample: int | None) -> int:
    """How many examples there are after the change in what `sampled` gives, which runs the model on a few."""
    changes = problem.changes if problem.among is None else problem.changes[problem.among]
    gone, others = int(changes.sum()), int((~changes).sum())
    if sample is not None:
        gone, others = min(gone, sample), min(others, sample)
    return others if problem.targets is None else others + gone


def sampled(problem: Problem, sample: int | None, seed: int) -> Problem:
    """The problem of the examples that may be computed from, or of so many that change and so many others, at random.

    Weights make the sums of a sample those of all.
    """
    objective, usable = problem.objective, problem.among
    if sample is None:
        return problem if usable is None else problem.only(usable, objective.weights[usable])
    usable = torch.arange(objective.n) if usable is None else usable
    changes = problem.changes[usable]
    chosen, scales = [], []
    generator = scalars.generator(seed)
    for members in (usable[changes], usable[~changes]):
        kept = members[torch.randperm(len(members), generator=generator)[:sample]]
        chosen.append(kept)
        scales.append(torch.full((len(kept),), len(members) / max(len(kept), 1)))
    where, order = torch.cat(chosen).sort()
    share = len(where) / len(usable)
    weights = objective.weights[where] * (torch.cat(scales)[order] * share).to(objective.weights)
    return problem.only(where, weights)


def held_out(problem: Problem, holdout: float, sample: int | None, seed: int) -> tuple[Problem, Judgement]:
    """The problem computed from all but a share of the examples, and the judge made of those.

    Raises
    ------
    InputError
        If the share leaves nothing on one side.
    """
    objective, changes = problem.objective, problem.changes
    generator = scalars.generator(seed)
    held = torch.zeros(objective.n, dtype=torch.bool)
    seen = []
    for group in (changes, ~changes):
        members = group.nonzero().flatten()
        count = int(holdout * len(members))
        if not 0 < count < len(members):
            raise InputError(
                f"holdout: {holdout:g} of {len(members)} examples leaves none on one side; take another share, or "
                "Rounds(search=False)"
            )
        apart = members[torch.randperm(len(members), generator=generator)[:count]]
        held[apart] = True
        seen.append(apart[:sample].sort().values)
    kept = (~held).nonzero().flatten()
    changed = seen[0]
    replaced = None
    if problem.targets is not None:
        targets = problem.targets.new_zeros(objective.n)
        targets[problem.positions] = problem.targets
        replaced = Relabelling(changed, targets[changed]).examples(objective)
    judge = Judgement(objective, seen[1], changed, replaced)
    return replace(problem, among=kept), judge
