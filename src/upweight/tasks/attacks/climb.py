"""One batch of attacks: signed gradient steps within the box, the top retrained to its optimum after each.

x ← Π(x + α sign ∇ₓ I_pert(x, q)) (Koh & Liang 2017, section 5.2), with I_pert at the retrained θ and its own Hessian.
One forward pass of the network per step gives both the features to retrain on and the graph for the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils import _pytree as pytree

from upweight import retraining
from upweight.data import Batch, Data
from upweight.gradients.substituted import substituted
from upweight.losses import as_split
from upweight.predictions import predictions
from upweight.tasks.attacks.box import same_bytes
from upweight.tasks.attacks.settings import Climb
from upweight.tasks.attacks.subject import Subject
from upweight.tasks.attacks.together import retrained_hessians, solve, unit_rows


@dataclass(frozen=True, eq=False)
class Task:
    """One attack: the training images to change, and the queries that are to be predicted wrongly."""

    number: int
    targets: Int[Tensor, " t"]
    levers: Int[Tensor, " count"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """How one attack ended.

    Attributes
    ----------
    probabilities
        p(true label) of the targets before the first step and after every one, ``[steps + 1, t]``.
    flipped
        Targets that the last top predicts wrongly, ``[t]``.
    change
        Of the stored images, in levels, ``[count, …]``.
    """

    number: int
    probabilities: Float[Tensor, "steps t"]
    flipped: Bool[Tensor, " t"]
    change: Float[Tensor, "count ..."]


APPROACH = 1e-6
"""‖∇R‖ of the tops on the way; what is reported of a flip, or of the last step, is trained to full tolerance."""


class AttackError(RuntimeError):
    """A changed image no longer has the bytes of the stored one: a fault of the package, never of the data."""


def climb(subject: Subject, queries: Data, tasks: list[Task], settings: Climb) -> Iterator[Outcome]:
    """Run attacks with equally many levers together; each is yielded when all of its targets err, or at the end."""
    objective = subject.objective
    live = tasks
    stored = torch.stack([subject.images[task.levers] for task in tasks]).to(subject.device)
    changes = torch.zeros(stored.shape, dtype=subject.dtype, device=subject.device)
    params = before = objective.params.expand(len(tasks), -1)
    directions: Tensor | None = None
    paths: dict[int, list[Tensor]] = {task.number: [] for task in tasks}
    for step in range(settings.iterations + 1):
        levels = (stored.to(subject.dtype) + changes).flatten(0, 1).requires_grad_()
        features = subject.features(levels)
        examples = _examples(subject, live, features)
        if step:
            # θ moves steadily from step to step.
            start = 2 * params - before
            before, params = params, _retrained(subject, live, examples, start, APPROACH)
        verdicts = [_verdict(subject, queries, task, theta) for task, theta in zip(live, params, strict=True)]
        if step and any(bool(wrong.all()) or step == settings.iterations for _, wrong in verdicts):
            params = _retrained(subject, live, examples, params, None)
            verdicts = [_verdict(subject, queries, task, theta) for task, theta in zip(live, params, strict=True)]
        for task, (probability, _) in zip(live, verdicts, strict=True):
            paths[task.number].append(probability)
        done = torch.tensor([bool(wrong.all()) or step == settings.iterations for _, wrong in verdicts])
        for row in done.nonzero().flatten().tolist():
            if not same_bytes(stored[row], changes[row]):
                raise AttackError(f"attack {live[row].number}: a byte of a stored image changed")
            path = torch.stack(paths[live[row].number])
            yield Outcome(live[row].number, path, verdicts[row][1], changes[row].float().cpu().clone())
        if done.all():
            return
        right = [~wrong for _, wrong in verdicts]
        directions = _directions(subject, queries, live, params, examples, right, directions)
        slopes = torch.cat(
            [
                subject.perturbation(theta, direction, task.levers, batch)
                for theta, direction, task, batch in zip(params, directions, live, examples, strict=True)
            ]
        )
        gradients = subject.through(levels, features, slopes).reshape(changes.shape)
        keep = ~done
        live = [task for task, kept in zip(live, keep.tolist(), strict=True) if kept]
        stored, changes, before, params, directions = (
            part[keep] for part in (stored, changes, before, params, directions)
        )
        changes = settings.box.project(stored, changes + settings.step * gradients[keep].sign())


def _examples(subject: Subject, tasks: list[Task], features: Float[Tensor, "b ..."]) -> list[Batch]:
    """The changed training examples of each attack."""
    parts = features.split([len(task.levers) for task in tasks])
    return [subject.examples(task.levers, part) for task, part in zip(tasks, parts, strict=True)]


def _joined(batches: list[Batch]) -> Batch:
    """Batches one after the other."""
    leaves, spec = zip(*(pytree.tree_flatten(batch) for batch in batches), strict=True)
    return pytree.tree_unflatten([torch.cat(column) for column in zip(*leaves, strict=True)], spec[0])


def _verdict(
    subject: Subject, queries: Data, task: Task, params: Float[Tensor, " p"]
) -> tuple[Float[Tensor, " t"], Bool[Tensor, " t"]]:
    """p(true label) of an attack's targets at its θ, and which are predicted wrongly."""
    objective = subject.objective
    batch = queries.take(task.targets)
    with torch.no_grad():
        outputs_of = substituted(objective.model, as_split(objective.loss).outputs)
        outputs = outputs_of(objective.layout.unflatten(params), batch)
    said = predictions(objective, batch, outputs=outputs)
    probability = said.probability(said.given)
    assert probability is not None
    return probability.double().cpu(), said.wrong.cpu()


def _retrained(
    subject: Subject, tasks: list[Task], examples: list[Batch], start: Float[Tensor, "k p"], tolerance: float | None
) -> Float[Tensor, "k p"]:
    """θ of each attack's top, trained to ‖∇R‖ ≤ tolerance (default: that of `retraining.replace`)."""
    groups = [task.levers for task in tasks]
    return retraining.replace(
        subject.objective,
        groups,
        _joined(examples),
        start=start,
        solver=subject.preconditioner,
        tolerance=tolerance,
        max_iterations=200,
    ).params


def _directions(
    subject: Subject,
    queries: Data,
    tasks: list[Task],
    params: Float[Tensor, "k p"],
    examples: list[Batch],
    right: list[Bool[Tensor, " t"]],
    start: Float[Tensor, "k p"] | None,
) -> Float[Tensor, "k p"]:
    """H_j⁻¹g of each attack at its θ, with g the sum of ∇L_q/‖∇L_q‖ over the targets that are still right.

    Scaled, since only signs are asked for and a well-fitted query's gradient may be too small for the network's
    float32; and since the mean loss of several targets is that of the least certain ones alone.
    """
    objective = subject.objective
    pulls = []
    for task, theta, kept in zip(tasks, params, right, strict=True):
        aimed = task.targets[kept] if kept.any() else task.targets
        pulls.append(unit_rows(objective.engine.function.each(theta, queries.take(aimed)).materialize()).sum(0))
    unit = unit_rows(torch.stack(pulls))
    hessians = retrained_hessians(objective, params, [task.levers for task in tasks], examples)
    return solve(hessians, unit, subject.preconditioner, start)
