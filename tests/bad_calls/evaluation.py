"""Agreement with retraining, brittleness, calibration."""

from __future__ import annotations

from typing import Any

import upweight as uw
from bad_calls.case import Row, influence, objective, queries, train


def halves() -> Any:
    return uw.retraining.random_halves(objective().n, 4, 0)


TABLE: list[Row] = [
    ("LDS", "resamples", "whole", lambda v: uw.evaluation.LDS(halves(), resamples=v)),
    ("LDS", "level", "number", lambda v: uw.evaluation.LDS(halves(), level=v)),
    ("LDS", "seed", "seed", lambda v: uw.evaluation.LDS(halves(), seed=v)),
    ("LDS", "higher_is_better", "flag", lambda v: uw.evaluation.LDS(halves(), higher_is_better=v)),
    ("LeaveOneOut", "top", "whole", lambda v: uw.evaluation.LeaveOneOut(top=v)),
    ("LeaveOneOut", "seed", "seed", lambda v: uw.evaluation.LeaveOneOut(seed=v)),
    ("MislabelDetection", "level", "number", lambda v: uw.evaluation.MislabelDetection(level=v)),
    ("brittleness", "k", "whole", lambda v: uw.evaluation.brittleness(influence(), queries(), v, train)),
    ("brittleness", "seed", "seed", lambda v: uw.evaluation.brittleness(influence(), queries(), 2, train, seed=v)),
    (
        "brittleness",
        "controls",
        "whole",
        lambda v: uw.evaluation.brittleness(influence(), queries(), 2, train, controls=v),
    ),
    ("calibrate", "subsets", "whole", lambda v: influence().calibrate(queries(), train, subsets=v)),
    ("calibrate", "fraction", "number", lambda v: influence().calibrate(queries(), train, fraction=v)),
    ("calibrate", "seed", "seed", lambda v: influence().calibrate(queries(), train, seed=v)),
    ("calibrate", "seeds", "whole", lambda v: influence().calibrate(queries(), train, seeds=v)),
]
