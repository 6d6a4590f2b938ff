"""Columns that say something of the rows and predict nothing: their weights, and which of them belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

from upweight.errors import InputError
from upweight.tabular.choice import near_names

FEWEST_GROUPS = 3


@dataclass(frozen=True)
class Aside:
    """Names of columns: the rows' weights, and the groups that no split may part; ``option`` asks for the latter."""

    weight: str | None = None
    group: str | None = None
    option: str = "--group"

    @property
    def names(self) -> list[str]:
        """Those that there are."""
        return [name for name in (self.weight, self.group) if name is not None]

    def check(self, columns: pd.Index, target: str) -> None:
        """Refuse names that are no columns, or the target.

        Raises
        ------
        InputError
            Naming the option and what was meant.
        """
        known = [str(name) for name in columns if name != target]
        for option, name in (("--weight", self.weight), (self.option, self.group)):
            if name is None:
                continue
            if name == target:
                raise InputError(f"{option}: {name!r} is the target; give another column")
            if name not in known:
                raise InputError(f"{option}: the table has no column {name!r}{near_names(name, known)}")
        if self.weight is not None and self.weight == self.group:
            raise InputError(f"--weight: {self.weight!r} is given to {self.option} too; leave one of them away")


def weights_of(column: pd.Series) -> npt.NDArray[np.float64]:
    """Weights whose mean is 1, ``[rows]``.

    Raises
    ------
    InputError
        If one is missing, negative, infinite or no number, or all are 0; names the row.
    """
    name = column.name
    if not types.is_numeric_dtype(column) or types.is_bool_dtype(column):
        raise InputError(f"--weight: column {name!r} holds {str(column.iloc[0])[:40]!r}; give a column of numbers")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(wrong):
        raise InputError(
            f"--weight: column {name!r} holds {values[wrong[0]]:g} in row {column.index[wrong[0]]}; weights are finite "
            "and 0 or more"
        )
    if not values.any():
        raise InputError(f"--weight: column {name!r} is 0 in every row")
    return values / values.mean()


def groups_of(column: pd.Series, option: str) -> npt.NDArray[np.int64]:
    """A number for each group, ``[rows]``; a row without one is a group of its own.

    Raises
    ------
    InputError
        If there are fewer than three groups.
    """
    codes, names = pd.factorize(column)
    if len(names) < FEWEST_GROUPS:
        raise InputError(
            f"{option}: column {column.name!r} holds {len(names):,} group{'s' * (len(names) != 1)}; {FEWEST_GROUPS} or "
            "more are needed, as whole groups are held out"
        )
    alone = codes < 0
    codes[alone] = len(names) + np.arange(int(alone.sum()))
    return codes.astype(np.int64)
