"""Is checking labels worth it? Fix those found among the first checked, retrain, and look at the test set.

Koh & Liang (2017), section 5.4 and figure 6: a person checks the training examples in some order, and every wrong label
met is put right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from upweight import kinds, plots, retraining
from upweight.errors import InputError
from upweight.inverse import Solver
from upweight.kept import random_states_kept
from upweight.losses import split_batch, with_targets
from upweight.objective import Objective
from upweight.optional import imported
from upweight.plots import checks
from upweight.predictions import predictions
from upweight.progress import track

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FRACTIONS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)

Retrain = Callable[[Objective], Objective]
"""The objective with other labels -> the same with its model trained on them."""


@dataclass(frozen=True, eq=False)
class LabelFixing:
    """What checking finds and gains, for each order of checking.

    Attributes
    ----------
    fractions
        Shares of the training data checked, ``[fractions]``.
    found
        For each order, the share of the wrong labels found by then, ``[fractions]``.
    accuracy
        For each order, accuracy on the test set after retraining with those labels right, ``[fractions]``.
    accuracy_before, accuracy_clean
        Accuracy with all labels as given, and with all right.
    wrong
        Where the given label isn't the true one, ``[train]``.
    """

    fractions: Float[np.ndarray, " fractions"]
    found: dict[str, Float[np.ndarray, " fractions"]]
    accuracy: dict[str, Float[np.ndarray, " fractions"]]
    accuracy_before: float
    accuracy_clean: float
    wrong: Bool[np.ndarray, " train"]

    def to_pandas(self) -> pd.DataFrame:
        """One row per order and fraction."""
        with imported("tables", "LabelFixing.to_pandas"):
            import pandas as pd
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "order": name,
                        "checked": self.fractions,
                        "found": self.found[name],
                        "accuracy": self.accuracy[name],
                    }
                )
                for name in self.found
            ],
            ignore_index=True,
        )

    def figure(self, title: str | None = None) -> Figure:
        """Accuracy after fixing against the share checked, beside that of the given and of the true labels."""
        at = [0.0, *self.fractions]
        curves = {name: [self.accuracy_before, *values] for name, values in self.accuracy.items()}
        return plots.accuracy_after_fixing(
            at, curves, before=self.accuracy_before, clean=self.accuracy_clean, title=title
        )

    def __repr__(self) -> str:
        lines = [
            f"LabelFixing: {self.wrong.sum():,} of {len(self.wrong):,} labels wrong; test accuracy "
            f"{self.accuracy_before:.1%} as given, {self.accuracy_clean:.1%} with all labels right",
            "  checked".ljust(22) + "".join(f"{share:>7.0%}" for share in self.fractions),
        ]
        for name in self.found:
            lines.append(f"  {name[:18]:18s}  " + "".join(f"{value:7.1%}" for value in self.accuracy[name]))
            lines.append(f"  {'  (found)':18s}  " + "".join(f"{value:7.1%}" for value in self.found[name]))
        return "\n".join(lines)


@random_states_kept()
def fix_and_retrain(
    objective: Objective,
    orders: Mapping[str, Any],
    true_labels: Any,
    test: Any,
    *,
    fractions: Sequence[float] = FRACTIONS,
    train: Retrain | None = None,
    solver: Solver | None = None,
    tolerance: float | None = None,
) -> LabelFixing:
    """Check the first examples of each order, put wrong labels right, retrain and measure the accuracy on a test set.

    Parameters
    ----------
    objective
        The model trained on the labels as given.
    orders
        For each name the training positions in the order of checking, ``[≥ most checked]``.
    true_labels
        The right labels, ``[train]``, in the form of the targets.
    test
        Examples in the form of the training data, with their true labels.
    fractions
        Shares of the training data checked, increasing, in (0, 1].
    train
        Trains the objective it is given anew; None: all models are minimised together from the trained θ (convex
        models, see `retraining.replace`).
    solver, tolerance
        For the latter: a fitted inverse of the curvature to precondition with, and ‖∇R‖ to reach.

    Raises
    ------
    InputError
        If no label is wrong, or orders and lengths don't fit.
    TrainingFailedError
        If ``train`` calls ``sys.exit``.
    """
    kinds.check(fix_and_retrain, locals())
    targets = torch.cat([split_batch(batch)[1] for _, batch in objective.batches()])
    truth = kinds.numbers("true_labels", true_labels).to(targets.device)
    if truth.shape != targets.shape:
        raise InputError(f"true_labels: need {tuple(targets.shape)}, as the targets are; got {tuple(truth.shape)}")
    if truth.is_floating_point() and not targets.is_floating_point():
        truth = kinds.whole_numbers("true_labels", truth)
    truth = truth.to(targets.dtype)
    wrong = (truth != targets).reshape(objective.n, -1).any(1).cpu().numpy()
    if not wrong.any():
        raise InputError("true_labels: no training label differs from them, so there is nothing to find")
    shares = checks.vector("fractions", fractions)
    if shares.min() <= 0 or shares.max() > 1 or (np.diff(shares) <= 0).any():
        raise InputError(f"fractions: increasing shares of the training data above 0, up to 1; got {fractions!r}")
    if test is None:
        raise InputError("test: give examples in the form of the training data, to judge the models by")
    if not orders:
        raise InputError("orders: give at least one, positions in the order in which labels are checked, by name")
    counts = np.rint(shares * objective.n).astype(int)
    jobs: list[np.ndarray] = [np.flatnonzero(wrong)]
    for name, positions in orders.items():
        order = checks.order(f"orders[{name!r}]", positions, objective.n)
        if len(order) < counts[-1]:
            raise InputError(f"orders[{name!r}]: {len(order)} positions; checking {shares[-1]:.0%} takes {counts[-1]}")
        jobs += [order[:count][wrong[order[:count]]] for count in counts]
    models = _relabelled(objective, jobs, truth, solver, tolerance) if train is None else None
    before = _accuracy(objective, test)
    accuracies = []
    for number, fixed in enumerate(track(jobs, "models with fixed labels")):
        if not len(fixed):
            accuracies.append(before)
        elif models is not None:
            accuracies.append(_accuracy(objective.at(models[number]), test))
        else:
            assert train is not None
            accuracies.append(_accuracy(_trained(train, _with_labels(objective, fixed, truth)), test))
    rows = np.array(accuracies[1:]).reshape(len(orders), len(shares))
    found = np.array([len(fixed) for fixed in jobs[1:]]).reshape(rows.shape) / wrong.sum()
    return LabelFixing(
        shares,
        dict(zip(orders, found, strict=True)),
        dict(zip(orders, rows, strict=True)),
        before,
        accuracies[0],
        wrong,
    )


def _relabelled(
    objective: Objective, jobs: list[np.ndarray], truth: Tensor, solver: Solver | None, tolerance: float | None
) -> dict[int, Tensor]:
    """θ of the job of each number that changes anything."""
    changed = [number for number, fixed in enumerate(jobs) if len(fixed)]
    groups = [torch.from_numpy(jobs[number]) for number in changed]
    positions = torch.cat(groups)
    examples = with_targets(objective.data.take(positions), truth[positions.to(truth.device)])
    models = retraining.replace(objective, groups, examples, solver=solver, tolerance=tolerance)
    return dict(zip(changed, models.params, strict=True))


def _trained(train: Retrain, objective: Objective) -> Objective:
    """The user's own training; ``sys.exit`` in it ends the training and not the caller's program."""
    try:
        return train(objective)
    except SystemExit as error:
        raise retraining.TrainingFailedError(f"train: it called sys.exit({error.code!r})") from error


def _with_labels(objective: Objective, fixed: np.ndarray, truth: Tensor) -> Objective:
    everything = objective.data.take(range(objective.n))
    targets = split_batch(everything)[1].clone()
    targets[torch.from_numpy(fixed)] = truth[torch.from_numpy(fixed)]
    return objective.replace(data=with_targets(everything, targets))


def _accuracy(objective: Objective, test: Any) -> float:
    return float((~predictions(objective, test).wrong).double().mean())
