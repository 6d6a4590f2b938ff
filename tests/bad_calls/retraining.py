"""Retraining: fits, subsets, recipes."""

from __future__ import annotations

from torch import nn

import upweight as uw
from bad_calls.case import Form, Row, network, objective, queries, train

TABLE: list[Row] = [
    ("fit", "tolerance", "number", lambda v: uw.retraining.fit(objective(), tolerance=v)),
    ("fit", "max_iterations", "whole", lambda v: uw.retraining.fit(objective(), max_iterations=v)),
    ("leave_out", "tolerance", "number", lambda v: uw.retraining.leave_out(objective(), [[0]], tolerance=v)),
    ("leave_out", "max_iterations", "whole", lambda v: uw.retraining.leave_out(objective(), [[0]], max_iterations=v)),
    ("leave_out", "renormalize", "flag", lambda v: uw.retraining.leave_out(objective(), [[0]], renormalize=v)),
    ("pbrf", "epsilon", "any number", lambda v: uw.retraining.pbrf(objective(), [0], damping=0.1, epsilon=v)),
    ("pbrf", "tolerance", "number", lambda v: uw.retraining.pbrf(objective(), [0], damping=0.1, tolerance=v)),
    ("pbrf", "damping", "number", lambda v: uw.retraining.pbrf(objective(), [0], damping=v)),
    ("random_halves", "n", "whole", lambda v: uw.retraining.random_halves(v, 2, 0)),
    ("random_halves", "count", "whole", lambda v: uw.retraining.random_halves(10, v, 0)),
    ("random_halves", "seed", "seed", lambda v: uw.retraining.random_halves(10, 2, v)),
    ("random_halves", "fraction", "number", lambda v: uw.retraining.random_halves(10, 2, 0, fraction=v)),
    ("trust_region", "tolerance", "number", lambda v: uw.retraining.trust_region(network(), tolerance=v)),
    ("trust_region", "radius", "number", lambda v: uw.retraining.trust_region(network(), radius=v)),
    ("trust_region", "max_iterations", "whole", lambda v: uw.retraining.trust_region(network(), max_iterations=v)),
    ("lowest_curvature", "seed", "seed", lambda v: uw.retraining.lowest_curvature(network(), seed=v)),
    (
        "lowest_curvature",
        "max_iterations",
        "whole",
        lambda v: uw.retraining.lowest_curvature(network(), max_iterations=v),
    ),
    ("Recipe", "epochs", "whole", lambda v: uw.retraining.Recipe(v, 2, 0.1)),
    ("Recipe", "batch_size", "whole", lambda v: uw.retraining.Recipe(1, v, 0.1)),
    ("Recipe", "lr", "number", lambda v: uw.retraining.Recipe(1, 2, v)),
    ("Recipe", "momentum", "number", lambda v: uw.retraining.Recipe(1, 2, 0.1, momentum=v)),
    ("Recipe", "optimizer", "choice", lambda v: uw.retraining.Recipe(1, 2, 0.1, optimizer=v)),
    ("Recipe", "cycle_momentum", "flag", lambda v: uw.retraining.Recipe(1, 2, 0.1, cycle_momentum=v)),
    (
        "train_many",
        "workers",
        "whole",
        lambda v: uw.retraining.train_many(train, [([0], 0)], model=nn.Linear(3, 3), workers=v),
    ),
    (
        "train_many",
        "jobs",
        "seed",
        lambda v: uw.retraining.train_many(train, [([0], v)], model=nn.Linear(3, 3)),
    ),
    (
        "train_together",
        "seeds",
        "seed",
        lambda v: uw.retraining.train_together(
            lambda: nn.Linear(3, 3), uw.losses.CrossEntropy(), queries(), [[0]], [v], uw.retraining.Recipe(1, 1, 0.1)
        ),
    ),
]

FORMS: dict[str, Form] = {
    "targets that are no classes": (
        lambda: uw.retraining.relabel(objective(), [1], [7]),
        "CrossEntropy: targets range from 7 to 7",
    ),
}
