"""TRAK and TracIn."""

from __future__ import annotations

import upweight as uw
from bad_calls.case import Row, objective, queries

TABLE: list[Row] = [
    ("TRAK", "dimension", "whole", lambda v: uw.TRAK(objective(), dimension=v).attribute(queries())),
    ("TRAK", "seed", "seed", lambda v: uw.TRAK(objective(), seed=v).attribute(queries())),
    ("TRAK", "projection", "choice", lambda v: uw.TRAK(objective(), projection=v).attribute(queries())),
    ("TRAK", "keep", "whole", lambda v: uw.TRAK(objective(), dimension=8).attribute(queries(), keep=v)),
    ("TracIn", "learning_rates", "number", lambda v: uw.TracIn(objective(), [objective().model], v)),
    (
        "TracIn",
        "normalize",
        "flag",
        lambda v: uw.TracIn(objective(), [objective().model], 0.1).attribute(queries(), normalize=v),
    ),
]
