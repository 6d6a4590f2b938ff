"""Columns as numbers: what each column is taken for, and scikit-learn's transformer for the lot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pandas.api import types
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from upweight.messages import InputError

MOST_LEVELS = 40
"""Levels of a categorical column with a column of their own; the rarer ones share one."""
FEWEST_PER_LEVEL = 5
FEW_LEVELS = 20
"""Up to so many levels, a column is categorical however few its rows."""
ABSENT = "(missing)"
INDICATOR = "missingindicator_"  # scikit-learn's prefix


@dataclass(frozen=True)
class Columns:
    """What each column is taken for; ``dropped`` gives the reason."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """The dropped columns in words."""
        return tuple(f"column {name!r} was left out: {reason}" for name, reason in self.dropped.items())


def sorted_columns(features: pd.DataFrame) -> Columns:
    """Sort the columns into numeric, categorical and dropped (constant, free text, identifiers, row counters).

    Raises
    ------
    InputError
        If none is left.
    """
    reasons = {name: _uninformative(features[name]) for name in features.columns}
    kept = [name for name, reason in reasons.items() if not reason]
    if not kept:
        told = "; ".join(f"{name!r}: {reason}" for name, reason in reasons.items()) or "there is none but the target"
        raise InputError(f"no column is left to predict from ({told})")
    numeric = tuple(name for name in kept if _is_number(features[name]))
    return Columns(
        numeric,
        tuple(name for name in kept if name not in numeric),
        {name: reason for name, reason in reasons.items() if reason},
    )


def _is_number(column: pd.Series) -> bool:
    return types.is_numeric_dtype(column) and not types.is_bool_dtype(column)


def _uninformative(column: pd.Series) -> str:
    """Why a column says nothing about the class; "" where it may."""
    present = column.dropna()
    distinct = present.nunique()
    if present.empty:
        return "it has no values"
    if distinct == 1 and len(present) == len(column):
        return f"it holds one value only ({present.iloc[0]!r})"
    if _is_number(column):
        whole = types.is_integer_dtype(column)
        if whole and distinct == len(column) and present.max() - present.min() == len(column) - 1:
            return "it counts the rows"
        return ""
    if distinct == len(present) or (distinct > FEW_LEVELS and 2 * distinct > len(present)):
        return f"text or an identifier ({distinct:,} distinct values in {len(present):,} rows)"
    return ""


def encoder(columns: Columns) -> ColumnTransformer:
    """Numbers standardised, with missing ones at the median and a column saying so; categories one-hot.

    Rare levels share one column; levels never seen count as rare. Give it what `prepared` returns.
    """
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    levels = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=FEWEST_PER_LEVEL,
        max_categories=MOST_LEVELS,
        sparse_output=False,
        feature_name_combiner=lambda name, level: f"{name}={level}",
    )
    parts = [("numeric", numbers, list(columns.numeric)), ("categorical", levels, list(columns.categorical))]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0, verbose_feature_names_out=False)


def prepared(features: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The kept columns, infinite numbers as missing and categories as text with missing as a level of its own."""
    frame = features[[*columns.numeric, *columns.categorical]].copy()
    for name in columns.numeric:
        frame[name] = frame[name].astype(float).replace([np.inf, -np.inf], np.nan)
    for name in columns.categorical:
        frame[name] = [ABSENT if missing else str(value) for value, missing in _pairs(frame[name])]
    return frame


def _pairs(column: pd.Series) -> list[tuple[object, bool]]:
    return list(zip(column, column.isna(), strict=True))


def source_columns(names: list[str], columns: Columns) -> list[str]:
    """The table's column behind each of an encoder's outputs."""
    numeric = {prefix + name: name for name in columns.numeric for prefix in ("", INDICATOR)}
    # The longest match: a column "a" and a column "a=b" may both exist.
    by_length = sorted(columns.categorical, key=len, reverse=True)
    return [
        numeric.get(name) or next(source for source in by_length if name.startswith(f"{source}=")) for name in names
    ]
